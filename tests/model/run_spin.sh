#!/bin/sh
# run_spin.sh <model.pml> clean|error [-D<name>=<value>...]: searches the whole state space of a model.
# Succeeds when the outcome is the one given: `error` is for models with a known defect, which Spin must find.
# 77 (ctest: skipped) when Spin is not installed.
set -eu
model=$(readlink -f "$1")
expected=$2
shift 2
command -v spin >/dev/null || { echo "spin is not installed: apt-get install spin"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
spin "$@" -a "$model"
cc -O2 -w -DSAFETY -DCOLLAPSE -o pan pan.c
./pan -m5000000 >report
cat report
grep -q 'max search depth too small' report && { echo "the search was cut short"; exit 1; }
errors=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' report)
case "$expected:$errors" in
  clean:0) echo "no error in the whole state space, as it must be" ;;
  error:0) echo "Spin found nothing in a model that is broken on purpose: the model proves nothing"; exit 1 ;;
  error:*) echo "Spin found the defect, as it must" ;;
  *) echo "Spin found an error; trail:"; spin "$@" -t -p -g "$model" | tail -80; exit 1 ;;
esac
