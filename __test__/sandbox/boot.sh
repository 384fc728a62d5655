#!/usr/bin/env bash
# Boots a machine that is no machine: Debian's own cloud-init over a throw-away copy of this one's files.
#
#   boot.sh SCENE LAYER
#
# Runs in namespaces of its own (`unshare -m -u -i -p -f`), so that neither a file, a process nor the name of this machine is
# touched. LAYER is where the packages of cloud-init are unpacked; SCENE has what the machine is given (see `inside.sh`), and
# gets what is seen of it.
set -euo pipefail
scene=$1 layer=$2
top=$(mktemp -d)
mount -t tmpfs -o mode=0755 tmpfs "$top"
mkdir "$top"/{upper,work,root}
# A copy, since layers must not lie within each other.
cp -a "$layer" "$top/layer"
mount -t overlay overlay -o "lowerdir=$top/layer:/,upperdir=$top/upper,workdir=$top/work" "$top/root"
root=$top/root
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mkdir "$root/tmp/scene"
mount --bind "$scene" "$root/tmp/scene"
chroot "$root" /bin/bash /tmp/scene/inside.sh

# Everything that was written anywhere, searched for what must not be left. Not what the scene itself is given.
umount --lazy "$root/tmp/scene"
leaked() {
    while IFS= read -r secret; do
        grep -rlaF --exclude-dir=proc --exclude-dir=dev -e "$secret" "$top/upper" "$root/run" "$root/tmp" /dev/shm 2>/dev/null || true
    done <"$scene/secrets" | sort -u
}
leaked | while IFS= read -r file; do
    printf '%s %s\n' "$(stat -c '%a %U' "$file")" "$(sed -e "s|^$top/upper||" -e "s|^$root||" <<<"$file")"
done >"$scene/out/secrets-on-disk"
