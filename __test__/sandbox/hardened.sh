#!/usr/bin/env bash
# Loads the rules that hardening has written into a network of this machine's own, and knocks from outside: from the internet
# (198.51.100.9), a private network (10.0.0.9) and the tailnet (over an interface tailscale0).
set -euo pipefail
if [ "${1-}" != inside ]; then exec unshare --net bash "$0" inside; fi
# The stand-ins are not meant here.
PATH=/usr/sbin:/usr/bin:/sbin:/bin

main() {
    ip link set lo up
    unshare --net sleep 60 &
    outside=$!
    until [ "$(readlink "/proc/$outside/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
    out ip link set lo up
    cable eth0 198.51.100.1 198.51.100.9
    cable ens10 10.0.0.1 10.0.0.9
    cable tailscale0 100.101.1.2 100.101.1.9
    out ip address add 169.254.169.254/32 dev lo
    ip route add 169.254.169.254/32 via 198.51.100.9
    contain
    listen 0.0.0.0 22
    listen 0.0.0.0 8080
    out python3 -c "$LISTEN" 169.254.169.254 80 &
    echoes 41641
    out python3 -c "$LISTEN" 198.51.100.9 443 &
    until dial 127.0.0.1 22 && dial 127.0.0.1 8080 && dial 169.254.169.254 80 && dial 198.51.100.9 443; do sleep 0.1; done 2>/dev/null

    knock 'before: a container from the internet' out python3 -c "$DIAL" 198.51.100.1 81
    knock 'before: metadata as another' as_nobody 169.254.169.254 80
    knock 'before: ssh from the internet' out python3 -c "$DIAL" 198.51.100.1 22
    # Twice, as on a second start of the service.
    nft -f /etc/provision-vm/hardening.nft
    nft -f /etc/provision-vm/hardening.nft
    knock 'metadata as root' dial 169.254.169.254 80
    knock 'metadata as another' as_nobody 169.254.169.254 80
    knock 'own loopback' as_nobody 127.0.0.1 8080
    knock 'ssh from the internet' out python3 -c "$DIAL" 198.51.100.1 22
    knock 'ssh from a private network' out python3 -c "$DIAL" 10.0.0.1 22
    knock 'ssh over the tailnet' out python3 -c "$DIAL" 100.101.1.2 22
    knock 'answers from the internet' dial 198.51.100.9 443
    knock 'wireguard from the internet' out python3 -c "$ASK" 198.51.100.1 41641
    knock 'another port from the internet' out python3 -c "$DIAL" 198.51.100.1 8080
    knock 'a container from the internet' out python3 -c "$DIAL" 198.51.100.1 81
    knock 'a container from a private network' out python3 -c "$DIAL" 10.0.0.1 81
    knock 'a container goes out' inside python3 -c "$DIAL" 198.51.100.9 443
    knock 'a container asks for metadata' inside python3 -c "$DIAL" 169.254.169.254 80
    knock 'ping from the internet' out python3 -c "$PING" 198.51.100.1
    # shellcheck disable=SC2046 # Words, not one.
    kill $(jobs -p)
    wait || true
}

LISTEN='
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    server.accept()[0].close()'
ECHO='
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", int(sys.argv[1])))
while True:
    server.sendto(*server.recvfrom(9))'
DIAL='import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1.5)'
ASK='
import socket, sys
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(1.5)
asker.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
asker.recvfrom(9)'
PING='
import socket, sys
pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
pinger.settimeout(1.5)
pinger.sendto(bytes.fromhex("0800f7fd00010001"), (sys.argv[1], 0))
pinger.recv(99)'

listen() { python3 -c "$LISTEN" "$1" "$2" & }
echoes() { python3 -c "$ECHO" "$1" & }
dial() { python3 -c "$DIAL" "$1" "$2"; }
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups python3 -c "$DIAL" "$1" "$2"; }
# A command outside.
out() { nsenter --target "$outside" --net -- "$@"; }
# cable INTERFACE HERE THERE
cable() {
    ip link add "$1" type veth peer name "far$1" netns "$outside"
    ip address add "$2/24" dev "$1"
    ip link set "$1" up
    out ip address add "$3/24" dev "far$1"
    out ip link set "far$1" up
}
# What Docker does for a published port: a network of its own behind a bridge, a port that leads there, and a way out.
contain() {
    unshare --net sleep 60 &
    container=$!
    until [ "$(readlink "/proc/$container/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
    inside ip link set lo up
    ip link add docker0 type veth peer name eth0 netns "$container"
    ip address add 172.17.0.1/24 dev docker0
    ip link set docker0 up
    inside ip address add 172.17.0.2/24 dev eth0
    inside ip link set eth0 up
    inside ip route add default via 172.17.0.1
    sysctl -qw net.ipv4.ip_forward=1
    out ip route add 172.17.0.0/24 via 198.51.100.1
    nft -f - <<'END'
table ip docker {
    chain prerouting {
        type nat hook prerouting priority dstnat;
        tcp dport 81 dnat to 172.17.0.2:80
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 172.17.0.0/24 oifname != "docker0" masquerade
    }
}
END
    inside python3 -c "$LISTEN" 172.17.0.2 80 &
}
inside() { nsenter --target "$container" --net -- "$@"; }
# knock NAME COMMAND...
knock() {
    name=$1
    shift
    if "$@" >/dev/null 2>&1; then echo "$name: open"; else echo "$name: closed"; fi
}

main
