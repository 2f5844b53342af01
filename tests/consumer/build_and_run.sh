#!/usr/bin/env bash
# Installs BUILD_DIR into a fresh prefix, builds this folder's project against it and runs both it and the installed
# command line, from a folder where neither the source nor the build tree can be found by chance.
set -euo pipefail
build=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$build/tests/work/consumer
rm -rf "$work"
mkdir -p "$work"
prefix=$work/prefix

cmake --install "$build" --prefix "$prefix" >"$work/install.log"
cmake -S "$here" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" >"$work/configure.log"
cmake --build "$work/build"

cd "$work"
"$work/build/consumer" "$prefix/share/octavo/models/efficientvit-sam-nano-encoder.onnx"
"$prefix/bin/octavo" --version
