#!/usr/bin/env bash
# Runs the gate step by step: gate.sh fmt | lint | doc | deny | test | test4 ... Both make and CI (.ci/run) use it.
# Each step prints how long it took. The first one that fails ends the gate.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

# The table of promises and the tests that prove them.
GUARANTEES=$ROOT/docs/contributing/guarantees-and-tests.md

main() {
    [ $# -gt 0 ] || { sed -n '2,3s/^# \{0,1\}//p' "$0"; exit 2; }
    cd "$ROOT"
    need_rust
    local step begun
    for step in "$@"; do
        case $step in fmt | lint | doc | deny | test | test4) ;; *) die "gate.sh knows no step $step" ;; esac
        begun=$SECONDS
        say "== $step"
        "step_$step"
        # The tests print last, so that the output ends with their result.
        [[ $step == test* ]] || say "== $step: ok, $((SECONDS - begun)) s"
    done
}

step_fmt() { need_component rustfmt fmt && cargo fmt --check; }

step_lint() { need_component clippy clippy && cargo clippy --locked --all-targets --features bench -- -D warnings; }

step_doc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps; }

# Licences, bans and sources need no network, except for crates that are not downloaded yet. The advisory database must
# be fetched. If that is impossible, this step says so and does not fail.
step_deny() {
    if ! cargo deny --version > /dev/null 2>&1; then
        say "SKIPPED: cargo-deny is not installed (cargo install cargo-deny --locked), so licences, bans and advisories were not checked"
        return 0
    fi
    cargo deny --locked check licenses bans sources
    local told
    if told=$(cargo deny --locked check advisories 2>&1); then
        printf '%s\n' "$told" | tail -n 1 >&2
    elif grep -qiE 'failed to (fetch|clone|acquire|open|load|sync)|advisory database.*(fetch|clone)|network|could not resolve' <<< "$told" &&
        ! grep -qE 'RUSTSEC-[0-9]+-[0-9]+' <<< "$told"; then
        say "NOT DONE: the advisory database cannot be fetched from here, so known vulnerabilities were not looked for:"
        printf '%s\n' "$told" | tail -n 5 >&2
    else
        printf '%s\n' "$told" >&2
        return 1
    fi
}

step_test() {
    "$ROOT/scripts/rabbitmq.sh" install
    "$ROOT/scripts/languages.sh"
    if [ -n "${FAST:-}" ]; then run_fast; else run_tests; fi
}

# For the inner loop: unit tests without the simulation of the limits, property tests, and for each guarantee the first
# test on RabbitMQ in its row. This takes a minute and a half. Tests that break brokers, workers and networks run only
# in the whole gate.
run_fast() {
    local names
    mapfile -t names < <(sed -n 's/^|[^|]*|[^`|]*`tests\/it\/\([a-z_\/]*\)\.rs::\([a-z0-9_]*\)`.*/\1::\2/p' "$GUARANTEES" |
        sed 's/\/mod::/::/; s/\//::/g' | sort -u)
    [ ${#names[@]} -gt 20 ] || die "$GUARANTEES names only ${#names[@]} tests"
    cargo test --locked --no-run &&
        beside "cargo test --locked --lib --test properties -- --skip simulation" \
            on_brokers 4 --test it -- --exact "${names[@]}"
}

# Runs everything that `cargo test` runs. The tests that need the processors run first, alone. The tests on RabbitMQ
# mostly wait for a state. So both of their programs run at once, with more concurrent tests than there are cores.
run_tests() {
    cargo test --locked --no-run &&
        cargo test --locked --doc &&
        cargo test --locked --lib --bins --test properties &&
        beside "on_brokers 2 --test it" on_brokers 2 --test faults
}

# on_brokers TESTS-FOR-EACH-CORE ARGS-OF-CARGO-TEST...
on_brokers() {
    RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($1 * $(nproc)))} TMPDIR=$(scratch) cargo test --locked "${@:2}"
}

# Prints the directory for the data of brokers. In memory, if there is room, a quorum queue is declared in two thirds of
# the time, and the tests declare some ten thousand. Data that survives a killed broker survives there as well.
scratch() {
    local room memory
    room=$(df --output=avail --block-size=1G /dev/shm 2> /dev/null | tail -n 1)
    memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2> /dev/null)
    # A RabbitMQ of another tree (RABBITMQ_ROOTFS) does not see /dev/shm.
    if [ -z "${TMPDIR:-}${RABBITMQ_ROOTFS:-}" ] && [ -w /dev/shm ] && [ "${room:-0}" -ge 4 ] && [ "${memory:-0}" -ge 6 ]; then
        echo /dev/shm
    else
        echo "${TMPDIR:-/tmp}"
    fi
}

# beside "COMMAND" COMMAND ...: runs both at once. The second prints directly; the output of the first follows.
beside() {
    local said failed=0 first
    said=$(mktemp)
    $1 > "$said" 2>&1 &
    first=$!
    "${@:2}" || failed=1
    wait $first || failed=1
    cat "$said"
    rm -f "$said"
    return $failed
}

# Runs the tests on the other series of RabbitMQ, each from its own tree. All run, so that one failure does not hide
# another.
step_test4() {
    local series tree version failed=()
    "$ROOT/scripts/languages.sh"
    for series in 4.0 4.3; do
        tree=$ROOT/target/rabbitmq/$series
        version=$("$ROOT/scripts/rabbitmq.sh" tree "$tree" "$series")
        say "== on RabbitMQ ${version#version=}"
        RABBITMQ_ROOTFS=$tree run_tests || failed+=("${version#version=}")
    done
    [ ${#failed[@]} = 0 ] || die "the tests failed on RabbitMQ ${failed[*]}"
}

# need_component NAME SUBCOMMAND
need_component() {
    cargo "$2" --version > /dev/null 2>&1 || die "cargo $2 is missing: rustup component add $1"
}

main "$@"
