#!/usr/bin/env bash
# Builds the image, starts docker-compose.yml and tests the promises of its comments: deliveries, a failed job, three
# workers, a restart of the broker, and a stop within the grace period. Containers must not run as root, and must have
# no capabilities and no writable file system.
#
# Needs Docker with Docker Compose 2.24 or newer, or Podman with podman-compose 1.1 or newer. Docker takes precedence.
# Without access to an image registry, the engine must already hold the images that Dockerfile and docker-compose.yml
# name. COMPOSE_TEST_BUILD_NETWORK=host lets the build use this machine's network if containers cannot reach the crate
# registry.
#
# The test works on a copy of the files, under its own project name and image tag, and never reads .env. It removes
# everything it made, except the engine's build cache, with which the next build takes seconds. After an interrupted
# build, Podman leaves a container, which `podman ps --all --external` lists.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

# Seconds before the receiver `slow` answers. This is longer than the 10 s after which engines kill by default, and long
# enough to inspect a worker first.
SLOW=40
# Limit of the wait for a state, in seconds. On a busy machine each check takes some seconds.
PATIENCE=300

main() {
    cd "$ROOT"
    find_engine
    # Variables of a user's own set-up would change what Compose reads.
    unset COMPOSE_FILE COMPOSE_PROJECT_NAME COMPOSE_PROFILES COMPOSE_ENV_FILES RABBITMQ_PASSWORD
    CHECKS=0 FAILED=0 RUNNING=
    PROJECT=leadhook-test-$(random 4)
    export LEADHOOK_IMAGE=$PROJECT:test
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/leadhook-compose.XXXXXX")
    LOG=$DIR/log
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    COMPOSE+=(-p "$PROJECT" -f "$DIR/project/docker-compose.yml" -f "$DIR/override.yml")
    copy_files
    part "the image" build_image
    part "the start" start
    part "user, capabilities and file system" confinement
    part "deliveries and failed jobs" deliveries
    part "three workers" three_workers
    part "a restart of the broker" broker_restart
    part "a stop within the grace period" graceful_stop
    DONE=yes
}

# Sets ENGINE, and COMPOSE to the words of its command.
find_engine() {
    local version
    # Without a server the answer is empty. Podman under the name of `docker` does not know this field.
    version=$(timeout 60 docker info --format '{{.ServerVersion}}' 2> /dev/null) || version=
    if [ -n "$version" ] && docker compose version > /dev/null 2>&1; then
        ENGINE=docker COMPOSE=(docker compose)
        echo "== Docker $version with Docker Compose $(docker compose version --short)"
    elif command -v podman > /dev/null && command -v podman-compose > /dev/null; then
        ENGINE=podman COMPOSE=(podman-compose --in-pod=false)
        # podman-compose does not know the network of a build.
        [ -z "${COMPOSE_TEST_BUILD_NETWORK:-}" ] || COMPOSE+=("--podman-build-args=--network=$COMPOSE_TEST_BUILD_NETWORK")
        echo "== $(podman --version) with $(command -v podman-compose), since no Docker engine with Docker Compose answers"
    else
        die "no container engine: this needs Docker with Docker Compose 2.24 or newer (see docker info, docker compose version),
or Podman with podman-compose 1.1 or newer in the PATH"
    fi
}

