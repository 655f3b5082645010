# Debian packages that a test needs, sourced by tests/run and tests/brokers: `need COMMAND PACKAGE` for each, then
# `install_missing`, which installs those that are absent if it is run as root, and says so before it does.
missing=

need() {
    command -v "$1" >/dev/null || missing="$missing $2"
}

install_missing() {
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "$0: the tests need these Debian packages:$missing" >&2
        echo "$0: hint: sudo apt-get install$missing" >&2
        exit 69
    fi
    echo "$0: installing these Debian packages:$missing" >&2
    # The packages of brokers would start one; the tests start their own on free ports. This keeps them from that while we
    # install, unless the machine has a policy of its own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM HUP
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    else
        policy=
    fi
    apt-get update -qq
    # shellcheck disable=SC2086  # one package a word
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing >/dev/null
    [ -z "$policy" ] || rm -f $policy
    trap - EXIT INT TERM HUP
}
