#!/bin/sh
# Makes the keys and certificates of a fleet, in the folder that it is run in:
#
#   certificates.sh authority NAME    authority.pem and authority.key, which stays with whoever makes certificates
#   certificates.sh broker HOST       broker.pem and broker.key; HOST is the broker's name, as boxes are told it
#   certificates.sh client NAME...    NAME.pem and NAME.key for each box (its `node`), person or host
set -eu

# A box is rarely visited: ten years. Whoever replaces the files on it sooner needs no restart, they are read with each
# connection.
DAYS=3650

fail() {
    echo "certificates.sh: $*" >&2
    exit 1
}

# A key, and what is asked for with it.
request() {
    [ -e authority.key ] || fail "no authority.key here: expected 'certificates.sh authority NAME' before"
    [ ! -e "$1.key" ] || fail "$1.key exists: expected a name without a certificate"
    (umask 077 && openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key")
    openssl req -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
}

# File, extensions. A client's certificate is good for clients only: no box can pose as the broker.
sign() {
    printf '%s\n' "$2" | openssl x509 -req -in "$1.csr" -CA authority.pem -CAkey authority.key -CAcreateserial \
        -days "$DAYS" -sha256 -extfile /dev/stdin -out "$1.pem" 2>/dev/null ||
        fail "$1.csr: openssl does not sign it with authority.key"
    rm "$1.csr"
}

[ $# -ge 2 ] || fail "expected: authority NAME, broker HOST, or client NAME..."
what=$1
shift
case $what in
authority)
    [ ! -e authority.key ] || fail "authority.key exists: expected a folder without an authority"
    (umask 077 && openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out authority.key)
    openssl req -x509 -new -key authority.key -subj "/CN=$1" -days "$DAYS" -sha256 -out authority.pem \
        -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
    ;;
broker)
    request broker "$1"
    sign broker "subjectAltName=DNS:$1
extendedKeyUsage=serverAuth"
    ;;
client)
    for name in "$@"; do
        case $name in
        authority | broker | -* | *[!A-Za-z0-9._-]*) fail "$name: expected letters, digits, '.', '_' or '-'" ;;
        esac
        request "$name" "$name"
        sign "$name" "extendedKeyUsage=clientAuth"
    done
    ;;
*) fail "expected: authority NAME, broker HOST, or client NAME..." ;;
esac
