#!/bin/sh
# Joins this machine to the tailnet, once, at its first boot.
#
#   join.sh HOSTNAME repository FINGERPRINT        installs from Tailscale's signed repository
#   join.sh HOSTNAME static VERSION AMD64 ARM64    installs one build, known by its SHA-256
#   join.sh HOSTNAME enroll                        a snapshot that has Tailscale already
#
# cloud-init delivers this script and, beside it, the auth key, both readable by root alone. It reports success whatever
# happens here, so the script cleans up after itself and keeps its own status, which holds no secret.
set -eu
umask 077

main() {
    hostname=$1
    how=$2
    shift 2
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    ends=$(($(uptime_seconds) + patience))
    mkdir -p "$work"
    chmod 0711 "$work"
    : >"$status_file"
    tell started
    [ -s "$key_file" ] || give_up no-key
    case $how in
        repository) install_from_repository "$1" ;;
        static) install_build "$@" ;;
        *) become_another ;;
    esac
    tell package
    start_daemon || give_up daemon
    wait_for_clock
    join
    rm -f "$key_file"
    tell joined
    # From now on the machine is worth its flushes, also those that the installation left out.
    sync
    unsafe_io=
    if [ "$how" = repository ]; then follow_key_changes; fi
}

home=/root/provision-vm
key_file=$home/auth-key
status_file=$home/status
report_file=$home/report
# In memory: what is fetched, and what Tailscale says.
work=/run/provision-vm
state_directory=/var/lib/tailscale
keyring=/usr/share/keyrings/tailscale-archive-keyring.gpg
source_list=/etc/apt/sources.list.d/tailscale.list
packages=https://pkgs.tailscale.com/stable
# Without flushing each file to the disk: a machine that loses power before it has joined is thrown away.
unsafe_io='-o DPkg::Options::=--force-unsafe-io'
# All tries of what has to be fetched and installed together, in seconds: so that their failure is told before the usual deadline.
patience=300
is_right=
is_doubtful=
told=0

# The signed repository. apt keeps its lists apart here, so that only one small list is fetched, and nobody else's refresh is
# in the way; the distribution's lists take longer than all the rest.
install_from_repository() {
    if ! dpkg-query --show iptables >/dev/null 2>&1; then
        # Tailscale's package needs it, and not every image has it. All else goes on meanwhile.
        { apt update || true; apt install --no-install-recommends iptables; } &
        dependency=$!
    fi
    # shellcheck source=/dev/null
    . /etc/os-release
    try fetch "$packages/$ID/$VERSION_CODENAME.noarmor.gpg" "$work/keyring" || give_up_download
    is_signed_by "$1" "$work/keyring" || give_up signature
    install -D -m 0644 "$work/keyring" "$keyring"
    echo "deb [signed-by=$keyring] $packages/$ID $VERSION_CODENAME main" >"$source_list"
    chmod 0644 "$source_list"
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    # apt fetches as a user of its own.
    chmod 0755 "$work/lists" "$work/archives"
    chown _apt "$work/lists/partial" "$work/archives/partial" 2>/dev/null || true
    try apt_apart update || give_up_download
    if [ -n "${dependency:-}" ]; then wait "$dependency" || true; fi
    try install_package || give_up package
}

# Should the image lack something else, the distribution's lists are needed after all.
install_package() {
    apt_apart install --no-install-recommends tailscale && return
    # Somebody else's lock is waited for, and no reason to fetch anything.
    ! is_locked || return 1
    apt update || true
    apt install --no-install-recommends tailscale
}

is_locked() {
    ! apt-get -q -y -o DPkg::Lock::Timeout=0 check >/dev/null 2>&1
}

# Whoever changes the signing key delivers the new one in a package.
follow_key_changes() {
    apt_apart install --no-install-recommends tailscale-archive-keyring || true
}

apt_apart() {
    apt -o Dir::Etc::sourcelist="$source_list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists" \
        -o Dir::Cache::archives="$work/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
}

