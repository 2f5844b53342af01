#!/usr/bin/env bash
# clang-tidy over our sources (tests and fuzz targets included), with the checks of .clang-tidy.
#   tools/tidy.sh BUILD_DIR [FILE...]
set -euo pipefail
build=$(realpath "$1")
shift
cd "$(dirname "$0")/.."
command -v clang-tidy >/dev/null || { echo "tidy: clang-tidy is not installed (apt-get install clang-tidy)" >&2; exit 1; }
if [ $# -eq 0 ]; then mapfile -t files < <(git ls-files 'src/*.cc' 'cli/*.cc' 'tests/*.cc' ':!tests/consumer'); else files=("$@"); fi
# GCC's own flags mean nothing to clang-tidy.
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$build" \
  --extra-arg=-Wno-unknown-warning-option --extra-arg=-Wno-unused-command-line-argument
