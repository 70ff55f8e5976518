#!/bin/sh
# boundary.sh <bench_boundary> [limit]: instructions that the C table adds to a direct call, per operation.
# Fails when one adds more than the limit (20). Counted, not timed: the figures do not depend on the load of the machine.
# Exit 77: valgrind is not installed.
set -eu
program=$1
limit=${2:-20}
times=10000
if ! command -v valgrind >/dev/null; then
  echo "SKIPPED: valgrind is not installed (apt-get install valgrind)"
  exit 77
fi

# instructions table|direct <operation>: collected inside measured_<way>_<operation>, for all calls together.
instructions() {
  count=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "--toggle-collect=measured_$1_$2" \
    "$program" "$1" "$2" "$times" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p')
  if [ "${count:-0}" -lt "$times" ]; then
    echo "callgrind counted nothing in measured_$1_$2; is the program stripped?" >&2
    exit 1
  fi
  echo "$count"
}

echo "instructions per call      direct   table   boundary (at most $limit)"
failed=0
for operation in claim commit receive_burst release_burst; do
  direct=$(instructions direct "$operation")
  table=$(instructions table "$operation")
  boundary=$(((table - direct) / times))
  printf '%-22s %10s %7s %10s\n' "$operation" $((direct / times)) $((table / times)) "$boundary"
  if [ "$boundary" -gt "$limit" ]; then failed=1; fi
done
exit $failed