# Waits for another package manager instead of failing beside it, and asks no questions: files that are there stay.
apt() {
    # shellcheck disable=SC2086 # Two words, or none.
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y -o DPkg::Lock::Timeout=120 \
        -o Acquire::Retries=3 -o APT::Update::Error-Mode=any -o DPkg::Options::=--force-confdef \
        -o DPkg::Options::=--force-confold $unsafe_io "$@" </dev/null
}

# Whether a keyring holds one public key, and that has this fingerprint: the SHA-1 of its packet (RFC 4880, 4.2 and 12.2). Beside it
# there may be its names, subkeys and signatures, and nothing else: verifiers differ in what they take for a key. Not every image has
# gpg; cloud-init brings Python.
is_signed_by() {
    python3 -I - "$1" "$2" <<'END'
import hashlib, sys

data, at, found = open(sys.argv[2], "rb").read(), 0, []
while at < len(data):
    head, first = data[at], data[at + 1]
    if head & 0xC0 == 0xC0 and first < 192:
        tag, start, size = head & 0x3F, 2, first
    elif head & 0xC0 == 0xC0 and first < 224:
        tag, start, size = head & 0x3F, 3, (first - 192 << 8) + data[at + 2] + 192
    elif head & 0xC0 == 0xC0 and first == 255:
        tag, start, size = head & 0x3F, 6, int.from_bytes(data[at + 2 : at + 6], "big")
    elif head & 0xC0 == 0x80 and head & 3 < 3:
        start = 1 + (1 << (head & 3))
        tag, size = head >> 2 & 0x0F, int.from_bytes(data[at + 1 : at + start], "big")
    else:
        sys.exit("no packet of a definite length")
    packet = data[at + start : at + start + size]
    if len(packet) < size or tag not in (2, 6, 13, 14, 17):
        sys.exit("no packet of a public key")
    if tag == 6:
        found.append(hashlib.sha1(b"\x99" + size.to_bytes(2, "big") + packet).hexdigest().upper())
    at += start + size
sys.exit(found != [sys.argv[1]])
END
}

# One build: no package manager, and no updates by it.
install_build() {
    case $(uname -m) in
        x86_64) arch=amd64 sum=$2 ;;
        aarch64) arch=arm64 sum=$3 ;;
        *) give_up package ;;
    esac
    build=tailscale_$1_$arch
    try fetch "$packages/$build.tgz" "$work/$build.tgz" || give_up_download
    echo "$sum  $work/$build.tgz" | sha256sum --check --quiet - || give_up signature
    tar -xzf "$work/$build.tgz" -C "$work" || give_up package
    install -m 0755 "$work/$build/tailscale" /usr/bin/tailscale
    install -m 0755 "$work/$build/tailscaled" /usr/sbin/tailscaled
    [ -e /etc/default/tailscaled ] ||
        install -m 0644 "$work/$build/systemd/tailscaled.defaults" /etc/default/tailscaled
    install -D -m 0644 "$work/$build/systemd/tailscaled.service" /etc/systemd/system/tailscaled.service
    systemctl daemon-reload
}

# A snapshot of a machine that had joined would come up as that machine, and both would be one device. Its state was removed before
# the daemon could start (`bootcmd`); should it be there all the same, it goes now.
become_another() {
    command -v tailscale >/dev/null || give_up package
    if [ -e "$state_directory/tailscaled.state" ]; then
        systemctl stop tailscaled || give_up daemon
        rm -rf "$state_directory"
    fi
}

# Its package starts it by itself, where the image lets packages do so.
start_daemon() {
    if [ "$how" = repository ] && systemctl is-active --quiet tailscaled; then return; fi
    systemctl enable --now tailscaled
}

# fetch ADDRESS FILE: in half a minute, or as long as something comes.
fetch() {
    code=0
    if command -v curl >/dev/null; then
        curl -fsSL --proto '=https' --connect-timeout 10 --speed-limit 1000 --speed-time 20 --max-time 180 \
            --output "$2" "$1" || code=$?
        [ "$code" != 60 ] || is_doubtful=yes
    else
        wget --quiet --https-only --timeout=20 --tries=1 --output-document="$2" "$1" || code=$?
        [ "$code" != 5 ] || is_doubtful=yes
    fi
    [ "$code" = 0 ] || return 1
    # A certificate was valid, so the clock is about right.
    note_right_clock
}

