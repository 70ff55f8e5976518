#!/bin/sh
# Runs both sides of the example as two processes. The server's side sleeps a minute by itself: it is stopped as soon
# as it has said what it received.
set -eu
program=$1
log=$(mktemp)
"$program" server >"$log" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -f "$log"' EXIT

# The client's side does not wait for a server that starts late, so it is started until it has sent.
until "$program" client | grep -q '^Message sent$'; do
  kill -0 $server || { echo "the server ended by itself" >&2; exit 1; }
  sleep 0.1
done
until grep -q '^Received message, size: 5$' "$log"; do
  kill -0 $server || { echo "the server ended by itself" >&2; exit 1; }
  sleep 0.1
done
