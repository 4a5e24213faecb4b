# shellcheck shell=bash
# Three nodes that are one cluster, and the network between them. For `source`.
#
# The members are in DIR/1, DIR/2 and DIR/3, each a node like any other. They share the cookie and the epmd.

# cluster DIR [options]: starts a cluster and prints DIR/env.
cluster() {
    local dir=$1 i nodes=("$1/1" "$1/2" "$1/3")
    shift
    options "$@"
    mkdir -p "${nodes[@]}"
    bring_up "$dir" "${nodes[@]}"
    inside "${nodes[0]}" "$BIN"/rabbitmqctl -q await_online_nodes 3 --timeout 60 > /dev/null ||
        { end "${nodes[@]}"; die "the three nodes of $dir did not become one cluster"; }
    for i in 1 2 3; do sed -n "s/^\\(url\\|management_url\\)=/\\1$i=/p" "$dir/$i/env"; done > "$dir/env"
    cat "$dir/env"
}

# cluster_settings FIRST NAME: prints the settings of member NAME that a single node does not have. The members join the
# first one, which is up before them, so they never form two clusters. Each also lists itself, so that they join one at
# a time: the lock for joining is on the listed nodes.
cluster_settings() {
    echo "cluster_formation.peer_discovery_backend = classic_config"
    echo "cluster_formation.classic_config.nodes.1 = $1@localhost"
    [ "$1" = "$2" ] || echo "cluster_formation.classic_config.nodes.2 = $2@localhost"
    echo "queue_leader_locator = balanced"
    # From 4.3 on the metadata are in Raft, which needs no such rule: the key is accepted and has no effect. There a
    # member that is cut off keeps listening and confirms nothing.
    case $(rabbitmq_version) in
    3.* | 4.[0-2].*) echo "cluster_partition_handling = pause_minority" ;;
    esac
}

# partition DIR/3: cuts that member off from the others until `heal`, even if it or another is restarted. Two nodes
# connect only if each holds the same cookie for the other's name. So each side gets its own name as the cookie for the
# other; two equal cookies would let them connect. The member sets its cookies and closes its connections in one
# evaluation. The tools have their own names and reach every member.
#
# pause_minority acts when a member loses the others. Up to 4.2, a member that is restarted while cut off serves alone.
# On 4.3 it does not start without a majority: `again` fails after BOOT_SECONDS, and the start continues once it is
# healed.
partition() {
    local dir=$1 others
    siblings "$dir"
    tell "erlang:set_cookie($(names "$dir"), node()), []." "${others[@]}"
    tell "Others = [$(names "${others[@]}")],
        [erlang:set_cookie(Node, node()) || Node <- Others],
        [erlang:disconnect_node(Node) || Node <- Others],
        []." "$dir"
}

# heal DIR/3: restores the common cookie everywhere. The cluster then recovers by itself.
heal() {
    local dir=$1 others
    siblings "$dir"
    tell "[erlang:set_cookie(Node, erlang:get_cookie()) || Node <- [$(names "$dir" "${others[@]}")], Node =/= node()],
        []." "$dir" "${others[@]}"
}

# Sets others to the running members beside DIR.
siblings() {
    local node
    [ -e "$1/node" ] || die "there is no node in $1"
    others=()
    for node in "$(dirname "$1")"/[1-3]; do
        if [ "$node" != "$1" ] && [ -n "$(beam_of "$node")" ]; then others+=("$node"); fi
    done
    [ ${#others[@]} -gt 0 ] || die "$1 has no running siblings"
}

# Prints the Erlang names of nodes, separated by commas.
names() {
    local dir name separator=''
    for dir; do
        # shellcheck disable=SC1091
        . "$dir/node"
        printf "%s'%s@localhost'" "$separator" "$name"
        separator=,
    done
}

# tell EXPRESSION NODE...: evaluates it on each, at the same time. Any answer except the empty list is a failure.
tell() {
    EXPRESSION=$1
    shift
    at_once tell_one "$@"
}

tell_one() {
    local answer
    answer=$(evaluate "$1" "$EXPRESSION") || die "$1 did not evaluate the expression"
    [ "$answer" = "[]" ] || die "$1 answers: $answer"
}

# Prints the version of the installed RabbitMQ, from the name of its folder.
rabbitmq_version() {
    local folder=("$ROOTFS"/usr/lib/rabbitmq/lib/rabbitmq_server-*)
    echo "${folder[0]##*-}"
}
