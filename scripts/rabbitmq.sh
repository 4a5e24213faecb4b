#!/usr/bin/env bash
# Private RabbitMQ nodes from the distribution's package, on loopback, with their own ports, cookie, data and epmd.
#
#   rabbitmq.sh install                 installs rabbitmq-server (Debian, Ubuntu) if it is missing
#   rabbitmq.sh start DIR [OPTIONS]     starts a node that keeps everything under DIR; prints DIR/env
#   rabbitmq.sh cluster DIR [OPTIONS]   starts a cluster of three in DIR/1, DIR/2 and DIR/3; prints DIR/env
#   rabbitmq.sh stop | kill | again | pause | resume DIR
#                                       stops cleanly, kills (SIGKILL), starts again, SIGSTOP, SIGCONT: a node, a member
#                                       of a cluster (DIR/2), or all members at once (DIR)
#   rabbitmq.sh partition | heal DIR/3  cuts a member off from the others, and undoes it
#   rabbitmq.sh ctl DIR ARGS...         rabbitmqctl against that node
#   rabbitmq.sh eval DIR EXPRESSION     evaluates Erlang on that node: prints its output, then its value
#   rabbitmq.sh wipe DIR                kills what runs there and removes DIR
#   rabbitmq.sh tree DIR 4.0 | 4.3      builds a Debian tree with that RabbitMQ in DIR, if it is not there (needs root)
#
# OPTIONS: --owner PID                  kills and removes everything when that process ends, however it ends
#          --management                 with the management plugin
#          --conf 'KEY = VALUE'         one more line of rabbitmq.conf; may be repeated
#          --dead-letter-retry MS       how often at-least-once dead-lettering retries (180000 by default)
#
# RABBITMQ_ROOTFS names a tree whose RabbitMQ replaces this machine's (needs root). DIR/env holds url and management_url
# for `source`, or a cluster's url1 to url3 and management_url1 to management_url3. DIR/pid holds the node's process id.
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
SELF=$HERE/$(basename "$0")
ROOTFS=${RABBITMQ_ROOTFS:+$(realpath -m "$RABBITMQ_ROOTFS")}

say() { printf '%s\n' "$*" >&2; }
die() { say "rabbitmq.sh: $*"; exit 1; }
usage() { sed -n '2,/^set/{s/^# \{0,1\}//p}' "$SELF" >&2; exit 2; }

# shellcheck source=scripts/rabbitmq/install.sh
. "$HERE/rabbitmq/install.sh"
# shellcheck source=scripts/rabbitmq/node.sh
. "$HERE/rabbitmq/node.sh"
# shellcheck source=scripts/rabbitmq/cluster.sh
. "$HERE/rabbitmq/cluster.sh"
# shellcheck source=scripts/rabbitmq/tree.sh
. "$HERE/rabbitmq/tree.sh"

main() {
    local command=${1:-} dir=${2:-}
    case $command in
    install) install_server; return ;;
    start | cluster | stop | kill | again | pause | resume | partition | heal | ctl | eval | wipe | tree | guard | build_tree) ;;
    *) usage ;;
    esac
    [ -n "$dir" ] || usage
    shift 2
    dir=$(realpath -m "$dir")
    case $command in
    stop) each stop_node "$dir" ;;
    kill) each kill_node "$dir" ;;
    again) each start_again "$dir" ;;
    pause) each pause_node "$dir" ;;
    resume) each resume_node "$dir" ;;
    ctl) inside "$dir" "$BIN"/rabbitmqctl -q "$@" ;;
    eval) evaluate "$dir" "$1" ;;
    *) "$command" "$dir" "$@" ;;
    esac
}

# each FUNCTION DIR: applies the function to the node of DIR, or to all members of the cluster in it.
each() {
    local nodes
    mapfile -t nodes < <(nodes_in "$2")
    [ ${#nodes[@]} -gt 0 ] || die "there is no node in $2"
    at_once "$1" "${nodes[@]}"
}

main "$@"
