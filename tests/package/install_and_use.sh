#!/bin/sh
# install_and_use.sh <cmake> <build folder of cdmf> <outside project> <work folder> <generator>
# Everything in the work folder is made anew, so that nothing of an earlier installation can help.
set -eu
cmake=$1 build=$2 outside=$3 work=$4 generator=$5
rm -rf "$work"
mkdir -p "$work"
prefix=$work/prefix
# What the environment says about this build must not reach the installed program.
unset CDMF_PLUGIN_PATH CDMF_BINARY CDMF_CONFIG_DIR

"$cmake" --install "$build" --prefix "$prefix" >"$work/install.log"

"$cmake" -S "$outside" -B "$work/build" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$prefix" -DCMAKE_INSTALL_LIBDIR=lib
"$cmake" --build "$work/build"
"$cmake" --install "$work/build" >>"$work/install.log"
"$(dirname "$cmake")/ctest" --test-dir "$work/build" --output-on-failure --no-tests=error

# A plugin exports its descriptor and nothing else.
for plugin in "$prefix"/lib/cdmf/1/libcdmf_*.so; do
  exported=$(nm -D --defined-only "$plugin" | awk '{ print $3 }')
  if [ "$exported" != cdmf_plugin_v1 ]; then
    echo "$plugin exports: $exported" >&2
    exit 1
  fi
done

# The installed program finds the installed plugins, the outside one among them, and accepts the installed
# configurations.
for type in acme_packet loopback shm unix_socket; do
  "$prefix/bin/cdmf" plugins list | grep -q "^$type .* $prefix/lib/cdmf/1/libcdmf_$type.so$" ||
    { echo "the installed program does not find the plugin $type" >&2; exit 1; }
done
"$prefix/bin/cdmf" check "$prefix"/share/cdmf/config/*.yaml
