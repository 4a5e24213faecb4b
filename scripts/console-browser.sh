#!/usr/bin/env bash
# The web console in a real browser: every page in the light, in the dark and at the width of a phone, for both roles, with 10,000
# failed jobs; axe-core finds nothing, every action is done, the first view is fast. The release build is driven: people are
# promised what they run. puppeteer-core and axe-core are installed below target/ first, Chromium (Debian, as root) if it is missing.
# Writes docs/how-to/console/*.png.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

cd "$ROOT"
need_rust
command -v npm > /dev/null || die "node and npm are missing"
browser() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! browser > /dev/null; then
    command -v apt-get > /dev/null || die "Chromium is missing, and this is not Debian: install it from https://www.chromium.org, or Google Chrome"
    [ "$(id -u)" = 0 ] || die "Chromium is missing and needs root to install: apt-get install chromium"
    say "== installing chromium from the distribution"
    apt-get update -qq >&2 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2 || die "installing chromium failed"
fi
CHROMIUM=$(browser) || die "chromium was installed, and is not there: on Ubuntu it is a snap; install Google Chrome"
scripts/rabbitmq.sh install
HERE=$ROOT/target/console-browser
mkdir -p "$HERE"
if ! [ -d "$HERE/node_modules/axe-core" ] || ! [ -d "$HERE/node_modules/puppeteer-core" ]; then
    say "== installing puppeteer-core and axe-core"
    npm install --silent --no-fund --no-audit --prefix "$HERE" puppeteer-core@24 axe-core@4
fi
# Node looks for packages beside the script, so it is run from a copy.
cp tests/browser/browser.mjs "$HERE/"
say "== building the release (the first time some five minutes)"
exec cargo test --locked --release --quiet --test browser -- "$(command -v node)" "$HERE/browser.mjs" "$CHROMIUM"
