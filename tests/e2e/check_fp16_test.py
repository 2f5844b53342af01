#!/usr/bin/env python3
"""octavo check-fp16: the embedded encoder overflows in FP16, is found out, rescaled, and is the same model."""
import json
import pathlib
import shutil
import tempfile
import unittest

from octavo_command import ENCODER, SAMPLES, copy_photos, octavo
from reference import Frame, load_rgb, np, onnx, open_session, run, sqnr_db


class CheckFp16(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-fp16-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        photos = cls.folder / "photos"
        copy_photos(photos)
        # Not every picture overflows: all of them judge.
        cls.data = ("--data", photos, "--check", photos, "--preprocess", "sam", "--threads", "1")
        cls.safe = cls.folder / "safe.onnx"
        cls.outcome = octavo("check-fp16", ENCODER, *cls.data, "-o", cls.safe, "--json", cls.folder / "report.json")
        assert cls.outcome.code == 1, cls.outcome
        cls.report = json.loads((cls.folder / "report.json").read_text())

    def octavo(self, *arguments, code=0):
        outcome = octavo(*arguments, cwd=self.folder)
        self.assertEqual(outcome.code, code, outcome)
        return outcome

    def test_sums_of_linear_attention_are_named(self):
        self.assertTrue(self.report["findings"])
        for finding in self.report["findings"]:
            self.assertEqual((finding["risk"], finding["remedy"]), ("overflow", "rescale"))
            self.assertIn("linear attention", finding["pattern"])
            self.assertLess(finding["octaves"], 0)
            self.assertGreater(finding["magnitude"], 0.25 * 65504)
        self.assertIn("rescale by 2^-", self.outcome.stdout)

    def test_the_remedies_bring_the_result_back(self):
        (output,) = self.report["outputs"]
        self.assertGreater(output["fp16"]["nonfinite"], 0)
        self.assertEqual(output["remedied"]["nonfinite"], 0)
        self.assertGreater(output["remedied"]["sqnr_db"], 50)
        self.assertEqual(self.report["float32_nodes"], [])

    def test_the_written_model_computes_the_same(self):
        onnx.checker.check_model(str(self.safe))
        inputs = {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor}
        (expected,) = run(open_session(ENCODER), inputs).values()
        (found,) = run(open_session(self.safe), inputs).values()
        # Another order of sums in a fused product: float32 rounding.
        self.assertGreater(sqnr_db(expected, found), 100)

    def test_the_written_model_has_no_risks(self):
        self.assertIn("no value comes near", self.octavo("check-fp16", self.safe, *self.data).stdout)

    def test_every_command_that_runs_models_takes_the_precision(self):
        np.save(self.folder / "x.npy", Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor)
        self.octavo("run", self.safe, "x.npy", "--precision", "fp16", "--threads", "1", "-o", "out")
        (output,) = (np.load(path) for path in (self.folder / "out").iterdir())
        self.assertTrue(np.isfinite(output).all())
        np.testing.assert_array_equal(output, output.astype(np.float16).astype(np.float32))
        layers = json.loads(self.octavo("inspect", self.safe, "--precision", "fp16", "--plan", "--json", "-").stdout)
        self.assertIn("fp16", json.dumps(layers))

    def test_what_is_no_margin_is_refused(self):
        self.assertIn("--margin", self.octavo("check-fp16", ENCODER, *self.data, "--margin", "2", code=2).stderr)


if __name__ == "__main__":
    unittest.main()
