#!/usr/bin/env bash
# Feeds everything that reads bytes from strangers with inputs that libFuzzer makes: fuzz.sh [SECONDS, 60] [TARGET ...]
# First a real worker is sent bad frames for so long (target "frames-at-a-worker"; tests/frames says the seed). Each target (all, if none is named) runs for so long, and gets one line; exits 1 when one of them crashed. What a run
# finds on its way is kept in fuzz/generated and taken up by the next; an input that crashes lies in fuzz/artifacts, and
# belongs into fuzz/corpus once it is repaired.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

# Without a sanitizer: Leadhook has no unsafe code, so that what is looked for is a panic, a hang or a flood of memory, and
# any compiler will do (sanitizers need a nightly one).
BUILD=(--sanitizer none)

# Seconds and MiB that one input may take. Inputs have at most so many bytes: more would slow the search down, and sizes
# have tests of their own in tests/properties.
LIMITS=(-timeout=20 -rss_limit_mb=2048 -max_len=8192)

# Not libFuzzer's: tests/frames, against a real worker.
WORKER=frames-at-a-worker

main() {
    local seconds=${1:-60}
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
    cd "$ROOT"
    need_rust
    cargo fuzz --version > /dev/null 2>&1 || cargo install cargo-fuzz --locked
    mkdir -p fuzz/target
    say "building (the first time compiles all libraries anew: several minutes)"
    nice cargo fuzz build "${BUILD[@]}" 2> fuzz/target/build.log || { cat fuzz/target/build.log >&2; die "the fuzz targets cannot be built"; }
    # The store is read from files: out of memory, where the system has a place for that.
    local base=/dev/shm
    [ -d "$base" ] && [ -w "$base" ] || base=${TMPDIR:-/tmp}
    SCRATCH=$(mktemp -d "$base/leadhook-fuzz.XXXXXX")
    trap 'rm -rf "$SCRATCH"' EXIT
    export TMPDIR=$SCRATCH
    local target targets crashed=0
    mapfile -t targets < <(printf '%s\n' "$WORKER" && cargo fuzz list)
    [ $# -lt 2 ] || targets=("${@:2}")
    for target in "${targets[@]}"; do
        if [ "$target" = "$WORKER" ]; then
            nice cargo test --locked --quiet --test frames -- --seconds "$seconds" || crashed=1
            continue
        fi
        fuzz "$target" "$seconds" || crashed=1
    done
    return "$crashed"
}

# fuzz TARGET SECONDS
fuzz() {
    local target=$1 log=fuzz/target/$1.log result="no crash" code=0
    mkdir -p "fuzz/generated/$target"
    nice cargo fuzz run "${BUILD[@]}" "$target" "fuzz/generated/$target" "fuzz/corpus/$target" -- \
        "${LIMITS[@]}" -max_total_time="$2" -print_final_stats=1 > "$log" 2>&1 || code=$?
    [ "$code" = 0 ] || result="CRASHED"
    printf '%-12s %9s executions, %6s places covered, %5s new inputs (%s in all), %s\n' "$target" \
        "$(last 's/^stat::number_of_executed_units: *//p')" "$(last 's/.* cov: \([0-9]*\) .*/\1/p')" \
        "$(last 's/^stat::new_units_added: *//p')" "$(last 's/.* corp: \([0-9]*\)\/.*/\1/p')" "$result"
    [ "$code" = 0 ] || explain >&2
    return "$code"
}

# last SED: what it finds in the log of the target, the last time.
last() { sed -n "$1" "$log" | tail -n 1 | grep . || printf '?\n'; }

explain() {
    grep -aE -A 2 'panicked at|ERROR: libFuzzer|^error' "$log" | head -n 12 || true
    printf 'the whole log: %s\n' "$log"
    local input
    input=$(last 's/.*Test unit written to //p')
    printf 'again:         cargo fuzz run %s %s %s\n' "${BUILD[*]}" "$target" "$input"
}

main "$@"
