#!/bin/sh
# Installs what the caller wants beside the join, after it. Usage: packages.sh PACKAGE...
#
# The distribution's lists are needed here, whatever the join has refreshed.
set -eu

# Waits for another package manager instead of failing beside it, and asks no questions.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@"
}

apt update
apt install --no-install-recommends -- "$@"
