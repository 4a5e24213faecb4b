# shellcheck shell=bash
# Three nodes that are one cluster, and the cable between them. For `source`.
#
# The members stand in DIR/1, DIR/2 and DIR/3, each a node like any other. They share the cookie and the epmd.

# cluster DIR [options]: prints DIR/env.
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

# cluster_settings FIRST NAME: what member NAME is told beyond a single node's settings. The members join the first one, which
# is up before them, so they can never become two clusters. That each lists itself makes them take turns in joining: the
# lock for it lies on the nodes that are listed.
cluster_settings() {
    echo "cluster_formation.peer_discovery_backend = classic_config"
    echo "cluster_formation.classic_config.nodes.1 = $1@localhost"
    [ "$1" = "$2" ] || echo "cluster_formation.classic_config.nodes.2 = $2@localhost"
    echo "queue_leader_locator = balanced"
    # From 4.3 on the metadata lie in Raft, which needs no such rule: the key is taken and means nothing. A member that is cut
    # off then goes on to listen there, and confirms nothing.
    case $(rabbitmq_version) in
    3.* | 4.[0-2].*) echo "cluster_partition_handling = pause_minority" ;;
    esac
}

# partition DIR/3: cuts that member off from the others, and holds it off until `heal`, also when it or another is started
# again. Two nodes connect only if each holds the same cookie for the other's name. So before the connections are closed, both
# in one breath, each is told another one (its own name: two equal ones would do). The tools have names of their own and
# reach every member.
#
# pause_minority acts when a member loses the others: one that is started again while it is cut off serves alone up to 4.2.
# On 4.3 it does not get up for want of a majority, `again` fails after BOOT_SECONDS, and the start goes on once it is healed.
partition() {
    local dir=$1 others
    siblings "$dir"
    tell "erlang:set_cookie($(names "$dir"), node()), []." "${others[@]}"
    tell "Others = [$(names "${others[@]}")],
        [erlang:set_cookie(Node, node()) || Node <- Others],
        [erlang:disconnect_node(Node) || Node <- Others],
        []." "$dir"
}

# heal DIR/3: every cookie is the common one again. What follows is the cluster's own doing.
heal() {
    local dir=$1 others
    siblings "$dir"
    tell "[erlang:set_cookie(Node, erlang:get_cookie()) || Node <- [$(names "$dir" "${others[@]}")], Node =/= node()],
        []." "$dir" "${others[@]}"
}

# Sets others to the members beside DIR that run.
siblings() {
    local node
    [ -e "$1/node" ] || die "there is no node in $1"
    others=()
    for node in "$(dirname "$1")"/[1-3]; do
        if [ "$node" != "$1" ] && [ -n "$(beam_of "$node")" ]; then others+=("$node"); fi
    done
    [ ${#others[@]} -gt 0 ] || die "$1 has no running siblings"
}

# The Erlang names of nodes, with commas between.
names() {
    local dir name separator=''
    for dir; do
        # shellcheck disable=SC1091
        . "$dir/node"
        printf "%s'%s@localhost'" "$separator" "$name"
        separator=,
    done
}

# tell EXPRESSION NODE...: evaluates it on each, at the same time; an answer other than the empty list is a failure.
tell() {
    EXPRESSION=$1
    shift
    at_once tell_one "$@"
}

tell_one() {
    local answer
    answer=$(evaluate "$1" "$EXPRESSION") || die "$1 was not told"
    [ "$answer" = "[]" ] || die "$1 answers: $answer"
}

# The version that a node started now would be, by the folder it is installed in.
rabbitmq_version() {
    local folder=("$ROOTFS"/usr/lib/rabbitmq/lib/rabbitmq_server-*)
    echo "${folder[0]##*-}"
}
