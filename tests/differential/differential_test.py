"""Every case, through the engine and through the generic kernels alone."""
import os
import sys

import run

for engine in ("octavo", "reference"):
    if run.main([os.environ["OCTAVO_BIN"], "--engine", engine]) != 0:
        sys.exit(1)
