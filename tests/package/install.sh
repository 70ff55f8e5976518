#!/bin/sh
# install.sh <cmake> <build folder of cdmf> <work folder>
# Makes <work folder>/prefix anew, so that nothing of an earlier installation can help.
set -eu
rm -rf "$3/prefix"
mkdir -p "$3"
"$1" --install "$2" --prefix "$3/prefix" >"$3/install.log"
