# shellcheck shell=bash
# Installs RabbitMQ from the distribution, if it is missing. For `source`.

have_server() { [ -x "$ROOTFS$BIN/rabbitmq-server" ]; }

install_server() {
    if have_server; then return; fi
    [ -z "$ROOTFS" ] || die "no rabbitmq-server in $ROOTFS"
    command -v apt-get > /dev/null || die "rabbitmq-server is missing, and this is not Debian or Ubuntu: install it, or set LEADHOOK__AMQP__URLS"
    local sudo=() policy=/usr/sbin/policy-rc.d
    if [ "$(id -u)" != 0 ]; then
        command -v sudo > /dev/null || die "rabbitmq-server is missing and needs root to install: apt-get install rabbitmq-server"
        sudo=(sudo)
    fi
    say "installing rabbitmq-server from the distribution (its system service is not started)"
    # Packages ask policy-rc.d whether they may start services; 101 means no.
    # An existing policy-rc.d stays unchanged, because its owner decides whether services start.
    local ours=
    if [ ! -e $policy ]; then
        ours=$(mktemp)
        printf '#!/bin/sh\nexit 101\n' > "$ours"
        # shellcheck disable=SC2064
        trap "${sudo[*]} rm -f $policy; rm -f $ours" EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        "${sudo[@]}" install -m 755 "$ours" $policy
    fi
    local ok=0
    "${sudo[@]}" apt-get update -qq >&2 || true
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server >&2 || ok=1
    if [ -n "$ours" ]; then
        "${sudo[@]}" rm -f $policy
        rm -f "$ours"
        trap - EXIT INT TERM
    fi
    if [ $ok != 0 ] || ! have_server; then die "installing rabbitmq-server failed"; fi
}
