#!/usr/bin/env bash
# Installs the languages of the samples in examples/receive/ from the distribution, if they are missing: Python, Node
# and PHP (Debian, Ubuntu). The test of the samples needs all three.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

missing=()
command -v python3 > /dev/null || missing+=(python3)
command -v node > /dev/null || missing+=(nodejs)
command -v php > /dev/null || missing+=(php-cli)
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get > /dev/null || die "missing: ${missing[*]}. This is not Debian or Ubuntu: install them by hand"
sudo=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || die "missing, and installing needs root: apt-get install ${missing[*]}"
    sudo=(sudo)
fi
say "installing from the distribution: ${missing[*]}"
"${sudo[@]}" apt-get update -qq >&2 || true
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
