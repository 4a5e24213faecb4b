#!/usr/bin/env bash
# One private RabbitMQ node from the distribution's package: own name, ports, cookie, data and epmd, loopback only.
#
#   rabbitmq.sh install                                  installs rabbitmq-server (Debian, Ubuntu) if it is missing
#   rabbitmq.sh start DIR [--owner PID] [--management]   starts a node that keeps everything under DIR; prints DIR/env
#   rabbitmq.sh stop | kill | again | pause | resume DIR stops in order, kills (SIGKILL), starts again, SIGSTOP, SIGCONT
#   rabbitmq.sh ctl DIR ARGS...                          rabbitmqctl against that node
#   rabbitmq.sh wipe DIR                                 kills it and removes DIR
#
# With --owner the node is killed when that process ends, however it ends. RABBITMQ_ROOTFS names a tree made by debootstrap
# whose RabbitMQ is used instead (other versions; needs root). DIR/env holds url, management_url and pid for `source`.
set -euo pipefail

BIN=/usr/lib/rabbitmq/bin
ROOTFS=${RABBITMQ_ROOTFS:-}

say() { printf '%s\n' "$*" >&2; }
die() { say "rabbitmq.sh: $*"; exit 1; }

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
    # Where one stands it stays as it is: what it says about starting services is its owner's decision.
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
    [ $ok = 0 ] && have_server || die "installing rabbitmq-server failed"
}

# A port below the kernel's ephemeral range (32768), on which nothing answers.
free_port() {
    local port
    for _ in $(seq 1 50); do
        port=$((20000 + RANDOM % 12000))
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || { echo $port; return; }
    done
    die "no free port found"
}

# Runs one of RabbitMQ's own scripts for the node in DIR. (The wrappers on the PATH change user; these do not.)
inside() {
    local dir=$1
    shift
    # shellcheck disable=SC1091
    . "$dir/node"
    local env=(
        HOME="$dir" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 LC_ALL=C.UTF-8
        ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1
        RABBITMQ_NODENAME="$name@localhost" RABBITMQ_MNESIA_BASE="$dir/db" RABBITMQ_LOG_BASE="$dir/log"
        RABBITMQ_CONF_ENV_FILE="$dir/none" RABBITMQ_CONFIG_FILE="$dir/rabbitmq"
        RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins"
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" RABBITMQ_DIST_PORT="$dist_port"
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
    )
    if [ -z "$rootfs" ]; then
        /usr/bin/env -i "${env[@]}" "$@"
        return
    fi
    # In a mount namespace of its own: nothing stays mounted in the tree, so that whoever removes it removes nothing else.
    grep -qs localhost "$rootfs/etc/hosts" || echo "127.0.0.1 localhost" > "$rootfs/etc/hosts"
    mkdir -p "$rootfs$dir"
    # shellcheck disable=SC2016
    unshare --mount --propagation private -- /bin/bash -ec '
        root=$1 dir=$2
        shift 2
        mount --bind "$dir" "$root$dir"
        mount -t proc proc "$root/proc"
        mount --bind /dev "$root/dev"
        exec chroot "$root" /usr/bin/env -i "$@"
    ' rootfs "$rootfs" "$dir" "${env[@]}" "$@"
}

prepare() {
    local dir=$1 management=$2
    mkdir -p "$dir/db" "$dir/log"
    (umask 077; od -An -tx1 -N16 /dev/urandom | tr -d ' \n' > "$dir/.erlang.cookie")
    chmod 400 "$dir/.erlang.cookie"
    local management_port=
    echo "[]." > "$dir/enabled_plugins"
    if [ "$management" = yes ]; then
        management_port=$(free_port)
        echo "[rabbitmq_management]." > "$dir/enabled_plugins"
    fi
    {
        echo "name=lh$(od -An -tx1 -N5 /dev/urandom | tr -d ' \n')"
        echo "port=$(free_port)"
        echo "dist_port=$(free_port)"
        echo "epmd_port=$(free_port)"
        echo "management_port=$management_port"
        echo "rootfs=$ROOTFS"
    } > "$dir/node"
    {
        echo "loopback_users.guest = true"
        echo "disk_free_limit.absolute = 50MB"
        echo "log.console = false"
        if [ -n "$management_port" ]; then
            echo "management.tcp.ip = 127.0.0.1"
            echo "management.tcp.port = $management_port"
        fi
    } > "$dir/rabbitmq.conf"
}

# Whether the node of DIR runs; sets the variable beam to its process. Its id alone would not do: ids are taken again.
running() {
    [ -e "$1/node" ] || return 1
    local name=
    # shellcheck disable=SC1091
    . "$1/node"
    beam=
    if [ -s "$1/pid" ] && is_beam_of "$name" "$(cat "$1/pid")"; then beam=$(cat "$1/pid"); else beam=$(find_beam "$name"); fi
    [ -n "$beam" ]
}

