"""Calls the command line under test."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

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


def copy_photos(folder):
    """The sample pictures, in a new folder."""
    folder.mkdir()
    for picture in sorted(SAMPLES.iterdir()):
        if picture.suffix in (".png", ".jpg"):
            shutil.copy(picture, folder)


class OctavoTest(unittest.TestCase):
    """Each test has a folder of its own, in which the command runs."""

    @classmethod
    def make_shared(cls):
        """A folder for all tests of the class."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-shared-"))
        cls.addClassCleanup(shutil.rmtree, folder)
        return folder

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-test-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def octavo(self, *arguments, code=0, **options):
        outcome = octavo(*arguments, cwd=options.pop("cwd", self.folder), **options)
        self.assertEqual(outcome.code, code, outcome)
        return outcome

    def refused(self, *arguments):
        """Exit code 2, and one line on standard error, which is returned."""
        outcome = self.octavo(*arguments, code=2)
        self.assertEqual(len(outcome.stderr.strip().splitlines()), 1, outcome)
        return outcome.stderr
