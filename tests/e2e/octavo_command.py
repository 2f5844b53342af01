"""Calls the command line under test."""
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(os.environ.get("OCTAVO_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
BINARY = pathlib.Path(os.environ.get("OCTAVO_BIN", ROOT / "build/release/octavo")).resolve()
MODELS = ROOT / "models"
SAMPLES = ROOT / "samples"
ENCODER = MODELS / "efficientvit-sam-nano-encoder.onnx"
HARD_ENCODER = MODELS / "efficientvit-sam-nano-hard-encoder.onnx"
DECODER = MODELS / "efficientvit-sam-nano-decoder.onnx"


class Outcome:
    def __init__(self, process):
        self.code = process.returncode
        self.stdout = process.stdout.decode(errors="replace")
        self.stderr = process.stderr.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.stdout)

    def __str__(self):
        return f"exit code {self.code}\n--- stdout\n{self.stdout}--- stderr\n{self.stderr}"


def octavo(*arguments, cwd=None, stdin=b"", timeout=600):
    command = [str(BINARY), *map(str, arguments)]
    return Outcome(subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, timeout=timeout))