# A certificate that is not valid says that the clock is wrong, unless it is known to be right.
give_up_download() {
    if [ -n "$is_doubtful" ] && [ -z "$is_right" ] && ! is_synchronized; then give_up clock; fi
    give_up download
}

is_synchronized() {
    [ "$(timedatectl show --property=NTPSynchronized --value 2>/dev/null)" = yes ]
}

# A wrong clock makes every certificate invalid, and `tailscale up` then waits without a word. Who has fetched something knows
# already that it is right. `up` goes on trying, so that a network without time servers costs this pause alone.
wait_for_clock() {
    command -v timedatectl >/dev/null || return 0
    waited=0
    while [ -z "$is_right" ] && [ "$waited" -lt 20 ]; do
        if is_synchronized; then
            note_right_clock
        else
            sleep 1
            waited=$((waited + 1))
        fi
    done
}

note_right_clock() {
    if [ -z "$is_right" ]; then
        is_right=yes
        tell clock
    fi
}

# Few long tries, and none once the key was taken: with a spent key another `up` would log the machine out. What `up` says may
# hold a link to log in by, so it stays in memory.
join() {
    for pause in 5 15 0; do
        if may_be_in; then break; fi
        tailscale up --auth-key="file:$key_file" --hostname="$hostname" --timeout=90s >"$work/up" 2>&1 && return
        if may_be_in; then break; fi
        if grep -qi 'invalid key' "$work/up"; then give_up key-refused; fi
        sleep "$pause"
    done
    # Nothing to be done but to wait for the tailnet, or for a person.
    waited=0
    while may_be_in; do
        if [ "$(backend_state)" = Running ]; then return; fi
        if [ "$waited" -ge 120 ]; then break; fi
        sleep 2
        waited=$((waited + 2))
    done
    if [ "$(backend_state)" = NeedsMachineAuth ]; then give_up approval; fi
    if [ -z "$is_right" ] && command -v timedatectl >/dev/null && ! is_synchronized; then give_up clock; fi
    if grep -qi 'timeout\|timed out\|deadline' "$work/up"; then give_up up-timeout; fi
    give_up up
}

# Whether the key has let the machine in, or is about to.
may_be_in() {
    case $(backend_state) in
        Running | Starting | NeedsMachineAuth) return 0 ;;
        *) return 1 ;;
    esac
}

backend_state() {
    tailscale status --json 2>/dev/null | sed -n 's/.*"BackendState": *"\([A-Za-z]*\)".*/\1/p'
}

# try COMMAND...: with growing pauses, as long as there is patience, and twice at least.
try() {
    pause=1
    until "$@"; do
        [ "$pause" = 1 ] || [ "$(uptime_seconds)" -lt "$ends" ] || return 1
        sleep "$pause"
        pause=$((pause < 15 ? pause + pause : 15))
    done
}

# Unlike the time of day, it does not jump when the clock comes right.
uptime_seconds() {
    cut -d . -f 1 /proc/uptime
}

give_up() {
    tell failed "$1"
    exit 1
}

# tell EVENT [CLASS]: to whoever reads the status or the log of the boot, and to whoever wants reports.
tell() {
    told=$((told + 1))
    line="$(date -u +%Y-%m-%dT%H:%M:%SZ) $1${2:+ $2}"
    echo "$line" >>"$status_file"
    echo "provision-vm: $line"
    if [ -f "$report_file" ]; then
        post "{\"event\":\"$1\",\"at\":$(date +%s),\"seq\":$told${2:+,\"class\":\"$2\"}}" &
    fi
}

# The address and the token are in the file, and so in no command line. However long its receiver wants to be left alone.
post() {
    command -v curl >/dev/null || return 0
    curl --config "$report_file" -sS --max-time 10 --retry 2 --retry-max-time 20 --output "$work/reply" \
        --header 'Content-Type: application/json' --data "$1" || true
}

# The key serves once; whatever becomes of the join, its file goes.
clean_up() {
    rm -f "$key_file"
    wait
    rm -f "$report_file"
    rm -rf "$work"
}

main "$@"
