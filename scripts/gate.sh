#!/usr/bin/env bash
# The gate, step by step: gate.sh fmt | lint | doc | deny | test | test4 ... The same for people (make) and for CI (.ci/run).
# Each step says how long it took; the first that fails ends it.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

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
        # The tests speak last, so that the output ends with their result.
        [[ $step == test* ]] || say "== $step: ok, $((SECONDS - begun)) s"
    done
}

step_fmt() { need_component rustfmt fmt && cargo fmt --check; }

step_lint() { need_component clippy clippy && cargo clippy --locked --all-targets --features bench -- -D warnings; }

step_doc() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps; }

# Licences, bans and sources need no network, but for crates that are not here yet. The advisories are a database that is
# fetched: where that is impossible it is said, and is no failure of this code.
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
    run_tests
}

# The tests that break things mostly wait for a state: one more of them at once than there are cores leaves less of the machine
# idle. Together these are all that `cargo test` runs.
run_tests() {
    cargo test --locked --doc &&
        cargo test --locked --lib --bins --test it --test properties &&
        RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 1))} cargo test --locked --test faults
}

# The tests on the other series of RabbitMQ, from trees of their own. All run, so that one failure does not hide another.
step_test4() {
    local series tree version failed=()
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
