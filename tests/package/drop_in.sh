#!/bin/sh
# drop_in.sh <variant> <cmake> <work folder> <generator>
# Builds a plugin against the installed package, in the way the variant says, and hands it to the installed program, which
# is the same for all of them: a configuration names its folder and its type, and nothing else changes. Then a file goes
# through it between two processes, and the conformance suite runs on it.
# Exit code 77: the compiler or its runtime is missing, nothing was tested.
set -eu
variant=$1 cmake=$2 prefix=$3/prefix work=$3/drop_in/$1 generator=$4
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work/plugins"
unset CDMF_PLUGIN_PATH CDMF_BINARY CDMF_CONFIG_DIR CXXFLAGS CFLAGS LDFLAGS LD_PRELOAD
cdmf=$prefix/bin/cdmf

fail() {
  echo "drop_in $variant: $1" >&2
  exit 1
}
need() {
  command -v "$1" >/dev/null || { echo "skipped: $1 is missing; apt-get install $2"; exit 77; }
}

# ---- Build it, as its author would
type=acme_packet compiler=g++ flags= runtime=
case $variant in
  gcc) ;;
  clang) compiler=clang++ ;;
  glibcxx_debug) flags="-D_GLIBCXX_DEBUG -D_GLIBCXX_DEBUG_PEDANTIC" ;;
  asan_gcc) flags="-fsanitize=address,undefined -fno-sanitize-recover=all" runtime=libasan.so ;;
  asan_clang) compiler=clang++ flags="-fsanitize=address -shared-libasan" runtime=libclang_rt.asan-x86_64.so ;;
  c) type=acme_plain compiler=cc ;;
  *) fail "unknown variant" ;;
esac
case $compiler in clang*) need clang++ "clang libclang-rt-dev" ;; *) need $compiler g++ ;; esac
if [ -n "$runtime" ]; then
  preload=$($compiler -print-file-name=$runtime)
  [ "$preload" != $runtime ] || { echo "skipped: $runtime is missing; apt-get install libclang-rt-dev"; exit 77; }
fi

plugin=$work/plugins/libcdmf_$type.so
if [ $type = acme_plain ]; then
  # One line of a shell, no CMake; the header must stand the strictest reading of C11.
  $compiler -std=c11 -pedantic-errors -Wall -Wextra -Wconversion -Werror -O2 -shared -fPIC -fvisibility=hidden -pthread \
    -Wl,-z,defs -Wl,-z,now -I"$prefix/include/cdmf" "$here/template_c/acme_plain.c" -o "$plugin"
  ! nm -D --undefined-only "$plugin" | grep -qE 'Zn|Zd|cxa_throw|gxx_personality' || fail "the C plugin needs C++"
else
  "$cmake" -S "$here/template" -B "$work/build" -G "$generator" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=$compiler \
    -DCMAKE_CXX_FLAGS="$flags" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$work" >"$work/build.log"
  "$cmake" --build "$work/build" >>"$work/build.log" 2>&1 || { cat "$work/build.log"; fail "does not build"; }
  ! grep -q 'warning:' "$work/build.log" || { cat "$work/build.log"; fail "builds with warnings"; }
  cp "$work/build/plugins/libcdmf_$type.so" "$plugin"
fi
[ "$(nm -D --defined-only "$plugin" | awk '$3 ~ /cdmf/ { print $3 }')" = cdmf_plugin_v1 ] || fail "exports more than its symbol"

# ---- Use it: the shipped configuration, with a folder and a type put in by sed
sed -e "s|^transports:|plugins: { search_paths: [$work/plugins] }\ntransports:|" -e "s|type: shm|type: $type|" \
  -e "s|endpoint: .*|endpoint: /drop_in_$variant|" "$prefix/share/cdmf/config/shm.yaml" >"$work/config.yaml"

if [ -n "$runtime" ]; then
  # Without its runtime it is refused, the reason and the remedy named, and nothing crashes.
  code=0
  "$cdmf" check "$work/config.yaml" >"$work/refused" 2>&1 || code=$?
  cat "$work/refused"
  [ $code -eq 1 ] || fail "exit code $code where 1 was expected"
  grep -q "needs the runtime of AddressSanitizer (${runtime%.so}.*start the program with LD_PRELOAD=" "$work/refused" ||
    fail "the missing runtime is not explained"
  # With it, the plain host is the host of a sanitized plugin. What the plain parts leave to the end of the process is
  # not the plugin's leak.
  export LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0
fi
"$cdmf" check "$work/config.yaml"

LD_PRELOAD= head -c 300000 /dev/urandom >"$work/sent"
timeout 60 "$cdmf" recv "$work/config.yaml" --raw >"$work/received" &
receiver=$!
timeout 60 "$cdmf" send "$work/config.yaml" --raw <"$work/sent" || { kill $receiver; fail "send failed"; }
wait $receiver || fail "recv failed"
LD_PRELOAD= cmp "$work/sent" "$work/received" || fail "what arrived is not what was sent"

timeout 250 "$cdmf" conform "$plugin" --jobs 2 >"$work/conform" 2>&1 || { cat "$work/conform"; fail "does not conform"; }
tail -n 3 "$work/conform"
