# shellcheck shell=bash
# The life of one node: its settings, its start, its end, and signals. For `source`.
#
# A node keeps everything in its directory: `node` (name, ports, tree; for `source`), rabbitmq.conf, advanced.config,
# db, log. The scripts find its processes by the node's name, which is random and in the environment of everything that
# it starts. Process ids are reused, names are not.

BIN=/usr/lib/rabbitmq/bin

# Some seconds are usual. After a kill of the whole cluster, a member waits in its start for the others.
BOOT_SECONDS=180

# Parses the arguments of `start` and `cluster` after the directory.
options() {
    OWNER='' MANAGEMENT=no DEAD_LETTER_RETRY='' CONF=()
    while [ $# -gt 0 ]; do
        case $1 in
        --management) MANAGEMENT=yes; shift; continue ;;
        --owner | --conf | --dead-letter-retry) [ $# -ge 2 ] || die "$1 needs a value" ;;
        *) die "unknown option $1" ;;
        esac
        case $1 in
        --owner) OWNER=$2 ;;
        --conf) CONF+=("$2") ;;
        --dead-letter-retry)
            [[ $2 =~ ^[1-9][0-9]*$ ]] || die "--dead-letter-retry takes milliseconds, not $2"
            DEAD_LETTER_RETRY=$2
            ;;
        esac
        shift 2
    done
}

# start DIR [options]: starts a node and prints DIR/env.
start() {
    local dir=$1
    shift
    options "$@"
    mkdir -p "$dir"
    bring_up "$dir" "$dir"
    cat "$dir/env"
}

# bring_up DIR NODE...: writes the settings of nodes and starts them, the first one alone and then the others at once.
# They end with OWNER, and DIR is removed with them.
bring_up() {
    local all=$1 dir
    shift
    install_server
    for dir; do [ -z "$(beam_of "$dir")" ] || die "a node is running in $dir already"; done
    STARTING=("$@")
    trap 'give_up 130' INT
    trap 'give_up 143' TERM
    # The guard starts before the nodes, so that they end with their owner from the first moment.
    [ -z "$OWNER" ] || watch_owner "$all" "$OWNER"
    # Ports are picked at random. If another process takes one meanwhile, all are picked again.
    local started=no
    for _ in 1 2 3; do
        prepare "$@"
        if boot "$1" && at_once boot "${@:2}"; then started=yes; break; fi
        end "$@"
        # In that case the guard ended the nodes, and it would not end new ones.
        [ -z "$OWNER" ] || [ -e "/proc/$OWNER" ] || { rm -rf "$all"; die "the owner, process $OWNER, is gone"; }
    done
    [ $started = yes ] || die "RabbitMQ does not start; its output is in out and log/ below $all"
    trap - INT TERM
}

give_up() {
    local boots
    boots=$(jobs -p)
    # shellcheck disable=SC2086
    [ -z "$boots" ] || kill $boots 2> /dev/null || true
    end "${STARTING[@]}"
    exit "$1"
}

