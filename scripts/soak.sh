#!/usr/bin/env bash
# Injects faults drawn from a seed, for as long as asked: soak.sh [--minutes N] [--seed N] [--rounds N] [--lanes N]
# [--events N]
# Or: --cuts N | --storm [--rounds N] [--refuse SECONDS] [--seed N] | --poison [--workers N]
# RABBITMQ_ROOTFS names another RabbitMQ (scripts/rabbitmq.sh). For --storm and --poison, LEADHOOK_BIN names another
# binary than the debug build, such as a release build.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/tools.sh
. "$ROOT/scripts/tools.sh"

cd "$ROOT"
need_rust
scripts/rabbitmq.sh install
exec cargo test --locked --quiet --test soak -- "$@"
