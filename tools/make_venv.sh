#!/usr/bin/env bash
# Makes the Python environment of the tests that compare with ONNX Runtime: .venv in the repository's root.
#
#   tools/make_venv.sh            onnx, onnxruntime, numpy, pillow
#   tools/make_venv.sh --peers    also OpenVINO and NNCF, for `make bench` and bench/interop.py
#
# Without a network it prints why and returns 0: the tests that want the environment then skip and say so.
# --strict makes that an error.
set -euo pipefail
cd "$(dirname "$0")/.."

requirements=(tools/requirements.txt)
strict=false
for argument in "$@"; do
  case "$argument" in
    --peers) requirements+=(bench/requirements.txt) ;;
    --strict) strict=true ;;
    *)
      sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//' >&2
      exit 2
      ;;
  esac
done

stamp=.venv/installed.txt
wanted=$(cat "${requirements[@]}" | sort)
# An environment with more in it than is asked for will do.
if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ -z "$(comm -23 <(echo "$wanted") "$stamp")" ]; then
  exit 0
fi

give_up() {
  echo "make_venv: $1; tests that compare with ONNX Runtime will skip" >&2
  $strict && exit 1
  exit 0
}
command -v python3 >/dev/null || give_up "python3 is not installed (scripts/install_deps.sh --tests)"
python3 -m venv .venv || give_up "python3 -m venv failed"
arguments=()
for file in "${requirements[@]}"; do arguments+=(-r "$file"); done
.venv/bin/python -m pip install --quiet --disable-pip-version-check "${arguments[@]}" || give_up "pip could not install the packages"
echo "$wanted" >"$stamp"
