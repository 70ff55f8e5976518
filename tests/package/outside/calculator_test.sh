#!/bin/sh
# calculator_test.sh <server> <client> <calculator.yaml> <type> <folder of plugins>
set -eu
server=$1 client=$2 type=$4
export CDMF_PLUGIN_PATH=$5
work=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
sed "s/type: shm/type: $type/; s/_calculator/_calculator_$$/" "$3" >"$work/calculator.yaml"

"$server" "$work/calculator.yaml" >"$work/server" &
pid=$!
until grep -q ready "$work/server"; do
  kill -0 "$pid" || { echo "the server has ended" >&2; exit 1; }
  sleep 0.01
done
"$client" "$work/calculator.yaml" >"$work/client"
kill -TERM "$pid"
wait "$pid"
printf '40 + 2 = 42\n1 / 0: division by zero\n84 / 2 = 42\ndone!\n' | diff - "$work/client"
grep -q '^answered 3 calls$' "$work/server"
