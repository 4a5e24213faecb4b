#!/usr/bin/env bash
# Feeds all readers of bytes from outside with libFuzzer's inputs: fuzz.sh [SECONDS, 60] [TARGET ...]
# Each target (default: all) runs for that time and prints one line; exits 1 if one crashed. frames-at-a-worker sends
# bad frames to a real worker (tests/frames prints the seed). New inputs stay in fuzz/generated for the next run. An
# input that crashes a target is in fuzz/artifacts; once the fault is fixed, it belongs in fuzz/corpus.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

# No sanitizer: Leadhook has no unsafe code, so the targets look for panics, hangs and floods of memory. Any compiler
# will do (sanitizers need a nightly one).
BUILD=(--sanitizer none)

# Limits of one input: seconds, MiB of memory, and bytes. Longer inputs would slow the search down, and tests/properties
# tests sizes separately.
LIMITS=(-timeout=20 -rss_limit_mb=2048 -max_len=8192)

# This target is not libFuzzer's: it is tests/frames, with a real worker.
WORKER=frames-at-a-worker

main() {
    local seconds=${1:-60}
    [[ $seconds =~ ^[1-9][0-9]*$ ]] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
    cd "$ROOT"
    need_rust
    cargo fuzz --version > /dev/null 2>&1 || cargo install cargo-fuzz --locked
    mkdir -p fuzz/target
    say "building (the first time compiles all libraries: several minutes)"
    nice cargo fuzz build "${BUILD[@]}" 2> fuzz/target/build.log || { cat fuzz/target/build.log >&2; die "the fuzz targets cannot be built"; }
    # The store is read from files, which are in memory if the system has a place for that.
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

# last SED: prints the last match in the log of the target.
last() { sed -n "$1" "$log" | tail -n 1 | grep . || printf '?\n'; }

explain() {
    grep -aE -A 2 'panicked at|ERROR: libFuzzer|^error' "$log" | head -n 12 || true
    printf 'the whole log: %s\n' "$log"
    local input
    input=$(last 's/.*Test unit written to //p')
    printf 'again:         cargo fuzz run %s %s %s\n' "${BUILD[*]}" "$target" "$input"
}

main "$@"