random() { od -An -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

# Copies the files that the image and the set-up are made of, with a .env and an organization for this test.
copy_files() {
    mkdir "$DIR/project"
    cp -Rp .cargo .dockerignore Cargo.toml Cargo.lock Dockerfile docker-compose.yml config src "$DIR/project"
    # Another user reads config/ in the container, whatever umask these files were made with.
    chmod -R a+rX "$DIR/project/config"
    SECRET=whsec_$(head -c 24 /dev/urandom | base64)
    printf '%s\n' "RABBITMQ_PASSWORD=$(random 12)" "WEBHOOK_TEST_SECRET=$SECRET" > "$DIR/project/.env"
    cat > "$DIR/project/config/webhooks/test.yaml" << 'END'
organizations:
  test:
    webhook: { url: "http://receiver:8080/test", events: "*" }
    campaigns:
      FAST: {}
      SLOW:
        override: true
        webhook: { url: "http://slow:8080/slow", events: "*", timeout: 120, signing_secrets: ["${WEBHOOK_TEST_SECRET}"] }
      # The address guard refuses loopback, so these deliveries fail at their first attempt.
      FORBIDDEN:
        override: true
        webhook: { url: "http://127.0.0.1:9/", events: "*" }
END
    override > "$DIR/override.yml"
}

# override [NAME_SERVER]: prints the changes of this test to docker-compose.yml.
override() {
    cat << END
services:
  worker:
    environment: { LEADHOOK__EGRESS__ALLOW: "receiver,slow" }
${COMPOSE_TEST_BUILD_NETWORK:+    build: { context: ., network: $COMPOSE_TEST_BUILD_NETWORK \}}
${1:+    dns: ["$1"]}
  slow:
    image: $LEADHOOK_IMAGE
    pull_policy: never
    command: ["listen", "--bind", "0.0.0.0", "--respond", "200@${SLOW}s"]
    environment: { LEADHOOK_LISTEN_SECRETS: "$SECRET" }
    stop_grace_period: 5s
END
}

build_image() {
    # Docker refuses to build one image for two services, but only while that image does not exist. So this counts as
    # well.
    check "one service builds the image" 1 "$(grep -c '^ *build:' docker-compose.yml)"
    echo "   a release build: without the engine's build cache it takes many minutes"
    LIMIT=7200 compose build || die "the image cannot be built"
    # podman-compose reports success for a build that was killed.
    check "the image is built" "$LEADHOOK_IMAGE" "$(engine images --format '{{.Repository}}:{{.Tag}}' "$LEADHOOK_IMAGE" | sed 's#^localhost/##')"
}

start() {
    # In Podman's network, containers have that network's name server and also those of this machine. Leadhook asks two
    # servers at once and believes the second one's "no such name", so here the worker gets only the first one. Remove
    # this when Leadhook asks name servers in turn.
    if [ "$ENGINE" = podman ]; then
        compose up -d rabbitmq || die "the broker cannot be started"
        override "$(engine network inspect "${PROJECT}_default" | sed -n 's/.*"gateway": "\(.*\)".*/\1/p' | head -n 1)" > "$DIR/override.yml"
    fi
    compose up -d --build --wait --wait-timeout 600 || die "docker-compose.yml cannot be started"
    reach "the broker is healthy" healthy health rabbitmq 1
    reach "the worker is healthy" healthy health worker 1
    reach "the worker is ready" ready readiness 1
}

# Checks the kernel's data about the first process of a container.
confinement() {
    local service seen
    for service in worker receiver; do
        seen=$(look_into "$(container "$service" 1)")
        check "the $service runs as user 65532" "65532 65532 65532 65532" "$(ids Uid <<< "$seen")"
        check "the $service runs as group 65532" "65532 65532 65532 65532" "$(ids Gid <<< "$seen")"
        check "the $service has no capabilities" "0000000000000000" "$(awk '/^Cap/ { print $2 }' <<< "$seen" | sort -u)"
        check "the $service cannot gain privileges" 1 "$(awk '$1 == "NoNewPrivs:" { print $2 }' <<< "$seen")"
        check "the root file system of the $service is read-only" ro "$(mode_of / <<< "$seen")"
    done
    check "config/ is read-only for the worker" ro "$(look_into "$(container worker 1)" | mode_of /leadhook/config)"
}

# The image has no shell and no cat, so a container of the broker's image inspects the processes of another one.
look_into() {
    engine run --rm --label "com.docker.compose.project=$PROJECT" --network none --pid "container:$1" --entrypoint cat \
        "$(engine inspect --format '{{.Config.Image}}' "$(container rabbitmq 1)")" /proc/1/status /proc/1/mountinfo
}

# ids Uid|Gid: real, effective, saved and file system id.
ids() { awk -v key="$1:" '$1 == key { print $2, $3, $4, $5 }'; }

# mode_of PATH: ro or rw.
mode_of() { awk -v path="$1" '$5 == path { print substr($6, 1, 2) }'; }

deliveries() {
    check "the sample events of the Compose file are published" 12 "$(publish 12 --campaign ABC --campaign XYZ)"
    reach "the receiver gets deliveries of the sample store" "/acme /acme/ABC /globex/crm /globex/warehouse" sample_paths
    check "6 events for one target are published" 6 "$(publish 6 --campaign FAST)"
    reach "each is delivered once" "6 requests, 6 first attempts, 0 duplicates" requests receiver /test
    check "2 events for a forbidden address are published" 2 "$(publish 2 --campaign FORBIDDEN)"
    reach "both jobs fail, and say why" "2 failed, 2 forbidden_address" failed_jobs
}

three_workers() {
    local first number
    first=$(container worker 1)
    compose up -d --scale worker=3 || die "the worker cannot be scaled"
    check "the first worker is still the same container" "$first" "$(container worker 1)"
    for number in 1 2 3; do
        reach "worker $number is healthy" healthy health worker $number
        reach "worker $number is ready" ready readiness $number
    done
    check "300 events are published" 300 "$(publish 300 --campaign FAST)"
    reach "each is delivered once" "306 requests, 306 first attempts, 0 duplicates" requests receiver /test
    for number in 1 2 3; do
        check "worker $number took part" yes "$(took_part $number)"
    done
    check "another container reaches the admin port of worker 3" alive "$(live_at "$(address worker 3)")"
}

broker_restart() {
    local before number
    before=$(started)
    compose restart rabbitmq || die "the broker cannot be restarted"
    reach "the broker is healthy again" healthy health rabbitmq 1
    for number in 1 2 3; do
        reach "worker $number is ready again" ready readiness $number
    done
    check "no worker was restarted" "$before" "$(started)"
    check "the broker kept the failed jobs" "2 failed, 2 forbidden_address" "$(failed_jobs)"
    check "6 more events are published" 6 "$(publish 6 --campaign FAST)"
    reach "each is delivered once" "312 requests, 312 first attempts, 0 duplicates" requests receiver /test
}

# `stop worker` stops all three with Docker Compose. podman-compose forgets --scale and stops only the first one.
graceful_stop() {
    local begun id state
    check "12 events for a slow receiver are published" 12 "$(publish 12 --campaign SLOW)"
    reach "worker 1 has attempts in flight" yes has_slow_attempts 1
    begun=$SECONDS
    compose stop worker || die "the worker cannot be stopped"
    echo "   stopped after $((SECONDS - begun)) s"
    check "worker 1 ended by itself" "exited 0" "$(state_of "$(container worker 1)")"
    for id in $(containers worker); do
        state=$(state_of "$id")
        [ "$state" = "running 0" ] || check "a stopped worker ended by itself" "exited 0" "$state"
    done
    compose up -d --scale worker=3 || die "the workers cannot be started again"
    reach "nothing waits on the queues" 0 waiting
    check "each is delivered once" "12 requests, 12 first attempts, 0 duplicates" "$(requests slow /slow)"
    check "each is signed with the secret from .env" 12 "$(log_of slow | grep -c 'POST /slow .* signature verified')"
}

# part NAME COMMAND: runs the command and prints how long it took.
part() {
    local begun=$SECONDS
    echo "== $1"
    "$2"
    echo "== $1: $((SECONDS - begun)) s"
}

# check WHAT EXPECTED FOUND
check() {
    CHECKS=$((CHECKS + 1))
    if [ "$2" = "$3" ]; then
        echo "ok: $1"
    else
        FAILED=$((FAILED + 1))
        echo "FAILED: $1: expected \`$2\`, found \`$3\`"
    fi
}

# reach WHAT EXPECTED COMMAND...: waits until the command prints the expected text.
reach() {
    local deadline=$((SECONDS + PATIENCE)) what=$1 expected=$2 found
    shift 2
    until found=$("$@" 2>&1) || true; [ "$found" = "$expected" ] || [ $SECONDS -ge $deadline ]; do sleep 0.2; done
    [ "$found" = "$expected" ] || what+=" within $PATIENCE s"
    check "$what" "$expected" "$found"
}

# compose WORDS...: runs a command, with its output in the log. It runs in the background, so that a signal does not
# wait for it.
compose() {
    local status=0
    printf '\n$ compose %s\n' "$*" >> "$LOG"
    timeout "${LIMIT:-900}" "${COMPOSE[@]}" "$@" < /dev/null >> "$LOG" 2>&1 &
    RUNNING=$!
    wait "$RUNNING" || status=$?
    RUNNING=
    return $status
}

# once WORDS...: runs one command in a new container of the worker's service.
once() {
    printf '\n$ compose run %s\n' "$*" >> "$LOG"
    timeout 600 "${COMPOSE[@]}" run --rm -T "$@" < /dev/null 2>> "$LOG"
}

engine() { timeout --foreground 300 "$ENGINE" "$@"; }

# List the containers of a service, ordered by number, and print one of them.
containers() {
    engine ps -a --filter "label=com.docker.compose.project=$PROJECT" --filter "label=com.docker.compose.service=$1" \
        --format '{{.Names}} {{.ID}}' | sort -V | cut -d ' ' -f 2
}
container() { containers "$1" | sed -n "$2p"; }

leadhook() {
    local number=$1
    shift
    engine exec "$(container worker "$number")" /usr/local/bin/leadhook "$@"
}

# health SERVICE NUMBER: with Podman, this triggers the check, because Podman without systemd never does.
health() {
    local id
    id=$(container "$1" "$2")
    case $ENGINE in
    docker) engine inspect --format '{{.State.Health.Status}}' "$id" ;;
    podman) engine healthcheck run "$id" && echo healthy ;;
    esac
}

