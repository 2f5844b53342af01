#!/usr/bin/env bash
# Makes the Python environment that exports models from PyTorch: .venv-export in the repository's root, some 6 GB, for
# `make test-exports` and tools/export_models.py. $OCTAVO_EXPORT_VENV names another folder.
# What keeps it from being made is one line on standard error, and exit code 1.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${OCTAVO_EXPORT_VENV:-.venv-export}
requirements=tools/export-requirements.txt

if [ -x "$venv/bin/python" ] && cmp -s "$requirements" "$venv/installed.txt"; then exit 0; fi

give_up() {
  echo "make_export_venv: $1; no models are exported, and tests of exported models will skip" >&2
  exit 1
}
command -v python3 >/dev/null || give_up "python3 is not installed (scripts/install_deps.sh --tests)"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || give_up "Python 3.10 or newer is needed"
free_mb=$(df -Pm "$(dirname "$venv")" | awk 'NR == 2 { print $4 }')
[ "$free_mb" -ge 8000 ] || give_up "$venv needs 8 GB of disk, and $free_mb MB are free"
python3 -m venv "$venv" || give_up "python3 -m venv failed"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir -r "$requirements" ||
  give_up "pip could not install what $requirements lists (is there a network?)"
cp "$requirements" "$venv/installed.txt"
