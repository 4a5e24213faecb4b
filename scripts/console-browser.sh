#!/usr/bin/env bash
# Tests the web console in a real browser, with 10,000 failed jobs: every page in light mode, in dark mode and at the
# width of a phone, for both roles. axe-core must find nothing, every action is performed, and the first view must be
# fast. It drives the release build, because users run that. Installs puppeteer-core and axe-core below target/ first,
# and Chromium if it is missing (Debian, as root). Writes docs/how-to/console/*.png.
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
CHROMIUM=$(browser) || die "chromium was installed but is not in the PATH (on Ubuntu it is a snap): install Google Chrome"
scripts/rabbitmq.sh install
HERE=$ROOT/target/console-browser
mkdir -p "$HERE"
if ! [ -d "$HERE/node_modules/axe-core" ] || ! [ -d "$HERE/node_modules/puppeteer-core" ]; then
    say "== installing puppeteer-core and axe-core"
    npm install --silent --no-fund --no-audit --prefix "$HERE" puppeteer-core@24 axe-core@4
fi
# Node looks for packages beside the script, so a copy of it runs there.
cp tests/browser/browser.mjs "$HERE/"
say "== building the release (the first time some five minutes)"
exec cargo test --locked --release --quiet --test browser -- "$(command -v node)" "$HERE/browser.mjs" "$CHROMIUM"
