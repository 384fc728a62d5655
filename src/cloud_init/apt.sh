#!/bin/sh
# How the scripts install that come beside the join; it stands before each of them.
set -eu

# Waits for another package manager instead of failing beside it, and asks no questions: files that are there stay.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
        -o DPkg::Options::=--force-confdef -o DPkg::Options::=--force-confold "$@" </dev/null
}

