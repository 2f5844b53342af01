"""docs/ops.md says what the op table says."""
import os
import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(os.environ["OCTAVO_SOURCE"]) / "tools" / "make_ops_doc.py"
sys.exit(subprocess.run([sys.executable, str(SCRIPT), os.environ["OCTAVO_BIN"], "--check"]).returncode)
