#!/bin/sh
# make_certificates.sh FOLDER: a throw-away authority, and certificates signed by it, for tests. Good for two days.
#   ca.pem                        the authority
#   server.pem server.key         for localhost and 127.0.0.1
#   client.pem client.key         common name test-client
#   other_ca.pem                  another authority, which signed
#   stranger.pem stranger.key     common name stranger
#   expired.pem                   of server.key, past its end
set -eu
umask 077
mkdir -p "$1"
cd "$1"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1" 2>/dev/null; }

# authority <name>
authority() {
  key "$1.key"
  openssl req -x509 -new -key "$1.key" -subj "/CN=cdmf throw-away $1" -days 2 -out "$1.pem" 2>/dev/null
}

# sign <authority> <key> <common name> <alternative names> <certificate> [words of `openssl x509`...]
sign() {
  by=$1 of=$2 name=$3 alternatives=$4 out=$5
  shift 5
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$alternatives" >"$out.ext"
  openssl req -new -key "$of" -subj "/O=cdmf/CN=$name" -out "$out.csr" 2>/dev/null
  openssl x509 -req -in "$out.csr" -CA "$by.pem" -CAkey "$by.key" -CAcreateserial -extfile "$out.ext" \
    -out "$out" "$@" 2>/dev/null
  rm -f "$out.ext" "$out.csr"
}

authority ca
authority other_ca
for name in server client stranger; do key "$name.key"; done
sign ca server.key localhost DNS:localhost,IP:127.0.0.1 server.pem -days 2
sign ca client.key test-client DNS:test-client client.pem -days 2
sign other_ca stranger.key stranger DNS:localhost stranger.pem -days 2
sign ca server.key localhost DNS:localhost expired.pem -days -1
