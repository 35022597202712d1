#!/usr/bin/env bash
# Runs the tests of steering: as root, in network and mount namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "steering.sh: needs root" >&2; exit 1; }

tests=$(cargo test --locked -p portcullis --test promises --no-run --message-format=json 2>/dev/null |
  sed -n 's/.*"executable":"\([^"]*\/promises-[^"]*\)".*/\1/p')
export PORTCULLIS_BPFFS=/run/portcullis-bpffs
mkdir -p "$PORTCULLIS_BPFFS"
cd server
# One after the other: each steers in the same namespace.
exec unshare --net --mount sh -euc '
  mount -t bpf bpf "$PORTCULLIS_BPFFS"
  chmod 755 "$PORTCULLIS_BPFFS"
  ip link set lo up
  ip address add 192.0.2.1/32 dev lo
  ip address add 2001:db8::1/128 dev lo nodad
  # Another machine, as far as the kernel goes.
  mkdir -p /run/netns
  mount -t tmpfs tmpfs /run/netns
  ip netns add clients
  ip link add gateway type veth peer name client netns clients
  ip address add 198.51.100.1/24 dev gateway
  ip address add 2001:db8:1::1/64 dev gateway nodad
  ip link set gateway up
  ip -n clients address add 198.51.100.2/24 dev client
  ip -n clients address add 2001:db8:1::2/64 dev client nodad
  ip -n clients link set client up
  exec "$@"
' sh "$tests" steering:: --ignored --test-threads=1 "$@"
