#!/bin/sh
# seeded_bug.sh <list of bugs> <name> <compiler> <source tree>: compiles the check with that bug in it, and succeeds when
# the check fails. The name `none` compiles what is there, runs every mode, and succeeds when all pass.
set -eu
list=$1
name=$2
compiler=$3
source=$4
check=$(basename "$list" .bugs)_check
here=$(dirname "$(readlink -f "$list")")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r "$source/plugins/shm/ring" "$folder/ring"

# run <mode>: the exit code is the check's. Modes that the list names are programs of their own.
run() {
  test=$(awk -v mode="$1" '$1 == "mode" && $2 == mode { print $3 }' "$list")
  options=$(awk -v mode="$1" '$1 == "mode" && $2 == mode { $1 = $2 = $3 = ""; print }' "$list")
  words=$1
  if [ -n "$test" ]; then
    words=
    options="$options $source/tests/$test -lgtest -lgtest_main"
  else
    options="$here/$check.cpp"
    [ "$1" != threads ] || options="-fsanitize=thread $options"
  fi
  # shellcheck disable=SC2086  # Words.
  $compiler -std=c++20 -O1 -DNDEBUG -I"$folder" -I"$source/plugins/shm" -I"$source/plugins/shm/include" \
    -I"$source/tests" \
    "$folder"/ring/record_ring.cpp $options -o "$folder/check" -pthread ||
    { echo "does not compile: nothing is proven"; exit 1; }
  prefix=
  case $options in *-fsanitize=thread*) prefix="setarch $(uname -m) -R" ;; esac
  code=0
  TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0 timeout 110 $prefix "$folder/check" $words >"$folder/said" 2>&1 || code=$?
  grep -m 1 -E 'WARNING|not so|Failure|ERROR|^[a-z]*:' "$folder/said" || tail -1 "$folder/said"
  [ $code != 0 ] || ! grep -q '^\[  SKIPPED' "$folder/said" || code=77
  return $code
}

if [ "$name" = none ]; then
  for mode in $(sed -n 's/^bug [^ ]*  *\([^ ]*\) .*/\1/p' "$list" | sort -u); do
    run "$mode"
  done
  exit 0
fi

# Line by line: the file with the lines of `-` replaced by those of `+` that follow.
mode=$(awk -v name="$name" '$1 == "bug" && $2 == name { print $3 }' "$list")
file=$(awk -v name="$name" '$1 == "bug" && $2 == name { print $4 }' "$list")
[ -n "$file" ] || { echo "no bug '$name' in $list"; exit 1; }
awk -v name="$name" '
  function trimmed(text) { gsub(/^[ \t]+|[ \t]+$/, "", text); return text }
  NR == FNR {
    if ($1 == "bug") mine = $2 == name
    else if (mine && $1 == "-") { old[++pairs] = trimmed(substr($0, 2)); new[pairs] = "" }
    else if (mine && $1 == "+") new[pairs] = new[pairs] trimmed(substr($0, 2)) "\n"
    next
  }
  {
    for (pair = 1; pair <= pairs; ++pair) {
      if (trimmed($0) == old[pair]) { printf "%s", new[pair]; ++found[pair]; next }
    }
    print
  }
  END {
    for (pair = 1; pair <= pairs; ++pair) {
      if (found[pair] != 1) { print "stands " found[pair] + 0 " times: " old[pair] > "/dev/stderr"; exit 1 }
    }
  }' "$list" "$source/plugins/shm/ring/$file" >"$folder/ring/$file" ||
  { echo "$list is out of date: $file has changed"; exit 1; }

code=0
run "$mode" || code=$?
case $code in
  0) echo "the check did not notice: it proves less than it says"; exit 1 ;;
  77) echo "skipped: the check needs what this machine forbids"; exit 77 ;;
  *) echo "noticed, as it must be" ;;
esac
