#!/bin/sh
# Installs what the caller wants beside the join, after it. Usage: packages.sh PACKAGE...
#
# The distribution's lists are needed here, whatever the join has refreshed.
set -eu

# Waits for another package manager instead of failing beside it, and asks no questions: files that are there stay.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
        -o DPkg::Options::=--force-confdef -o DPkg::Options::=--force-confold "$@" </dev/null
}

# A refresh does not wait for another one by itself.
refresh() {
    for pause in 2 5 10 20 30 60 60; do
        if apt update; then return; fi
        sleep "$pause"
    done
}

refresh
apt install --no-install-recommends -- "$@"
