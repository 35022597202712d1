#!/usr/bin/env bash
# tests/soak.sh HOURS [SECONDS_A_MINUTE]: runs a gateway under mixed load with checked bytes, a reload and a revoked client
# each minute, an upgrade each ten minutes, an upstream that flaps and faults, and prints the figures. A minute may be made
# shorter, so that as much happens in less time. SOAK_PROFILE= takes the debug build. It ends by itself and fails if any client lost a connection or a byte.
set -euo pipefail
cd "$(dirname "$0")/.."
hours=${1:?usage: tests/soak.sh HOURS [SECONDS_A_MINUTE]}
PORTCULLIS_SOAK_SECONDS=$(awk "BEGIN { printf \"%d\", $hours * 3600 }")
export PORTCULLIS_SOAK_SECONDS PORTCULLIS_SOAK_MINUTE=${2:-60}
exec cargo test --locked ${SOAK_PROFILE---release} -p portcullis --test promises soak:: -- --ignored --nocapture
