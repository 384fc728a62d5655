#!/bin/sh
# Makes a user, or adds to one that is there. Usage: user.sh NAME SHELL GROUPS SUDO SSH_KEY...
#
# GROUPS are joined by commas; SUDO is the word sudo, or nothing.
set -eu
umask 077
name=$1
shell=$2
groups=$3
sudo=$4
shift 4

if ! getent passwd "$name" >/dev/null; then
    # A group of that name may be there without the user.
    if getent group "$name" >/dev/null; then own="--gid $name"; else own=--user-group; fi
    # shellcheck disable=SC2086 # Two words, or one.
    useradd --create-home --shell "$shell" $own "$name"
fi
for group in $(echo "$groups" | tr , ' '); do
    groupadd --force "$group"
    usermod --append --groups "$group" "$name"
done
if [ $# -gt 0 ]; then
    home=$(getent passwd "$name" | cut -d : -f 6)
    mkdir -p "$home/.ssh"
    # Behind whatever is there, which may not end with its line.
    printf '\n' >>"$home/.ssh/authorized_keys"
    printf '%s\n' "$@" >>"$home/.ssh/authorized_keys"
    chmod 0700 "$home/.ssh"
    chmod 0600 "$home/.ssh/authorized_keys"
    chown -R "$name:$(id -gn "$name")" "$home/.ssh"
fi
if [ "$sudo" = sudo ]; then
    mkdir -p /etc/sudoers.d
    echo "$name ALL=(ALL) NOPASSWD:ALL" >"/etc/sudoers.d/provision-vm-$name"
    chmod 0440 "/etc/sudoers.d/provision-vm-$name"
fi
