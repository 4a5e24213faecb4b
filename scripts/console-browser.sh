#!/usr/bin/env bash
# The web console in a real browser: every page in the light, in the dark and at the width of a phone, for both roles, with 10,000
# failed jobs; axe-core finds nothing, every action is done, the first view is fast. puppeteer-core and axe-core are installed below
# target/ first; Chromium has to be there (apt-get install chromium). Writes docs/console/*.png.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

cd "$ROOT"
need_rust
command -v npm > /dev/null || die "node and npm are missing"
CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || die "chromium is missing: apt-get install chromium"
scripts/rabbitmq.sh install
HERE=$ROOT/target/console-browser
mkdir -p "$HERE"
if ! [ -d "$HERE/node_modules/axe-core" ] || ! [ -d "$HERE/node_modules/puppeteer-core" ]; then
    say "== installing puppeteer-core and axe-core"
    npm install --silent --no-fund --no-audit --prefix "$HERE" puppeteer-core@24 axe-core@4
fi
# Node looks for packages beside the script, so it is run from a copy.
cp tests/browser/browser.mjs "$HERE/"
exec cargo test --locked --quiet --test browser -- "$(command -v node)" "$HERE/browser.mjs" "$CHROMIUM"
