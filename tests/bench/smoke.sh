#!/bin/sh
# smoke.sh <bench_peers>: the benchmark measures, writes its report, reads it back, and tells a slower run by its exit
# code. No figure is looked at.
set -eu
program=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
fail() {
  echo "smoke.sh: $1" >&2
  exit 1
}
# expect <exit code> <words...>
expect() {
  wanted=$1
  shift
  code=0
  "$program" "$@" >"$folder/said" 2>&1 || code=$?
  [ "$code" -eq "$wanted" ] || { cat "$folder/said" >&2; fail "exit code $code instead of $wanted: $*"; }
}

expect 2 --unknown
expect 1 --compare "$folder/missing.json"
if [ "$(nproc)" -lt 2 ]; then
  echo "SKIPPED: one processor"
  exit 77
fi
expect 0 --only 'ping_pong/poll/64B shm_default' --only 'ping_pong/poll/64B boost_mq' --only 'stream/poll/1KiB bare_pipe' \
  --rounds 5 --budget 3 --out "$folder"
grep -q 'failed' "$folder/said" && { cat "$folder/said" >&2; fail "a measurement failed"; }
grep -q '</html>' "$folder/report.html" || fail "no whole page"
grep -q 'cdmf shm' "$folder/report.html" || fail "ours is not on the page"

mkdir "$folder/fresh" "$folder/again"
expect 0 --fresh --only 'ping_pong/poll/4KiB shm_default' --rounds 1 --budget 3 --out "$folder/fresh"
grep -q 'failed' "$folder/said" && { cat "$folder/said" >&2; fail "a measurement failed"; }
grep -q 'each line written anew' "$folder/fresh/report.html" || fail "the page does not say what was written"

expect 0 --with "$folder/report.json" --compare "$folder/report.json" --out "$folder/again"
grep -q 'no change' "$folder/said" || fail "a run differs from itself"

# As on a machine that holds still, whatever else runs on this one.
sed -i 's/"line_before_ns":[0-9.e+]*/"line_before_ns":200/; s/"line_after_ns":[0-9.e+]*/"line_after_ns":200/' "$folder/report.json"
# The same run with our round trips ten times as long.
awk '/"subject":"shm_default"/ { ours = 1 } /"subject":"boost_mq"/ { ours = 0 }
     ours { gsub(/"value":[0-9.]+/, "&e1") } { print }' "$folder/report.json" >"$folder/slow.json"
expect 4 --with "$folder/slow.json" --compare "$folder/report.json" --out "$folder/again"
grep -q 'SLOWER' "$folder/said" || fail "the slower figure is not named"
echo cut >"$folder/cut.json"
expect 1 --with "$folder/cut.json" --out "$folder/again"
expect 1 --with "$folder/fresh/report.json" --compare "$folder/report.json" --out "$folder/again"
expect 1 --fresh --only nothing --compare "$folder/report.json"
grep -q 'nothing to compare' "$folder/said" || fail "it would have measured first"
expect 2 --fresh --with "$folder/report.json"
echo "it measures, draws, and compares"