readiness() { if leadhook "$1" health > "$DIR/answer"; then echo ready; else cat "$DIR/answer"; fi; }

# publish N WORDS...: prints how many events were confirmed.
publish() {
    local count=$1
    shift
    once worker publish --sample "$count" "$@" --json | sed -n 's/.*"confirmed": *\([0-9]*\).*/\1/p'
}

log_of() { engine logs "$(container "$1" 1)" 2>&1; }

# requests SERVICE PATH: counts the requests of a receiver on a path.
requests() {
    log_of "$1" | awk -v path="$2" '$2 == "POST" && $3 == path { all++; first += / attempt 1 /; again += / duplicate / }
        END { printf "%d requests, %d first attempts, %d duplicates\n", all, first, again }'
}

sample_paths() { log_of receiver | awk '$2 == "POST" && $3 != "/test" { print $3 }' | sort -u | paste -s -d ' '; }

failed_jobs() {
    leadhook 1 failed list --no-log --json |
        awk '/"target": "test\/FORBIDDEN"/ { all++ } /"reason": "forbidden_address"/ { why++ } END { printf "%d failed, %d forbidden_address\n", all, why }'
}

took_part() { if leadhook "$1" targets --json | grep -q '"http://receiver:8080"'; then echo yes; else echo no; fi; }

