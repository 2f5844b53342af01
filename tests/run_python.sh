#!/usr/bin/env bash
# Runs a Python test in the repository's .venv (or $OCTAVO_PYTHON); skips, exit code 77, when there is none.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${OCTAVO_PYTHON:-$root/.venv/bin/python}
if [ ! -x "$python" ] || ! "$python" -c 'import numpy, onnx, onnxruntime, PIL' 2>/dev/null; then
  echo "SKIP: no Python environment with onnx, onnxruntime, numpy and pillow (run tools/make_venv.sh)"
  exit 77
fi
exec "$python" "$@"
