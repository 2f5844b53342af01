#!/usr/bin/env bash
# Runs every libFuzzer target for SECONDS (60) each, starting from tests/corpora/NAME; needs clang.
# New inputs go to build/fuzz/corpora/NAME; an input that fails stays in build/fuzz as crash-*.
#   tools/fuzz.sh [SECONDS [NAME...]]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
command -v clang++ >/dev/null || { echo "fuzz: clang is not installed (apt-get install clang)" >&2; exit 1; }
env -u CMAKE_CXX_FLAGS CXX=clang++ cmake -S . -B build/fuzz -DCMAKE_BUILD_TYPE=RelWithDebInfo -DOCTAVO_SANITIZE=address,undefined \
  -DOCTAVO_BUILD_TESTS=OFF -DOCTAVO_BUILD_FUZZERS=ON
cmake --build build/fuzz -j "$(nproc)" --target octavo_fuzzers
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  mapfile -t names < <(find build/fuzz/tests -maxdepth 1 -name 'octavo_fuzz_*' -type f -executable | sed 's/.*octavo_fuzz_//' | sort)
fi
for name in "${names[@]}"; do
  echo "== $name, $seconds s"
  mkdir -p "build/fuzz/corpora/$name"
  build/fuzz/tests/octavo_fuzz_"$name" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    -artifact_prefix=build/fuzz/ "build/fuzz/corpora/$name" "tests/corpora/$name"
done