has_slow_attempts() {
    leadhook "$1" targets --json |
        awk '/"origin"/ { slow = /slow:8080/ } /"in_flight"/ && slow { n = $2 + 0 } END { print(n > 0 ? "yes" : "no") }'
}

address() { engine inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container "$1" "$2")"; }

live_at() {
    if once -e "LEADHOOK__ADMIN__LISTEN=$1:9464" worker health --live >> "$LOG"; then echo alive; else echo dead; fi
}

state_of() { engine inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$1"; }

started() { containers worker | while read -r id; do engine inspect --format '{{.State.StartedAt}}' "$id"; done; }

# Counts messages on all queues except those that keep messages.
waiting() {
    engine exec "$(container rabbitmq 1)" rabbitmqctl -q list_queues --no-table-headers name messages |
        awk '$1 !~ /\.(failed|rejected|unreadable|log)$/ { n += $2 } END { print n + 0 }'
}

clean_up() {
    local status=$? left
    trap '' INT TERM
    # `timeout` passes the signal on to everything that it started.
    if [ -n "$RUNNING" ]; then { kill "$RUNNING"; wait "$RUNNING"; } || true; fi
    if [ $status != 0 ] || [ $FAILED != 0 ]; then explain; fi
    # Repeated, because Podman refuses to remove a container before those that depend on it, and a busy engine may need
    # longer.
    for _ in 1 2 3; do
        remove
        left=$(made_by_us)
        [ -n "$left" ] || break
    done
    rm -rf "$DIR"
    check "everything is removed" "" "$left"
    if [ "${DONE:-}" != yes ]; then
        [ $status != 0 ] || status=1
        echo "== ended early, after $CHECKS checks"
    elif [ $FAILED = 0 ]; then
        echo "== all $CHECKS checks are ok, $SECONDS s"
    else
        echo "== $FAILED of $CHECKS checks failed, $SECONDS s"
        status=1
    fi
    exit $status
}

# Prints the last output of engine and workers.
explain() {
    echo "== the last output of $ENGINE"
    tail -n 30 "$LOG" 2> /dev/null || true
    for id in $(containers worker); do
        echo "== the last output of worker $id"
        engine logs --tail 5 "$id" 2>&1 || true
    done
}

# Removes by label and not with `down`: podman-compose's `down` forgets --scale, and a broken Compose file would stop
# it.
remove() {
    local label="label=com.docker.compose.project=$PROJECT" names
    names=$(engine ps -aq --filter "$label")
    # shellcheck disable=SC2086
    [ -z "$names" ] || { engine kill $names; engine rm -f -v $names; } > /dev/null 2>&1 || true
    names=$(engine network ls -q --filter "$label")
    # shellcheck disable=SC2086
    [ -z "$names" ] || engine network rm $names > /dev/null || true
    names=$(engine volume ls -q --filter "$label")
    # shellcheck disable=SC2086
    [ -z "$names" ] || engine volume rm $names > /dev/null || true
    [ -z "$(engine images -q "$LEADHOOK_IMAGE")" ] || engine rmi "$LEADHOOK_IMAGE" > /dev/null || true
}

made_by_us() {
    local label="label=com.docker.compose.project=$PROJECT"
    {
        engine ps -aq --filter "$label"
        engine network ls -q --filter "$label"
        engine volume ls -q --filter "$label"
        engine images -q "$LEADHOOK_IMAGE"
    } | paste -s -d ' '
}

main
