#!/usr/bin/env bash
# Runs the tests that need the steering programs: as root, in network and mount namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "kernel.sh: needs root" >&2; exit 1; }

tests=$(cargo test --locked --test kernel --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/kernel-[^"]*\)".*/\1/p')
export PORTCULLIS_BPFFS=/run/portcullis-bpffs
mkdir -p "$PORTCULLIS_BPFFS"
# One after the other: each attaches its programs to the same namespace.
exec unshare --net --mount sh -euc '
  mount -t bpf bpf "$PORTCULLIS_BPFFS"
  ip link set lo up
  ip address add 192.0.2.1/32 dev lo
  ip address add 2001:db8::1/128 dev lo nodad
  exec "$@"
' sh "$tests" --ignored --test-threads=1 "$@"
