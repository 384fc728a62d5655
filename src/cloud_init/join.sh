#!/bin/sh
# Joins this machine to the tailnet, once, at its first boot. Usage: join.sh HOSTNAME repository|static|enroll [...]
#
# cloud-init delivers this script and, beside it, the auth key, both readable by root alone. It reports success
# whatever happens here, so the script cleans up after itself and keeps its own status, which holds no secret.
set -eu
umask 077

hostname=$1
mode=$2
key_file=/root/provision-vm/auth-key
status_file=/root/provision-vm/status
keyring=/usr/share/keyrings/tailscale-archive-keyring.gpg
source_list=/etc/apt/sources.list.d/tailscale.list

# The key serves once; whatever becomes of the join, its file goes.
trap 'rm -f "$key_file"' EXIT

say() {
    echo "$1" >>"$status_file"
    echo "provision-vm: $1"
}

give_up() {
    say "failed: $1"
    exit 1
}

# try TIMES COMMAND...: with growing pauses.
try() {
    times=$1
    shift
    tried=1
    until "$@"; do
        [ "$tried" -lt "$times" ] || return 1
        sleep $((tried * 3))
        tried=$((tried + 1))
    done
}

fetch() {
    if command -v curl >/dev/null; then
        curl -fsS --proto '=https' --max-time 60 --output "$2" "$1"
    else
        wget --quiet --https-only --timeout=60 --output-document="$2" "$1"
    fi
}

# Waits for another package manager instead of failing beside it, and asks no questions.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

# Tailscale's signed repository. Only its own list is refreshed: the distribution's lists take longer than all the rest.
install_tailscale() {
    # shellcheck source=/dev/null
    . /etc/os-release
    repository="https://pkgs.tailscale.com/stable/$ID"
    try 5 fetch "$repository/$VERSION_CODENAME.noarmor.gpg" "$keyring" || give_up "package: no signing key"
    echo "deb [signed-by=$keyring] $repository $VERSION_CODENAME main" >"$source_list"
    # apt reads both as a user of its own.
    chmod 0644 "$keyring" "$source_list"
    try 5 apt update -o Dir::Etc::sourcelist="$source_list" -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 ||
        give_up "package: no package list"
    try 5 install_package || give_up "package: not installed"
}

# Should the image lack something that the package needs, the distribution's lists are needed after all.
install_package() {
    apt install --no-install-recommends tailscale ||
        { apt update && apt install --no-install-recommends tailscale; }
}

# A wrong clock makes every certificate invalid, and `tailscale up` then waits without a word.
wait_for_clock() {
    waited=0
    until [ "$(timedatectl show --property=NTPSynchronized --value)" = yes ]; do
        [ "$waited" -lt 30 ] || return 0
        sleep 1
        waited=$((waited + 1))
    done
}

joined() {
    tailscale status --json 2>/dev/null | grep -q '"BackendState": *"Running"'
}

# Few long tries: with a spent key, another `up` would log a joined machine out.
join() {
    joined || tailscale up --auth-key="file:$key_file" --hostname="$hostname" --timeout=120s || joined
}

say "started"
if [ "$mode" = repository ]; then
    install_tailscale
    say "package installed"
fi
systemctl enable --now tailscaled || give_up "tailscaled does not start"
wait_for_clock || true
try 3 join || give_up "not joined"
say "joined"
