#!/usr/bin/env bash
# Real clients and real upstreams through a real gateway. Takes the folder of the built commands.
# Every check must pass; a program that is missing fails the run.
set -euo pipefail

built=$(realpath "${1:?usage: interop.sh FOLDER_WITH_PORTCULLIS_AND_CERTGEN}")
here=$(cd "$(dirname "$0")" && pwd)
for program in openssl curl gnutls-cli python3 redis-server redis-cli psql nginx runuser; do
  command -v "$program" >/dev/null || { echo "interop: $program is missing" >&2; exit 1; }
done
postgres=$(find /usr/lib/postgresql -name initdb -printf '%h\n' | sort -V | tail -n 1)
[ -n "$postgres" ] || { echo "interop: PostgreSQL's initdb is missing" >&2; exit 1; }

dir=$(mktemp -d)
chmod 755 "$dir"
cd "$dir"
finish() {
  local code=$?
  [ "$code" = 0 ] || tail -n 20 ./*.log >&2 || true
  jobs -p | xargs -r kill 2>/dev/null || true
  [ ! -f pg/postmaster.pid ] || runuser -u postgres -- "$postgres/pg_ctl" -D "$dir/pg" -m immediate stop >/dev/null || true
  [ ! -f nginx.pid ] || kill "$(cat nginx.pid)" 2>/dev/null || true
  wait
  rm -rf "$dir"
}
trap finish EXIT

ok() { echo "ok $*"; }
fail() { echo "FAILED $*" >&2; exit 1; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# until_true COMMAND…: tries for ten seconds.
until_true() {
  local tries
  for tries in $(seq 200); do
    "$@" >/dev/null 2>&1 && return
    read -rt 0.05 <> <(:) || true
  done
  fail "never came true after $tries tries: $*"
}
listens() { python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1).close()"; }

# Upstreams.
redis_port=$(port) pg_port=$(port) web_port=$(port) web2_port=$(port) proxied_port=$(port) gateway_port=$(port)

redis-server --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$dir" >redis.log 2>&1 &

mkdir pg web
chown postgres pg
runuser -u postgres -- "$postgres/initdb" -D "$dir/pg" -A trust -U postgres >initdb.log 2>&1
runuser -u postgres -- "$postgres/pg_ctl" -D "$dir/pg" -l "$dir/pg/server.log" \
  -o "-p $pg_port -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" start >pg_ctl.log 2>&1

head -c 20000000 /dev/urandom >web/large
echo "hello from nginx" >web/index.html
cat >nginx.conf <<CONF
user root;
pid $dir/nginx.pid;
error_log $dir/nginx-error.log;
events {}
http {
  access_log off;
  client_max_body_size 100m;
  client_body_temp_path $dir/body;
  proxy_temp_path $dir/proxy;
  fastcgi_temp_path $dir/fastcgi;
  uwsgi_temp_path $dir/uwsgi;
  scgi_temp_path $dir/scgi;
  server { listen 127.0.0.1:$web_port; root $dir/web; }
  server { listen 127.0.0.1:$web2_port http2; root $dir/web; }
  server {
    listen 127.0.0.1:$proxied_port proxy_protocol;
    location / { return 200 "\$proxy_protocol_addr\n"; }
  }
}
CONF
nginx -c "$dir/nginx.conf" >nginx.log 2>&1

# The gateway.
"$built/certgen" ca >/dev/null
"$built/certgen" server gateway.test web web2 plain redis db proxied localhost 127.0.0.1 >/dev/null
"$built/certgen" client alice >/dev/null
"$built/certgen" client bob >/dev/null
cat >policy.yaml <<POLICY
version: 1
gateway:
  listen: ["127.0.0.1:$gateway_port"]
  tls: {certificate: certs/server.crt, key: certs/server.key, client_ca: certs/ca.crt}
groups:
  web: {upstreams: ["127.0.0.1:$web_port"], alpn: [http/1.1], health: {interval: 200ms}}
  web2: {upstreams: ["127.0.0.1:$web2_port"], alpn: [h2], health: {interval: 200ms}}
  plain: {upstreams: ["127.0.0.1:$web_port"], health: {interval: 200ms}}
  proxied:
    upstreams: ["127.0.0.1:$proxied_port"]
    alpn: [http/1.1]
    proxy_protocol: v2
    health: {check: {send: "GET / HTTP/1.0\r\n\r\n", expect: "HTTP/1.1 200"}, interval: 200ms}
  redis: {upstreams: ["127.0.0.1:$redis_port"], health: {check: {send: "PING\r\n", expect: "+PONG"}, interval: 200ms}}
  db: {upstreams: ["127.0.0.1:$pg_port"], alpn: [postgresql], health: {interval: 200ms}}
clients:
  alice: {groups: [web, web2, plain, proxied, redis, db]}
  bob: {groups: [redis]}
tests:
  - {client: bob, sni: web, expect: deny}
POLICY
"$built/portcullis" check policy.yaml
"$built/portcullis" run --access-log access.log >gateway.log 2>&1 &
until_true listens "$gateway_port"
until_true sh -c "[ \$(grep -c 'upstream is up' gateway.log) = 6 ]"

alice=(-CAfile certs/ca.crt -cert certs/alice.crt -key certs/alice.key)
bob=(-CAfile certs/ca.crt -cert certs/bob.crt -key certs/bob.key)
s_client() { timeout 20 openssl s_client -connect "127.0.0.1:$gateway_port" -servername "$@"; }
request=$'GET / HTTP/1.0\r\n\r\n'

# openssl
for suite in TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256; do
  printf '%s' "$request" | s_client web "${alice[@]}" -tls1_3 -ciphersuites "$suite" -ign_eof >out.log 2>&1
  grep -q "Cipher is $suite" out.log && grep -q "hello from nginx" out.log || fail "openssl with $suite"
  ok "openssl with $suite"
done
for group in X25519 P-256 P-384; do
  printf '%s' "$request" | s_client web "${alice[@]}" -tls1_3 -groups "$group" -ign_eof >out.log 2>&1
  grep -q "hello from nginx" out.log || fail "openssl with $group"
  ok "openssl with $group"
done
printf '%s' "$request" | s_client web "${alice[@]}" -tls1_3 -ign_eof -sess_out session.pem >out.log 2>&1
printf '%s' "$request" | s_client web "${alice[@]}" -tls1_3 -ign_eof -sess_in session.pem >out.log 2>&1
grep -q "^Reused, TLSv1.3" out.log && grep -q "hello from nginx" out.log || fail "openssl with a ticket"
ok "openssl with a ticket"
printf '%s' "$request" | s_client redis "${alice[@]}" -tls1_3 -sess_in session.pem </dev/null >out.log 2>&1 || true
grep -q "^New, TLSv1.3" out.log || fail "a ticket was good for another group"
ok "a ticket is nothing to another group"
# refused NAME TEXT ARGUMENTS…: the client is refused, with this text.
refused() {
  local name=$1 text=$2
  shift 2
  (printf '%s' "$request"; read -rt 1 <> <(:) || true) | s_client "$@" >out.log 2>&1 && fail "$name was admitted"
  grep -q "$text" out.log || fail "$name was refused otherwise than by $text"
  ok "$name is refused: $text"
}
refused "TLS 1.2" "alert protocol version" web "${alice[@]}" -tls1_2 -ign_eof
refused "a client without a certificate" "certificate required" web -CAfile certs/ca.crt -ign_eof
refused "a client without the grant" "alert access denied" web "${bob[@]}" -ign_eof
refused "a name that does not exist" "alert access denied" nowhere "${bob[@]}" -ign_eof

# Key updates: K asks for one in return, k does not.
mkfifo keys
s_client web "${alice[@]}" -tls1_3 <keys >out.log 2>&1 &
exec 8>keys
until_true grep -q "Verify return code" out.log
for letter in K k K; do
  before=$(grep -c KEYUPDATE out.log || true)
  echo "$letter" >&8
  until_true sh -c "[ \$(grep -c KEYUPDATE out.log) -gt $before ]"
done
printf '%s' "$request" >&8
until_true grep -q "hello from nginx" out.log
exec 8>&-
ok "openssl with key updates"

# curl
curl=(curl -sS --fail --max-time 60 --cacert certs/ca.crt --cert certs/alice.crt --key certs/alice.key
  --connect-to "::127.0.0.1:$gateway_port")
[ "$("${curl[@]}" https://web/)" = "hello from nginx" ] || fail "curl"
ok "curl"
"${curl[@]}" https://web/large | cmp - web/large || fail "a download by curl"
ok "a download of 20 MB by curl is whole"
"${curl[@]}" https://proxied/ | grep -q "^127.0.0.1" || fail "nginx behind the PROXY protocol"
ok "nginx reads the PROXY header"
# nginx takes nothing without one: its upstream came up by probes that have it.
! grep -q "broken header" nginx-error.log || fail "a probe without a PROXY header: $(grep -m 1 "broken header" nginx-error.log)"
ok "probes send the PROXY header too"

# Groups that speak different protocols side by side: curl offers h2 and http/1.1.
for row in "web 1.1" "web2 2" "plain 1.1"; do
  read -r group version <<<"$row"
  answer=$("${curl[@]}" -w ' %{http_version}' "https://$group/") || fail "curl to $group"
  [ "$(tr -d '\n' <<<"$answer")" = "hello from nginx $version" ] || fail "curl to $group got: $answer"
  ok "curl speaks HTTP/$version to the group $group"
done
refused "a client that speaks only HTTP/2" "no application protocol" web "${alice[@]}" -alpn h2 -ign_eof
refused "a client that speaks only HTTP" "no application protocol" db "${alice[@]}" -alpn http/1.1 -ign_eof

# GnuTLS
(printf '%s' "$request"; read -rt 2 <> <(:) || true) |
  timeout 20 gnutls-cli --port "$gateway_port" --sni-hostname web --verify-hostname web \
    --x509cafile certs/ca.crt --x509certfile certs/alice.crt --x509keyfile certs/alice.key \
    --priority NORMAL:-VERS-ALL:+VERS-TLS1.3 127.0.0.1 >out.log 2>&1 || true
grep -q "hello from nginx" out.log || fail "gnutls-cli"
ok "gnutls-cli"
gnutls_keys() {
  timeout 20 gnutls-cli --port "$gateway_port" --sni-hostname web --verify-hostname web --inline-commands \
    --x509cafile certs/ca.crt --x509certfile certs/alice.crt --x509keyfile certs/alice.key \
    --priority NORMAL:-VERS-ALL:+VERS-TLS1.3 127.0.0.1
}
gnutls_keys <keys >out.log 2>&1 &
exec 8>keys
until_true grep -q "Handshake was completed" out.log
echo "^rekey^" >&8
until_true grep -q "Rekey was completed" out.log
printf '%s' "$request" >&8
until_true grep -q "hello from nginx" out.log
exec 8>&-
ok "gnutls-cli with a key update"

# Redis
redis=(redis-cli -h 127.0.0.1 -p "$gateway_port" --tls --sni redis --cacert certs/ca.crt)
as_bob=(--cert certs/bob.crt --key certs/bob.key)
[ "$("${redis[@]}" "${as_bob[@]}" SET key value)" = OK ] || fail "redis-cli SET"
[ "$("${redis[@]}" "${as_bob[@]}" GET key)" = value ] || fail "redis-cli GET"
ok "redis-cli"
for number in $(seq 10000); do printf 'SET key%s %s\r\n' "$number" "$number"; done |
  "${redis[@]}" "${as_bob[@]}" --pipe >out.log 2>&1
grep -q "errors: 0, replies: 10000" out.log || fail "redis-cli --pipe"
ok "10,000 commands through redis-cli --pipe"

# PostgreSQL and Python
python3 "$here/interop.py" "$gateway_port" direct || fail "PostgreSQL over TLS from the first byte"
ok "PostgreSQL over TLS from the first byte, with ALPN postgresql"
python3 "$here/interop.py" "$gateway_port" transfer || fail "Python's ssl"
ok "Python's ssl: a download, a half-close, and hashes that agree"
python3 "$here/interop.py" "$gateway_port" hop >hop.log 2>&1 &
until_true grep -q listening hop.log
hop=$(awk '/listening/ {print $2}' hop.log)
answer=$(psql -h 127.0.0.1 -p "$hop" -U postgres -Atc 'SELECT sum(n) FROM generate_series(1, 100000) AS n')
[ "$answer" = 5000050000 ] || fail "psql through a local hop"
ok "psql through a local hop"

# Clients that do not speak TLS 1.3 from the first byte: refused, and the record names what they speak.
# named WORDS COMMAND…: the command fails, and a record has these words.
named() {
  local words=$1 before
  before=$(grep -c "$words" access.log || true)
  shift
  timeout 20 "$@" >out.log 2>&1 && fail "$* was admitted"
  until_true sh -c "[ \$(grep -c '$words' access.log) -gt $before ]"
  ok "the record of $1 says: $words"
}
named sslnegotiation=direct psql "host=127.0.0.1 port=$gateway_port user=postgres sslmode=require" -c 'SELECT 1'
named "PostgreSQL without TLS" psql "host=127.0.0.1 port=$gateway_port user=postgres sslmode=disable" -c 'SELECT 1'
named "HTTP request without TLS" curl -sS --fail --max-time 10 "http://127.0.0.1:$gateway_port/"
named "HTTP/2" curl -sS --fail --max-time 10 --http2-prior-knowledge "http://127.0.0.1:$gateway_port/"
named "PROXY protocol header" curl -sS --fail --max-time 10 --haproxy-protocol "http://127.0.0.1:$gateway_port/"
named "SSH" python3 "$here/interop.py" "$gateway_port" banner
named "TLS 1.2" "${curl[@]}" --tls-max 1.2 https://web/
named "TLS 1.2" openssl s_client -connect "127.0.0.1:$gateway_port" -servername web "${alice[@]}" -tls1_2

# What the records say of it.
records() { grep "\"reason\":\"$1\"" access.log | grep -c "$2" || true; }
until_true sh -c "grep -q '\"group\":\"db\"' access.log"
[ "$(records not_granted '"sni":"web"')" -ge 1 ] || fail "no record of a refusal"
[ "$(records unknown_sni '"sni":"nowhere"')" -ge 1 ] || fail "no record of an unknown name"
[ "$(records no_certificate '"sni":"web"')" -ge 1 ] || fail "no record of a client without a certificate"
[ "$(records finished '"client":"alice"')" -ge 1 ] || fail "no record of a connection that finished"
# redis-cli ends without a close_notify, which is recorded for what it is.
[ "$(records client_broke_off '"client":"bob"')" -ge 1 ] || fail "no record of redis-cli"
python3 -c 'import json, sys; [json.loads(line) for line in open("access.log")]' || fail "a record is not JSON"
ok "the records tell it"
echo "interoperability: all passed"