# prepare NODE...: creates new names, ports, cookie and settings. Several nodes are prepared to become one cluster.
prepare() {
    local count=$# id cookie ports dir name i=0
    id=lh$(od -An -tx1 -N5 /dev/urandom | tr -d ' \n')
    cookie=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
    mapfile -t ports < <(free_ports $((1 + 3 * count)))
    [ ${#ports[@]} = $((1 + 3 * count)) ] || die "no free ports found"
    for dir; do
        rm -rf "$dir/db" "$dir/log" "$dir/.erlang.cookie"
        mkdir -p "$dir/db" "$dir/log"
        (umask 077; printf '%s' "$cookie" > "$dir/.erlang.cookie")
        chmod 400 "$dir/.erlang.cookie"
        name=$id
        [ "$count" = 1 ] || name=${id}_$((i + 1))
        {
            echo "name=$name"
            echo "epmd_port=${ports[0]}"
            echo "port=${ports[1 + 3 * i]}"
            echo "dist_port=${ports[2 + 3 * i]}"
            echo "management_port=$([ "$MANAGEMENT" = no ] || echo "${ports[3 + 3 * i]}")"
            printf 'rootfs=%q\n' "$ROOTFS"
        } > "$dir/node"
        settings "$dir"
        [ "$count" = 1 ] || cluster_settings "${id}_1" "$name" >> "$dir/rabbitmq.conf"
        [ ${#CONF[@]} = 0 ] || printf '%s\n' "${CONF[@]}" >> "$dir/rabbitmq.conf"
        i=$((i + 1))
    done
}

# Writes the configuration and the addresses of a node.
settings() {
    local dir=$1
    # shellcheck disable=SC1091
    . "$dir/node"
    {
        echo "loopback_users.guest = true"
        echo "disk_free_limit.absolute = 50MB"
        echo "log.console = false"
        if [ -n "$management_port" ]; then
            echo "management.tcp.ip = 127.0.0.1"
            echo "management.tcp.port = $management_port"
        fi
    } > "$dir/rabbitmq.conf"
    if [ -n "$management_port" ]; then echo "[rabbitmq_management]."; else echo "[]."; fi > "$dir/enabled_plugins"
    # How often an at-least-once dead-letter worker retries a message that found no queue or got no confirm; 180 s by
    # default. This is also its limit for a confirm: a target that takes longer gets the message twice.
    if [ -n "$DEAD_LETTER_RETRY" ]; then
        echo "[{rabbit, [{dead_letter_worker_publisher_confirm_timeout, $DEAD_LETTER_RETRY}]}]."
    else
        echo "[]."
    fi > "$dir/advanced.config"
    {
        echo "url=amqp://guest:guest@127.0.0.1:$port/%2f"
        [ -z "$management_port" ] || echo "management_url=http://guest:guest@127.0.0.1:$management_port"
    } > "$dir/env"
}

# free_ports COUNT: prints different ports without a listener, below the kernel's ephemeral range (32768).
free_ports() {
    local port left=$1
    for port in $(shuf -i 20000-31999 -n 200); do
        [ "$left" -gt 0 ] || return 0
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || { echo "$port"; left=$((left - 1)); }
    done
}

# Starts a node that `prepare` described, and waits until it accepts connections.
boot() {
    local dir=$1 launcher deadline=$((SECONDS + BOOT_SECONDS))
    rm -f "$dir/pid"
    detached inside "$dir" /usr/bin/setsid "$BIN"/rabbitmq-server > "$dir/out" 2>&1
    launcher=$!
    # shellcheck disable=SC1091
    . "$dir/node"
    while [ $SECONDS -lt $deadline ]; do
        if grep -qs "completed with" "$dir/out" && (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            beam_of "$dir" > "$dir/pid"
            [ -s "$dir/pid" ] || die "the node of $dir runs, but its process was not found"
            return 0
        fi
        kill -0 $launcher 2> /dev/null || { sleep 0.2; kill -0 $launcher 2> /dev/null || break; }
        sleep 0.1
    done
    tail -n 20 "$dir/out" >&2
    return 1
}

# Runs a command in the background that outlives us. It inherits no descriptors of the caller (locks, pipes), which
# would stay open in it, and not the caller's directory.
detached() {
    (
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            [ "$fd" -le 2 ] || eval "exec $fd>&-" 2> /dev/null || true
        done
        cd /
        "$@"
    ) < /dev/null &
}

# Runs one of RabbitMQ's own scripts for the node in DIR. (The wrappers on the PATH change user; these do not.)
inside() {
    local dir=$1
    shift
    # shellcheck disable=SC1091
    . "$dir/node"
    local loopback="-kernel inet_dist_use_interface {127,0,0,1}"
    local env=(
        HOME="$dir" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 LC_ALL=C.UTF-8
        ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1
        RABBITMQ_NODENAME="$name@localhost" RABBITMQ_MNESIA_BASE="$dir/db" RABBITMQ_LOG_BASE="$dir/log"
        RABBITMQ_CONF_ENV_FILE="$dir/none" RABBITMQ_CONFIG_FILE="$dir/rabbitmq"
        RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced.config" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins"
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" RABBITMQ_DIST_PORT="$dist_port"
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$loopback +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
        # The tools listen too while they run. The default is eleven ports, which many concurrent tests use up.
        RABBITMQ_CTL_ERL_ARGS="$loopback" RABBITMQ_CTL_DIST_PORT_MIN=19000 RABBITMQ_CTL_DIST_PORT_MAX=19499
    )
    if [ -z "$rootfs" ]; then
        /usr/bin/env -i "${env[@]}" "$@"
        return
    fi
    # Runs in its own mount namespace: nothing stays mounted in the tree, so removing the tree removes nothing else.
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

# evaluate DIR EXPRESSION: evaluates Erlang on the node with a tool that starts no Erlang of its own. It takes a
# hundredth of the time of `rabbitmqctl eval`. It fails unless the expression has a value. Each call uses a new name,
# because a node refuses a second caller of the same name.
evaluate() {
    local said name
    # shellcheck disable=SC1091
    . "$1/node"
    said=$(inside "$1" /usr/bin/erl_call -h "lh$$" -n "$name@localhost" -fetch_stdout -e <<< "$2") || return 1
    [[ $said =~ ^((.*$'\n')?)"{ok, "(.*)"}"$ ]] || { say "$1 answers: $said"; return 1; }
    printf '%s%s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[3]}"
}

# Prints the Erlang process of a node, if it runs. The tools are Erlang as well, with the same environment. The server
# is the one with the argument to boot it.
beam_of() {
    [ -e "$1/node" ] || return 0
    local name pid
    # shellcheck disable=SC1091
    . "$1/node"
    for pid in $(processes_with "RABBITMQ_NODENAME=$name@localhost"); do
        if is_server "$pid"; then
            echo "$pid"
            return
        fi
    done
}

is_server() {
    [[ $(readlink "/proc/$1/exe" 2> /dev/null) == *beam.smp ]] &&
        { tr '\0' ' ' < "/proc/$1/cmdline" | grep -q -- ' -s rabbit boot '; } 2> /dev/null
}

# Lists the processes with this variable and value in their environment.
processes_with() { { grep -lzxFs -- "$1" /proc/[0-9]*/environ || true; } | cut -d / -f 3; }

stop_node() {
    signal_node "$1" TERM
    wait_gone "$1" || signal_node "$1" KILL
    tidy "$1"
}

kill_node() {
    signal_node "$1" KILL
    wait_gone "$1"
}

# A member may meet its own old connection to another member and end. (A fault of 3.10: `rabbit_net:dist_info` knows one
# connection for each node.) So a start that ends at once is tried again.
start_again() {
    boot "$1" || { [ -z "$(beam_of "$1")" ] && boot "$1"; } || die "the node of $1 does not start again; its output is in $1/out"
}

pause_node() { signal_node "$1" STOP; }

resume_node() { signal_node "$1" CONT; }

signal_node() {
    local beam
    beam=$(beam_of "$1")
    if [ -n "$beam" ]; then kill -s "$2" "$beam" 2> /dev/null || true; fi
}

wait_gone() {
    for _ in $(seq 1 300); do
        [ -n "$(beam_of "$1")" ] || return 0
        sleep 0.1
    done
    return 1
}

# end NODE...: kills all processes that belong to the nodes, including those of a node that is still starting and has no
# Erlang process.
end() {
    local dir name pid
    for dir; do
        [ -e "$dir/node" ] || continue
        # shellcheck disable=SC1091
        . "$dir/node"
        for pid in $(processes_with "RABBITMQ_NODENAME=$name@localhost"); do
            is_epmd "$pid" || kill -KILL "$pid" 2> /dev/null || true
        done
    done
    for dir; do
        wait_gone "$dir"
        tidy "$dir"
    done
}

# Cleans up after the end of a node. It ends the node's epmd unless another node uses it, and removes the empty mount
# point of its directory in a tree. (While a node runs there, that would take its directory away.)
tidy() {
    local dir=$1 epmd_port rootfs pid epmd=()
    [ -e "$dir/node" ] || return 0
    # shellcheck disable=SC1091
    . "$dir/node"
    [ -z "$rootfs" ] || rmdir "$rootfs$dir" 2> /dev/null || true
    # This epmd listens on our own port, so no other RabbitMQ uses it.
    for pid in $(processes_with "ERL_EPMD_PORT=$epmd_port"); do
        if is_server "$pid"; then return 0; fi
        if is_epmd "$pid"; then epmd+=("$pid"); fi
    done
    [ ${#epmd[@]} = 0 ] || kill "${epmd[@]}" 2> /dev/null || true
}

is_epmd() { [[ $(readlink "/proc/$1/exe" 2> /dev/null) == */epmd ]]; }

# wipe DIR: ends the node or the cluster in DIR, and removes DIR.
wipe() {
    local nodes node rootfs
    mapfile -t nodes < <(nodes_in "$1")
    end "${nodes[@]}"
    for node in "${nodes[@]}"; do
        # shellcheck disable=SC1091
        . "$node/node"
        # The mount point of a cluster's directory in the tree.
        [ -z "$rootfs" ] || rmdir "$rootfs$1" 2> /dev/null || true
    done
    rm -rf "$1"
}

# Lists the nodes of DIR: itself, or the members of a cluster.
nodes_in() {
    local dir
    for dir in "$1" "$1"/[1-3]; do
        if [ -e "$dir/node" ]; then echo "$dir"; fi
    done
}

# at_once FUNCTION NODE...: applies the function to all nodes at the same time, and fails if one call fails.
at_once() {
    local function=$1 dir pid pids=() status=0
    shift
    for dir; do
        "$function" "$dir" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || status=1; done
    return $status
}

# Kills the nodes of DIR and removes DIR when the owner has ended.
watch_owner() {
    detached exec /usr/bin/setsid "$SELF" guard "$1" "$2" > /dev/null 2>&1
    # It is not a job of this shell, and continues when the start is given up.
    disown $!
}

guard() {
    tail --pid="$2" -f /dev/null
    wipe "$1"
}
