#!/usr/bin/env bash
# Sends lead events through a real RabbitMQ to real HTTP endpoints, on this machine, and leaves no trace.
#
#   demo.sh run     runs everything once and checks the sums; ends by itself
#   demo.sh up      starts the same set-up in .demo/ and keeps it running
#   demo.sh down    ends that set-up
#
# The broker is LEADHOOK__AMQP__URLS if that is set (with the demo's own names), else one in Docker, else a private node
# of the distribution's RabbitMQ. Several demos can run at the same time.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
HERE=$ROOT/.demo
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"
# shellcheck source=scripts/demo/broker.sh
. "$ROOT/scripts/demo/broker.sh"
# shellcheck source=scripts/demo/stage.sh
. "$ROOT/scripts/demo/stage.sh"
# shellcheck source=scripts/demo/summary.sh
. "$ROOT/scripts/demo/summary.sh"

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then COLOUR=yes; else COLOUR=; fi
paint() { if [ -n "$COLOUR" ]; then printf '\033[%sm%s\033[0m' "$1" "$2"; else printf '%s' "$2"; fi; }
good() { paint 32 "$1"; }
bad() { paint 31 "$1"; }
note() { paint 2 "-- $*"; echo; }
heading() { echo; paint 1 "$*"; echo; }

main() {
    local run=${1:-}
    case $run in run | up | down) ;; *) usage ;; esac
    [ "${BASH_VERSINFO[0]}" -ge 4 ] || die "bash 4 or newer is needed (this is $BASH_VERSION)"
    clean_environment
    case $run in
    run) demo_run ;;
    up) demo_up ;;
    down) demo_down say ;;
    esac
}

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }

# Exported settings belong to the user's own worker, not to the demo.
clean_environment() {
    local name
    for name in $(compgen -v LEADHOOK); do
        [ "$name" = LEADHOOK__AMQP__URLS ] || unset "$name"
    done
    PREFIX=leadhook-demo-$(od -An -tx1 -N4 /dev/urandom | tr -d ' \n')
    MANAGEMENT=
}

demo_run() {
    build
    DIR=$(mktemp -d "${TMPDIR:-/tmp}/leadhook-demo.XXXXXX")
    trap 'trap "" INT TERM; tear_down "$DIR"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    local begun=$SECONDS
    broker_start "$DIR" --owner $$
    stage_start "$DIR"
    note "one worker; receivers: crm is healthy, flaky answers 500 to every first attempt, down always answers 404"
    heading "The example event (examples/lead.delivered.json, campaign ABC)"
    publish_example
    until_true 20 "the delivery of the example" settled
    heading "36 made-up events of three campaigns, one without a target, one that is not an event"
    publish_rest
    until_true 60 "the end of all deliveries" settled
    # They print how many requests they got, and their records are complete then.
    receivers_stop "$DIR"
    if summary "$DIR"; then
        heading "$(good "All of it adds up"), $((SECONDS - begun)) s after the build. What to try next"
        next_steps
    else
        heading "$(bad "$WRONG of these do not add up"). The worker's last output"
        tail -n 20 "$DIR/worker.log"
        exit 1
    fi
}

publish() {
    local answer
    answer=$("$(binary)" publish "$@" --json) || { printf '%s\n' "$answer" >&2; die "the broker did not take the events"; }
    # The answer contains a line like `"confirmed": 36,`.
    [[ $answer =~ \"confirmed\":\ ([0-9]+) ]] || die "no count in the answer of leadhook publish"
    PUBLISHED=$((${PUBLISHED:-0} + BASH_REMATCH[1]))
}

publish_example() { publish "$ROOT/examples/lead.delivered.json"; }

# A round of six kinds makes these jobs: ABC 6, DEF 6 + 1 (lead.processed goes to two targets), XYZ 2, and four events
# without a target. 36 events are two rounds of each. The example event, the one for QUIET and the unusable one come on
# top:
EXPECTED="29 9 1 31" # dispatched, no target, rejected, jobs

publish_rest() {
    publish --sample 36 --campaign ABC --campaign DEF --campaign XYZ
    publish --sample 1 --campaign QUIET
    publish "$ROOT/examples/unusable.json"
}

next_steps() {
    local leadhook
    leadhook=$(binary)
    leadhook=${leadhook#"$PWD/"}
    cat << END
  make up        the same set-up, kept running: publish, break receivers, look at failed jobs
  make test      the whole test suite, on brokers of its own
  $leadhook explain --campaign ABC --event lead.delivered
                 where an event goes and why, for the sample store in config/webhooks/
  docs/README.md the tutorial, how-to guides and reference
END
}

tear_down() {
    stage_stop "$1"
    broker_stop "$1"
    rm -rf "$1"
}

demo_up() {
    if everything_alive "$HERE"; then
        note "it is up already"
    else
        build
        demo_down quietly
        mkdir -p "$HERE"
        touch "$HERE/logs"
        echo "$PREFIX" > "$HERE/prefix"
        trap 'trap "" INT TERM; tear_down "$HERE"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        broker_start "$HERE" --management
        stage_start "$HERE"
        # It contains the broker's password.
        [ -z "$MANAGEMENT" ] || (umask 077; echo "$MANAGEMENT" > "$HERE/management")
        publish_example
        publish_rest
        trap - EXIT INT TERM
    fi
    how_to_talk
}

everything_alive() {
    local name
    [ -e "$1/env" ] || return 1
    for name in worker crm flaky down; do alive "$1/$name.pid" || return 1; done
}

how_to_talk() {
    local shown=.demo
    [ "$PWD" = "$ROOT" ] || shown=$HERE
    heading "Leadhook is up"
    echo "  receivers    $(url_of "$HERE" crm) (crm, healthy), $(url_of "$HERE" flaky) (flaky), $(url_of "$HERE" down) (down)"
    echo "  admin port   http://$(sed -n 's/^listen = "\(.*\)"/\1/p' "$HERE/leadhook.toml") (/livez, /readyz, /metrics)"
    [ ! -e "$HERE/management" ] || echo "  RabbitMQ     $(< "$HERE/management") (management UI)"
    echo "  store        $shown/webhooks.yaml (change it: the worker follows)"
    heading "Talk to it"
    echo "  source $shown/env                           settings of this set-up, for this shell"
    echo "  alias leadhook=$(binary)"
    echo "  leadhook publish examples/lead.delivered.json"
    echo "  leadhook publish --sample 100 --campaign ABC --campaign XYZ"
    echo "  leadhook explain --campaign ABC --event lead.failed"
    echo "  leadhook health"
    echo "  leadhook topology                           the queues, and what waits on them"
    heading "Be support: the receiver 'down' never answers well, so the jobs of globex fail"
    echo "  leadhook failed list                        after ten seconds; then failed show ID"
    echo "  sed -i 's|url: .*/globex|url: $(url_of "$HERE" flaky)/globex|' $shown/webhooks.yaml     repair the URL"
    echo "  leadhook failed replay --all"
    heading "Or"
    echo "  tail -f $shown/*.log                        what the receivers get, what the worker does"
    echo "  make down                                  ends it and removes .demo/"
}

demo_down() {
    [ -e "$HERE" ] || { [ "$1" != say ] || note "nothing is up"; return 0; }
    if [ -e "$HERE/prefix" ]; then PREFIX=$(< "$HERE/prefix"); fi
    tear_down "$HERE"
}

main "$@"
