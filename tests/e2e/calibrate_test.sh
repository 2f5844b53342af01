#!/usr/bin/env bash
# Calibration's command line, end to end. Needs nothing but Python's standard library.
command -v python3 >/dev/null || { echo "SKIP: no python3"; exit 77; }
exec python3 "$(dirname "$0")/calibrate.py" "$@"
