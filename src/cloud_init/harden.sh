# shellcheck shell=sh
# Closes what a machine in a tailnet does not need open, and keeps it up to date.

# Installs a package, from the lists that are there or from new ones. A refresh does not wait for another one by itself.
get() {
    for pause in 2 5 10 20 30 60 60; do
        if apt install --no-install-recommends "$1"; then return; fi
        apt update || true
        sleep "$pause"
    done
    return 1
}

mkdir -p /etc/provision-vm
cat >/etc/provision-vm/hardening.nft <<'END'
# Loaded by provision-vm-hardening.service.
table inet provision_vm
delete table inet provision_vm
table inet provision_vm {
    # New connections come from this machine, the tailnet and private networks. WireGuard answers no stranger, so its port stays
    # open: without it, peers may have to go through a relay.
    chain input {
        type filter hook input priority filter; policy drop;
        iifname { "lo", "tailscale0" } accept
        ct state established,related accept
        ip saddr { 10.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16 } accept
        ip6 saddr { fc00::/7, fe80::/10 } accept
        meta l4proto { icmp, ipv6-icmp } accept
        udp dport 41641 accept
        udp sport 67 udp dport 68 accept
    }
    # What the metadata server hands out, the first-boot document among it, is for root alone, and for no container.
    chain output {
        type filter hook output priority filter; policy accept;
        ip daddr 169.254.169.254 meta skuid != 0 reject
        ip6 daddr fe80::a9fe:a9fe meta skuid != 0 reject
    }
    # Ports that a container publishes come this way, and never through `input`.
    chain forward {
        type filter hook forward priority filter; policy drop;
        ip daddr 169.254.169.254 reject
        ip6 daddr fe80::a9fe:a9fe reject
        ct state established,related accept
        iifname "tailscale0" accept
        ip saddr { 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 } accept
        ip6 saddr { fc00::/7, fe80::/10 } accept
    }
}
END
cat >/etc/systemd/system/provision-vm-hardening.service <<'END'
[Unit]
Description=Closes the metadata address and the public ports
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/provision-vm/hardening.nft

[Install]
WantedBy=sysinit.target
END
cat >/etc/apt/apt.conf.d/20auto-upgrades <<'END'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
END

systemctl daemon-reload
outcome=0
get nftables && systemctl enable --now provision-vm-hardening.service || outcome=1
get unattended-upgrades || outcome=1
exit "$outcome"
