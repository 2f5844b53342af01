#!/usr/bin/env python3
"""Models that other tools quantized run in Octavo's engine, and agree with ONNX Runtime's own result of the same file.

Two runs of one quantized model that round differently part at ties, and every later quantizer turns what is left into
whole steps: agreement is bounded by the noise of the quantization itself, not by the arithmetic's precision. Where
contractions alone are quantized it must reach 30 dB. ONNX Runtime's default also quantizes linear attention and all
elementwise ops; such a file is so noisy that ONNX Runtime agrees with itself, optimized and not, only to some 22 dB:
there Octavo must agree as well as that, less 3 dB.
"""
import os
import pathlib
import sys
import tempfile
import unittest

from octavo_command import ROOT, SAMPLES, octavo
from reference import Frame, load_rgb, np, ort, sqnr_db

sys.path.insert(0, str(ROOT / "tools"))
import make_peer_models as peers  # noqa: E402

try:
    import onnxruntime.quantization  # noqa: F401
except ImportError as error:
    print(f"SKIP: {error}")
    sys.exit(77)

FOLDER = pathlib.Path(os.environ.get("OCTAVO_MODELS", ROOT / ".models")) / "peers"


def run_onnxruntime(path, inputs, optimized=True):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


class PeerModels(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(dir=os.environ.get("OCTAVO_WORK"))))
        self.inputs = {"input_image": Frame(load_rgb(SAMPLES / peers.HELD_OUT), 256).tensor}
        np.save(self.folder / "input.npy", self.inputs["input_image"])

    def run_octavo(self, path):
        outcome = octavo("run", path, "--input", f"input_image={self.folder / 'input.npy'}", "-o", self.folder)
        self.assertEqual(outcome.code, 0, str(outcome))
        return np.load(self.folder / "image_embeddings.npy")

    def make(self, kind):
        path = self.folder / f"nano-{kind}.onnx"
        peers.make("nano", kind, path)
        return path

    def test_contractions_quantized_by_onnxruntime(self):
        for kind in ("u8u8c", "u8s8c", "s8s8c"):
            with self.subTest(kind):
                path = self.make(kind)
                self.assertGreaterEqual(sqnr_db(run_onnxruntime(path, self.inputs), self.run_octavo(path)), 30)
                plan = octavo("inspect", path, "--json", "-").json["plan"]
                # Everything but the four products of linear attention, 0.1 % of the multiply-accumulates.
                self.assertGreater(plan["int8_macs_share"], 0.99)

    def test_everything_quantized_by_onnxruntime(self):
        for kind in ("u8u8", "u8s8", "s8s8"):
            with self.subTest(kind):
                path = self.make(kind)
                expected = run_onnxruntime(path, self.inputs)
                own = sqnr_db(expected, run_onnxruntime(path, self.inputs, optimized=False))
                self.assertGreaterEqual(sqnr_db(expected, self.run_octavo(path)), own - 3)

    def test_quantized_by_nncf(self):
        path = FOLDER / "nano-nncf.onnx"
        if not path.exists():
            self.skipTest(f"{path} is not there (tools/make_venv.sh --peers, then tools/make_peer_models.py --kinds nncf)")
        self.assertGreaterEqual(sqnr_db(run_onnxruntime(path, self.inputs), self.run_octavo(path)), 30)


if __name__ == "__main__":
    unittest.main()
