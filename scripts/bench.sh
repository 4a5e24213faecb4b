#!/usr/bin/env bash
# Runs the benchmark in the release profile: bench.sh [--cases A,B] [--runs N] [--quick]
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

cd "$ROOT"
need_rust
scripts/rabbitmq.sh install
cargo build --locked --release --quiet --features bench
exec target/release/bench run "$@"
