# Starts and stops a broker for the demo. For `source`.
#
# Sets BROKER (foreign, docker or node) and URLS. On a foreign broker the demo uses its own names, and removes them
# afterwards. The other two are private and are discarded whole.

IMAGE=rabbitmq:4.2-management

# broker_start DIR [--owner PID]: a private broker ends with that process.
broker_start() {
    local dir=$1
    shift
    if [ -n "${LEADHOOK__AMQP__URLS:-}" ]; then
        BROKER=foreign URLS=$LEADHOOK__AMQP__URLS
        note "broker: LEADHOOK__AMQP__URLS, under names that begin with $PREFIX"
    elif docker info > /dev/null 2>&1; then
        BROKER=docker
        echo "$PREFIX" > "$dir/container"
        docker_start "$dir"
    else
        BROKER=node
        node_start "$dir" "$@"
    fi
    echo "$BROKER" > "$dir/broker"
}

node_start() {
    local dir=$1 begun=$SECONDS
    shift
    "$ROOT/scripts/rabbitmq.sh" install
    note "broker: starting a private RabbitMQ (no Docker here, LEADHOOK__AMQP__URLS is not set)"
    "$ROOT/scripts/rabbitmq.sh" start "$dir/node" "$@" > "$dir/node.env"
    URLS=$(sed -n 's/^url=//p' "$dir/node.env")
    MANAGEMENT=$(sed -n 's/^management_url=//p' "$dir/node.env")
    note "broker: up after $((SECONDS - begun)) s"
}

docker_start() {
    local dir=$1 begun=$SECONDS password port
    password=$(od -An -tx1 -N12 /dev/urandom | tr -d ' \n')
    note "broker: starting $IMAGE in Docker (pulled first if it is not there yet)"
    docker run -d --rm --name "$PREFIX" --hostname "$PREFIX" -p 127.0.0.1::5672 -p 127.0.0.1::15672 \
        -e RABBITMQ_DEFAULT_USER=demo -e "RABBITMQ_DEFAULT_PASS=$password" "$IMAGE" > "$dir/docker.log"
    until_true 120 "RabbitMQ in Docker" docker_up
    port=$(docker port "$PREFIX" 5672/tcp | head -n 1)
    URLS=amqp://demo:$password@127.0.0.1:${port##*:}/%2f
    port=$(docker port "$PREFIX" 15672/tcp | head -n 1)
    MANAGEMENT=http://demo:$password@127.0.0.1:${port##*:}
    note "broker: up after $((SECONDS - begun)) s"
}

docker_up() { docker exec "$PREFIX" rabbitmq-diagnostics -q check_port_connectivity 2> /dev/null; }

# broker_stop DIR: removes everything that was started, also after a failure halfway.
broker_stop() {
    local dir=$1 kind=
    if [ -e "$dir/broker" ]; then kind=$(< "$dir/broker"); fi
    if [ "$kind" = foreign ] && [ -e "$dir/env" ] && [ -e "$dir/worker.log" ]; then
        (
            # shellcheck disable=SC1091
            . "$dir/env"
            "$(binary)" demo-queues remove
        ) > "$dir/removed" 2>&1 || note "could not remove the queues and the exchange ${PREFIX}*: $(tail -n 1 "$dir/removed")"
    fi
    if [ -e "$dir/container" ]; then docker rm -f "$(< "$dir/container")" > /dev/null 2>&1 || true; fi
    if [ -e "$dir/node" ]; then "$ROOT/scripts/rabbitmq.sh" wipe "$dir/node"; fi
}
