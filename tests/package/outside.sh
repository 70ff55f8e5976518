#!/bin/sh
# outside.sh <cmake> <outside project> <work folder> <generator>
set -eu
cmake=$1 outside=$2 prefix=$3/prefix work=$3/outside generator=$4
rm -rf "$work"
mkdir -p "$work"
# What the environment says about this build must not reach the installed program.
unset CDMF_PLUGIN_PATH CDMF_BINARY CDMF_CONFIG_DIR

# Its plugins go into a folder of their own: other tests use the prefix as it is.
"$cmake" -S "$outside" -B "$work/build" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$work/prefix" -DCMAKE_INSTALL_LIBDIR=lib
"$cmake" --build "$work/build"
"$cmake" --install "$work/build" >"$work/install.log"
"$(dirname "$cmake")/ctest" --test-dir "$work/build" --output-on-failure --no-tests=error

# A plugin exports its descriptor and nothing else.
acme=$work/prefix/lib/cdmf/1
for plugin in "$prefix"/lib*/cdmf/1/libcdmf_*.so "$prefix"/lib/*/cdmf/1/libcdmf_*.so "$acme"/libcdmf_*.so; do
  [ -e "$plugin" ] || continue
  exported=$(nm -D --defined-only "$plugin" | awk '{ print $3 }')
  if [ "$exported" != cdmf_plugin_v1 ]; then
    echo "$plugin exports: $exported" >&2
    exit 1
  fi
done

# The installed program finds the installed plugins, the outside one where it is told, and accepts the installed
# configurations.
"$prefix/bin/cdmf" --plugin-path "$acme" plugins list >"$work/list"
for type in acme_packet loopback shm unix_socket; do
  grep -q "^$type .*/cdmf/1/libcdmf_$type.so " "$work/list" ||
    { echo "the installed program does not find the plugin $type" >&2; cat "$work/list"; exit 1; }
done
"$prefix/bin/cdmf" check "$prefix"/share/cdmf/config/*.yaml