# Starts the node that `prepare` described and waits until it takes connections.
boot() {
    local dir=$1
    rm -f "$dir/pid"
    # Descriptors of the caller (locks, pipes) must not live on in the node, which outlives us.
    (
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-" 2> /dev/null || true
        done
        cd /
        inside "$dir" /usr/bin/setsid $BIN/rabbitmq-server
    ) < /dev/null > "$dir/out" 2>&1 &
    local launcher=$!
    # shellcheck disable=SC1091
    . "$dir/node"
    for _ in $(seq 1 300); do
        if grep -qs "completed with" "$dir/out" "$dir"/log/*.log && (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            local beam
            beam=$(find_beam "$name")
            [ -n "$beam" ] || die "the node runs, but its process was not found"
            echo "$beam" > "$dir/pid"
            return 0
        fi
        kill -0 $launcher 2> /dev/null || { sleep 0.2; kill -0 $launcher 2> /dev/null || break; }
        sleep 0.1
    done
    tail -n 20 "$dir/out" >&2
    return 1
}

# The Erlang process of a node, by the node's name on its command line or in its environment.
find_beam() {
    local proc
    for proc in /proc/[0-9]*; do
        if is_beam_of "$1" "${proc##*/}"; then
            echo "${proc##*/}"
            return
        fi
    done
}

is_beam_of() { [[ $(readlink "/proc/$2/exe" 2> /dev/null) == *beam.smp ]] && belongs_to "$1" "$2"; }

# Whether process $2 was started for the node named $1: names are random, and in the environment of all that it starts.
belongs_to() { { tr '\0' '\n' < "/proc/$2/environ" | grep -qx "RABBITMQ_NODENAME=$1@localhost"; } 2> /dev/null; }

start() {
    local dir=$1 owner= management=no
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --owner) owner=$2; shift 2 ;;
        --management) management=yes; shift ;;
        *) die "unknown option $1" ;;
        esac
    done
    install_server
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    ! running "$dir" || die "a node is running in $dir already"
    trap 'kill_node "$dir"; exit 130' INT
    trap 'kill_node "$dir"; exit 143' TERM
    # Before the node, so that it ends with its owner from its first moment on.
    [ -z "$owner" ] || watch_owner "$dir" "$owner"
    # Ports are picked at random; should another node take one of them meanwhile, pick again.
    local started=no
    for _ in 1 2 3; do
        rm -rf "$dir/db" "$dir/log"
        rm -f "$dir/.erlang.cookie"
        prepare "$dir" "$management"
        if boot "$dir"; then started=yes; break; fi
        kill_node "$dir"
    done
    [ $started = yes ] || die "the node does not start; its output is in $dir/out and $dir/log"
    # shellcheck disable=SC1091
    . "$dir/node"
    {
        echo "url=amqp://guest:guest@127.0.0.1:$port/%2f"
        [ -z "$management_port" ] || echo "management_url=http://guest:guest@127.0.0.1:$management_port"
    } > "$dir/env"
    cat "$dir/env"
    trap - INT TERM
}

# Kills the node when its owner is gone.
watch_owner() {
    local dir=$1 owner=$2
    (
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-" 2> /dev/null || true
        done
        cd /
        exec /usr/bin/setsid "$SELF" guard "$dir" "$owner"
    ) < /dev/null > /dev/null 2>&1 &
}

guard() {
    local dir=$1 owner=$2
    tail --pid="$owner" -f /dev/null
    kill_node "$dir"
    rm -rf "$dir"
}

kill_node() {
    local dir=$1
    # By name, so that one that is only starting, and has no Erlang process yet, goes as well.
    [ -e "$dir/node" ] || return 0
    local name= proc
    # shellcheck disable=SC1091
    . "$dir/node"
    for proc in /proc/[0-9]*; do
        if belongs_to "$name" "${proc##*/}"; then kill -KILL "${proc##*/}" 2> /dev/null || true; fi
    done
    stop_epmd "$dir"
}

signal_node() {
    local beam
    if running "$1"; then kill -s "$2" "$beam" 2> /dev/null || true; fi
}

# Our own epmd, on our own port: nobody else's.
stop_epmd() {
    local dir=$1
    [ -e "$dir/node" ] || return 0
    local epmd_port=
    # shellcheck disable=SC1091
    . "$dir/node"
    local proc
    for proc in /proc/[0-9]*; do
        [[ $(readlink "$proc/exe" 2> /dev/null) == */epmd ]] || continue
        if tr '\0' '\n' < "$proc/environ" 2> /dev/null | grep -qx "ERL_EPMD_PORT=$epmd_port"; then
            kill "${proc##*/}" 2> /dev/null || true
        fi
    done
    # The empty place where the node's directory was seen from inside the tree.
    if [ -n "${rootfs:-}" ]; then rmdir "$rootfs$dir" 2> /dev/null || true; fi
}

wait_gone() {
    for _ in $(seq 1 300); do
        running "$1" || return 0
        sleep 0.1
    done
    return 1
}

SELF=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
command=${1:-}
[ -n "$command" ] && shift
case $command in
install) install_server ;;
start) start "$@" ;;
guard) guard "$@" ;;
stop)
    signal_node "$1" TERM
    wait_gone "$1" || signal_node "$1" KILL
    stop_epmd "$1"
    ;;
kill)
    signal_node "$1" KILL
    wait_gone "$1"
    ;;
again)
    boot "$1" || die "the node does not start again; its output is in $1/out"
    ;;
pause) signal_node "$1" STOP ;;
resume) signal_node "$1" CONT ;;
ctl)
    dir=$1
    shift
    inside "$dir" $BIN/rabbitmqctl -q "$@"
    ;;
wipe)
    kill_node "$1"
    rm -rf "$1"
    ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
