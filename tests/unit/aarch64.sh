#!/bin/sh
# aarch64.sh <source tree>: builds the unit tests of the rings for aarch64 and runs them under qemu-user. It shows that the
# code compiles and counts right on another processor. It is no evidence of memory ordering: qemu orders more than the
# architecture promises. 77: a tool is missing.
set -eu
source=$1
compiler=aarch64-linux-gnu-g++
gtest=/usr/src/googletest/googletest
tests=$source/tests/unit/plugins/shm

for tool in $compiler qemu-aarch64; do
  command -v $tool >/dev/null || { echo "skipped: no $tool; apt-get install g++-aarch64-linux-gnu qemu-user"; exit 77; }
done
[ -d $gtest ] || { echo "skipped: no $gtest; apt-get install googletest"; exit 77; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compile() {
  $compiler -std=c++20 -O1 -I$gtest -I$gtest/include -I"$source/tests" -I"$source/tests/unit" \
    -I"$source/plugins/shm" -I"$source/plugins/shm/include" -I"$source/plugin_api/include" -c "$1" -o "$folder/$2.o"
}

# One program: every test of these files, but for those that only take long there.
{
  compile $gtest/src/gtest-all.cc gtest
  compile $gtest/src/gtest_main.cc main
  compile "$source/plugins/shm/ring/record_ring.cpp" ring
  for test in mpmc_record_corrupt_test mpmc_record_model_test mpmc_record_ring_test; do
    compile "$tests/ring/$test.cpp" $test
  done
} &
compile "$tests/ring_buffer_test.cpp" ring_buffer_test
compile "$tests/ring_buffer_objects_test.cpp" ring_buffer_objects_test
for test in dirty_lines_test record_pace_test record_ring_hostile_test record_ring_test; do
  compile "$tests/ring/$test.cpp" $test
done
wait $!
$compiler -static -Wl,--no-warnings "$folder"/*.o -o "$folder/rings" -pthread
qemu-aarch64 "$folder/rings" --gtest_brief=1
