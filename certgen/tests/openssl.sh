#!/usr/bin/env bash
# What openssl, strict, thinks of what certgen issues. Takes the path of the certgen binary.
set -euo pipefail

certgen=$(realpath "${1:?usage: openssl.sh CERTGEN}")
unset CERTGEN_DIR
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

accepts() {
    if ! openssl verify -x509_strict -CAfile certs/ca.crt "$@" >out 2>&1; then
        echo "openssl should accept: $*" >&2
        cat out >&2
        exit 1
    fi
}

# refuses WHY …: openssl has to refuse, and to say why.
refuses() {
    local why=$1
    shift
    if openssl verify -x509_strict -CAfile certs/ca.crt "$@" >out 2>&1; then
        echo "openssl should refuse: $*" >&2
        exit 1
    fi
    if ! grep -q "$why" out; then
        echo "openssl refused $* for another reason than: $why" >&2
        cat out >&2
        exit 1
    fi
}

"$certgen" ca >/dev/null
"$certgen" server ui.example.test '*.example.test' 127.0.0.1 ::1 >/dev/null
"$certgen" client billing >/dev/null
"$certgen" client reports >/dev/null

openssl verify -x509_strict -check_ss_sig -CAfile certs/ca.crt certs/ca.crt >/dev/null

accepts -purpose sslserver certs/server.crt
accepts -purpose sslserver -verify_hostname ui.example.test certs/server.crt
accepts -purpose sslserver -verify_hostname any.example.test certs/server.crt
accepts -purpose sslserver -verify_ip 127.0.0.1 certs/server.crt
accepts -purpose sslserver -verify_ip ::1 certs/server.crt
accepts -purpose sslclient certs/billing.crt
refuses 'hostname mismatch' -purpose sslserver -verify_hostname other.test certs/server.crt
refuses 'purpose' -purpose sslclient certs/server.crt
refuses 'purpose' -purpose sslserver certs/billing.crt

"$certgen" revoke certs/billing.crt >/dev/null
crl=(-crl_check -CRLfile certs/ca.crl)
refuses 'certificate revoked' "${crl[@]}" -purpose sslclient certs/billing.crt
accepts "${crl[@]}" -purpose sslclient certs/reports.crt
accepts "${crl[@]}" -purpose sslserver certs/server.crt

"$certgen" revoke certs/reports.crt >/dev/null
refuses 'certificate revoked' "${crl[@]}" -purpose sslclient certs/billing.crt
refuses 'certificate revoked' "${crl[@]}" -purpose sslclient certs/reports.crt
openssl crl -in certs/ca.crl -noout -CAfile certs/ca.crt 2>out
grep -q 'verify OK' out

"$certgen" renew certs/server.crt >/dev/null
accepts "${crl[@]}" -purpose sslserver -verify_hostname ui.example.test certs/server.crt

for stem in ca server billing; do
    diff <(openssl x509 -in "certs/$stem.crt" -noout -pubkey) \
        <(openssl pkey -in "certs/$stem.key" -pubout)
done

# A key as `openssl ecparam -genkey` writes it: behind its parameters, and not as PKCS #8.
mkdir -p made
openssl ecparam -name prime256v1 -genkey -out made/ca.key 2>/dev/null
grep -q 'BEGIN EC PARAMETERS' made/ca.key
openssl req -x509 -new -key made/ca.key -out made/ca.crt -days 9 -subj '/CN=Made' \
    -addext keyUsage=critical,keyCertSign,cRLSign -addext basicConstraints=critical,CA:TRUE
"$certgen" --dir made client billing >/dev/null
openssl verify -CAfile made/ca.crt made/billing.crt >/dev/null
"$certgen" --dir made verify made/billing.crt >/dev/null

# An intermediate authority: its leaves bring its certificate to peers that know the root alone.
mkdir -p below
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout below/ca.key \
    -out below.csr -subj '/CN=Below' 2>/dev/null
printf '%s\n' 'basicConstraints=critical,CA:TRUE,pathlen:0' \
    'keyUsage=critical,keyCertSign,cRLSign' 'subjectKeyIdentifier=hash' \
    'authorityKeyIdentifier=keyid' >below.ext
openssl x509 -req -in below.csr -CA made/ca.crt -CAkey made/ca.key -days 9 -extfile below.ext \
    -out below/ca.crt 2>/dev/null
"$certgen" --dir below server ui.example.test >/dev/null
"$certgen" --dir below client billing >/dev/null
for leaf in server billing; do
    openssl verify -CAfile made/ca.crt -untrusted "below/$leaf.crt" "below/$leaf.crt" >/dev/null
    "$certgen" --dir below verify "below/$leaf.crt" >/dev/null
done

echo "openssl agrees"
