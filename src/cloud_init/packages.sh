# shellcheck shell=sh
# Installs what the caller wants beside the join, after it. Usage: packages.sh PACKAGE...
#
# The distribution's lists are needed here, whatever the join has refreshed.

# A refresh does not wait for another one by itself.
refresh() {
    for pause in 2 5 10 20 30 60 60; do
        if apt update; then return; fi
        sleep "$pause"
    done
}

refresh
apt install --no-install-recommends -- "$@"
