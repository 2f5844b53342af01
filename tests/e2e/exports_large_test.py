#!/usr/bin/env python3
"""What PyTorch's exporters write, against ONNX Runtime: every .onnx in $OCTAVO_EXPORTS (.models/exports, filled by
tools/export_models.py), on random smooth pictures. Prints decibels, what the passes found and both times.

    exports_large_test.py [PATTERN]      only the models that fit, e.g. 'swin*'

The seed is that of the day's inputs: $OCTAVO_SEED, or one that is drawn and printed.
"""
import fnmatch
import json
import os
import pathlib
import secrets
import sys
import time
import unittest

from octavo_command import ROOT
from onnxruntime_test import AgainstOnnxRuntime
from reference import Image, np, open_session, ort, run, sqnr_db

FOLDER = pathlib.Path(os.environ.get("OCTAVO_EXPORTS", ROOT / ".models/exports"))
SEED = int(os.environ.get("OCTAVO_SEED", secrets.randbelow(2**31)))
# Float sums of some hundred terms through a dozen layers, in another order on each side: see onnxruntime_test.py.
LEAST_DB = 80


def picture(random, shape):
    """Smooth as pictures are: noise at 1/32, 1/8 and 1/2 of the size, normalized to about mean 0 and deviation 1."""
    batch, channels, height, width = shape
    planes = np.zeros((batch * channels, height, width), np.float32)
    for shrink, weight in ((32, 1.0), (8, 0.5), (2, 0.25)):
        size = (max(2, height // shrink), max(2, width // shrink))
        for plane in planes:
            noise = Image.fromarray(random.standard_normal(size).astype(np.float32))
            plane += weight * np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC))
    return planes.reshape(shape)


def onnxruntime_ms(path, inputs):
    """The best of three after a first call, on one thread."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    session.run(None, inputs)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        session.run(None, inputs)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


class Exports(AgainstOnnxRuntime):
    def check_export(self, path):
        for number, shape in enumerate(json.loads(path.with_suffix(".inputs.json").read_text())["pixels"]):
            random = np.random.default_rng([SEED, number])
            inputs = {"pixels": picture(random, shape)}
            np.save(self.folder / "pixels.npy", inputs["pixels"])
            expected = run(open_session(path), inputs)
            got = self.run_octavo(path, inputs)
            self.assertEqual(set(got), set(expected))
            decibels = {name: sqnr_db(reference, got[name]) for name, reference in expected.items()}
            sizes = "x".join(map(str, shape))
            report = self.octavo("inspect", path, "--input-shape", f"pixels={sizes}", "--json", "-").json
            bench = self.octavo("bench", path, "--input-shape", f"pixels={sizes}", "--threads", "1", "--iterations", "3",
                                "--json", "-").json
            passes = ", ".join(f"{entry['name']} {entry['rewrites']}" for entry in report["passes"] if entry["rewrites"])
            print(f"{path.stem} {sizes}: {', '.join(f'{db:.1f}' for db in decibels.values())} dB; {passes}")
            print(f"  {bench['median_ms']:.1f} ms on one thread; ONNX Runtime {onnxruntime_ms(path, inputs):.1f} ms",
                  flush=True)
            for name, value in decibels.items():
                self.assertGreaterEqual(value, LEAST_DB, f"{name}, OCTAVO_SEED={SEED}")


def add_tests(pattern):
    paths = [path for path in sorted(FOLDER.glob("*.onnx")) if fnmatch.fnmatch(path.stem, pattern)
             and path.with_suffix(".inputs.json").exists()]
    for path in paths:
        setattr(Exports, f"test_{path.stem}", lambda self, path=path: self.check_export(path))
    return paths


if __name__ == "__main__":
    if not add_tests(sys.argv[1] if len(sys.argv) > 1 else "*"):
        print(f"SKIP: no exported models in {FOLDER} (make test-exports; or tools/make_export_venv.sh, then "
              ".venv-export/bin/python tools/export_models.py)")
        sys.exit(77)
    print(f"OCTAVO_SEED={SEED}")
    unittest.main(argv=sys.argv[:1], verbosity=1)
