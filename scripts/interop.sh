#!/usr/bin/env bash
# Tests a worker's signatures with the official verifiers of Python and JavaScript, and its reading of httpbin's
# answers. All of them are installed below target/ first.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

cd "$ROOT"
need_rust
command -v python3 > /dev/null || die "python3 is missing"
command -v npm > /dev/null || die "node and npm are missing"
scripts/rabbitmq.sh install
HERE=$ROOT/target/interop
mkdir -p "$HERE"
if ! [ -x "$HERE/python/bin/python" ]; then
    say "== installing standardwebhooks and httpbin for Python"
    python3 -m venv "$HERE/python"
    "$HERE/python/bin/pip" install --quiet --disable-pip-version-check standardwebhooks httpbin
fi
# Node looks for packages beside the script, so a copy of it runs there.
if ! [ -d "$HERE/receive/node_modules/standardwebhooks" ]; then
    say "== installing standardwebhooks for JavaScript"
    mkdir -p "$HERE/receive"
    npm install --silent --no-fund --no-audit --prefix "$HERE/receive" standardwebhooks
fi
cp "$ROOT"/tests/interop/receive.* "$HERE/receive/"
exec cargo test --locked --quiet --test interop -- "$HERE/python/bin/python" "$(command -v node)" "$HERE/receive"
