#!/usr/bin/env bash
# The boot itself, seen from the machine. In /tmp/scene: user-data, datasource (nocloud or hetzner), instance (an id), boots (how
# many times), rules.json, without and secrets; in its `out`: what is seen.
set -euo pipefail
scene=/tmp/scene
cd /
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
read -r datasource <"$scene/datasource"
read -r instance <"$scene/instance"

# As on a fresh machine, whatever this one has.
rm -rf /var/lib/cloud /root/provision-vm /var/lib/tailscale /etc/apt/sources.list.d/tailscale.list
rm -f /usr/share/keyrings/tailscale-archive-keyring.gpg /var/log/cloud-init*.log
chmod 0700 /root
if [ -f "$scene/os-release" ]; then cp --remove-destination "$scene/os-release" /etc/os-release; fi
if [ -d "$scene/root" ]; then cp -a "$scene/root/." /; fi
while IFS= read -r file; do rm -f "$file"; done <"$scene/without"

# Stand-ins come first in PATH; each is the one recorder under another name.
mkdir -p /usr/local/sbin
while IFS= read -r name; do
    rm -f "/usr/local/sbin/$name"
    cp "$scene/stand-in.py" "/usr/local/sbin/$name"
done <"$scene/stand-ins"

cat >/etc/cloud/cloud.cfg.d/99-scene.cfg <<END
# What a machine of this kind has no use for, and would be reported as its error.
network: {config: disabled}
locale: C.UTF-8
ssh_genkeytypes: [ed25519]
ssh_deletekeys: false
resize_rootfs: false
growpart: {mode: 'off'}
END
case $datasource in
nocloud)
    echo 'datasource_list: [NoCloud]' >>/etc/cloud/cloud.cfg.d/99-scene.cfg
    mkdir -p /var/lib/cloud/seed/nocloud
    printf 'instance-id: "%s"\nlocal-hostname: of-the-image\n' "$instance" >/var/lib/cloud/seed/nocloud/meta-data
    cp "$scene/user-data" /var/lib/cloud/seed/nocloud/user-data
    ;;
hetzner)
    echo 'datasource_list: [Hetzner]' >>/etc/cloud/cloud.cfg.d/99-scene.cfg
    mount -t tmpfs tmpfs /sys
    mkdir -p /sys/class/dmi/id /sys/class/net/lo
    echo Hetzner >/sys/class/dmi/id/sys_vendor
    echo "$instance" >/sys/class/dmi/id/product_serial
    ;;
esac

# Whether a secret is ever in a command line, looked for all the time.
python3 -I "$scene/watch.py" "$scene/secrets" "$scene/out/secrets-in-argv" &
watcher=$!

read -r boots <"$scene/boots"
for ((boot = 1; boot <= boots; boot++)); do
    echo "$boot" >"$scene/boot"
    if [ "$boot" -gt 1 ]; then
        # What lives in memory is gone, and so is who was logged in.
        rm -rf /run/cloud-init /run/provision-vm
    fi
    for stage in 'init --local' 'init' 'modules --mode=config' 'modules --mode=final'; do
        # shellcheck disable=SC2086 # Words, not one.
        cloud-init $stage >>"$scene/out/cloud-init" 2>&1 || echo "exit $?: $stage" >>"$scene/out/stages"
    done
    cp /var/lib/cloud/data/result.json "$scene/out/result-$boot.json"
done
kill "$watcher" 2>/dev/null || true
wait "$watcher" 2>/dev/null || true
if [ -f "$scene/after.sh" ]; then bash "$scene/after.sh" >"$scene/out/after" 2>&1 || echo "exit $?" >>"$scene/out/after"; fi

# What is there afterwards.
while IFS= read -r file; do
    if [ -e "$file" ]; then
        printf '%s %s %s\n' "$(stat -c '%a %U:%G' "$file")" "$file" "$([ -d "$file" ] || base64 -w0 <"$file")"
    fi
done <"$scene/look-at" >"$scene/out/files"
hostname >"$scene/out/hostname"
for log in /var/log/cloud-init.log /var/log/cloud-init-output.log; do [ ! -f $log ] || cat $log; done >"$scene/out/logs"
chmod -R a+rX "$scene/out"
