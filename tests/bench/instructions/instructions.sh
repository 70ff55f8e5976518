#!/bin/sh
# instructions.sh <bench_instructions> [--update]: counts the instructions of the shm transport's send and receive paths
# and compares them with baseline.txt: more than there is a failure, fewer asks for an update. Counted, not timed, so the
# load of the machine does not matter; and only in our own objects, as libraries choose code by the processor.
# --update writes baseline.txt. Exit 77: valgrind is missing, or another compiler than the baseline's.
set -eu
program=$1
baseline=$(dirname "$0")/baseline.txt
export CDMF_PLUGIN_PATH="${CDMF_PLUGIN_PATH:-$(cd "$(dirname "$program")/../plugins" && pwd)}"
if ! command -v valgrind >/dev/null; then
  echo "SKIPPED: valgrind is not installed (apt-get install valgrind)"
  exit 77
fi
compiler=$("$program" --compiler)
if [ "${2-}" != --update ] && [ ! -e "$baseline" ]; then
  echo "SKIPPED: there is no $baseline; ./dev bench --instructions --update writes it"
  exit 77
fi
if [ "${2-}" != --update ] && ! grep -qx "# $compiler" "$baseline"; then
  echo "SKIPPED: the baseline was counted with $(sed -n 's/^# //p' "$baseline" | tail -1), this is $compiler"
  exit 77
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Of a callgrind file the instructions spent inside our objects. A cost line after calls= is the callee's, counted there.
# Looking for calls whose time is up is left out: that is done once a tick of the clock, more often on a slow machine.
ours='
  function name_of(names, line, id, name) {  # "(7) name" the first time, then "(7)".
    id = line; sub(/\).*/, ")", id)
    name = line; sub(/^\([0-9]+\) ?/, "", name)
    if (name != "") names[id] = name
    return names[id]
  }
  /^c?ob=/ { object = name_of(objects, substr($0, index($0, "=") + 1)); if ($0 ~ /^o/) current = object; next }
  /^c?fn=/ { called = name_of(functions, substr($0, index($0, "=") + 1)); if ($0 ~ /^f/) running = called; next }
  /^calls=/ { callee = 1; next }
  /^[0-9+*-]/ {
    if (callee) { callee = 0; next }
    if (running ~ /expire_if_due|take_expired/) next
    if (current ~ /\/(libcdmf_shm\.so|bench_instructions)/) total += $2
  }
  END { print total + 0 }'

"$program" --list >"$folder/list"
while read -r preset operation; do
  valgrind --tool=callgrind "--callgrind-out-file=$folder/out" "--toggle-collect=measured_${operation%%_*}" \
    "$program" "$preset" "$operation" >"$folder/log" 2>&1 ||
    { cat "$folder/log" >&2; echo "instructions.sh: $preset $operation failed" >&2; exit 1; }
  echo "$preset/$operation $(awk "$ours" "$folder/out")"
done <"$folder/list" >"$folder/counts"

if [ "${2-}" = --update ]; then
  {
    echo "# Instructions of 3200 messages in our own objects; written by ./dev bench --instructions --update."
    echo "# $compiler"
    cat "$folder/counts"
  } >"$baseline"
  cat "$baseline"
  exit 0
fi

status=0
printf '%-42s %10s %10s %10s\n' 'instructions of 3200 messages' baseline now 'a message'
while read -r name count; do
  before=$(awk -v name="$name" '$1 == name { print $2 }' "$baseline")
  verdict=
  if [ -z "$before" ]; then
    verdict='is new: --update' status=1
  elif [ "$count" -gt "$before" ]; then
    verdict="MORE by $((count - before))" status=1
  elif [ "$count" -lt "$before" ]; then
    verdict="fewer by $((before - count)): --update" status=1
  fi
  printf '%-42s %10s %10s %10s  %s\n' "$name" "${before:--}" "$count" "$((count / 3200))" "$verdict"
done <"$folder/counts"
[ $status -eq 0 ] || echo "When that is meant: ./dev bench --instructions --update, and commit $baseline"
exit $status
