#!/bin/sh
# run_fuzzer.sh <cmake> <generator> <project> <work folder> <name> <corpus> <longest input> <seconds>
# Builds the fuzzer <name> with clang and fuzzes for so many seconds, from the same seed each time: a change is judged by
# the inputs that the one before it passed. CDMF_FUZZ_SECONDS and CDMF_FUZZ_SEED (0: any) in the environment override
# them; a hunt takes other seeds, and longer.
# Exit code 77: clang or its runtime is missing, nothing was tested.
set -eu
cmake=$1 generator=$2 project=$3 work=$4 name=$5 corpus=$6 bytes_max=$7 seconds=${CDMF_FUZZ_SECONDS:-$8} seed=${CDMF_FUZZ_SEED:-1}
build=$work/clang
mkdir -p "$build" "$work/found/$name" "$work/grown/$name"

sanitizers=address,undefined
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' >"$work/$name-probe.cpp"
if ! clang++ -fsanitize=fuzzer,$sanitizers "$work/$name-probe.cpp" -o "$work/$name-probe" 2>"$work/$name-probe.log"; then
  echo "skipped: clang++ with libFuzzer is missing; apt-get install clang libclang-rt-dev"
  cat "$work/$name-probe.log"
  exit 77
fi

# One build for all fuzzers: whoever comes second waits, and then finds most of its own done. What is linked is
# instrumented as well, otherwise the fuzzer would not see where its inputs lead.
(
  flock 9
  if [ ! -e "$build/CMakeCache.txt" ]; then
    "$cmake" -S "$project" -B "$build" -G "$generator" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCDMF_FUZZ=ON \
      -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
      -DCMAKE_CXX_FLAGS="-fsanitize=fuzzer-no-link,$sanitizers -fno-sanitize-recover=all -UNDEBUG" \
      -DCMAKE_C_FLAGS="-fsanitize=fuzzer-no-link,$sanitizers -fno-sanitize-recover=all" >"$build/configure.log"
  fi
  "$cmake" --build "$build" --target "fuzz_$name" >"$build/$name.log" || { cat "$build/$name.log"; exit 1; }
) 9>"$build/lock"
program=$(find "$build" -type f -name "fuzz_$name" -perm -100 | head -n 1)

# What it finds must not end with its own default, 77, which here says that nothing was tested.
#
# New inputs go into the first folder, never into the source tree. A unit that takes 10 s is as wrong as a crash.
# <corpus>.dict, when there is one, holds words to try.
set --
[ ! -e "$corpus.dict" ] || set -- "-dict=$corpus.dict"
exec "$program" "$@" -seed="$seed" -max_total_time="$seconds" -max_len="$bytes_max" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
  -error_exitcode=1 -timeout_exitcode=1 \
  -artifact_prefix="$work/found/$name/" "$work/grown/$name" "$corpus"
