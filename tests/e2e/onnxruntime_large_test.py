#!/usr/bin/env python3
"""The large models against ONNX Runtime. They are looked for in $OCTAVO_MODELS (.models, filled by tools/get_models.sh)."""
import os
import pathlib
import sys
import unittest

from octavo_command import ROOT, SAMPLES
from onnxruntime_test import BF16_DB, FP32_DB, AgainstOnnxRuntime
from reference import Frame, load_rgb, np

FOLDER = pathlib.Path(os.environ.get("OCTAVO_MODELS", ROOT / ".models"))
FILES = ("l0.onnx", "l2.onnx", "xl0.onnx", "vit_s_focus.onnx", "terrain_unet.onnx")


def diffusion_inputs():
    """First and late steps of a sample: pure noise, and noise of the data's size."""
    random = np.random.default_rng(0)
    for sigma in (80.0, 0.5):
        noisy = (sigma * random.standard_normal((1, 1, 128, 128))).astype(np.float32)
        yield {"noisy": noisy, "sigma": np.array([sigma], np.float32), "difficulty": np.array([0.5], np.float32)}


class LargeModels(AgainstOnnxRuntime):
    def model(self, name):
        path = FOLDER / name
        if not path.exists():
            self.skipTest(f"{path} is not there (tools/get_models.sh)")
        return path

    def check_encoder(self, name, side):
        model = self.model(name)
        inputs = {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), side).tensor}
        self.check(model, inputs, FP32_DB)
        self.check(model, inputs, BF16_DB, "--precision", "bf16")

    def test_l0(self):
        self.check_encoder("l0.onnx", 512)

    def test_l2(self):
        self.check_encoder("l2.onnx", 512)

    def test_xl0(self):
        self.check_encoder("xl0.onnx", 1024)

    def test_vit_s(self):
        self.check_encoder("vit_s_focus.onnx", 224)

    def test_unet(self):
        model = self.model("terrain_unet.onnx")
        for inputs in diffusion_inputs():
            self.check(model, inputs, 80)  # the bound: deep sums of normalized values

    def test_saved_models(self):
        picture = {side: {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), side).tensor} for side in (224, 512)}
        for name, inputs in (("l0.onnx", picture[512]), ("vit_s_focus.onnx", picture[224]),
                             ("terrain_unet.onnx", next(diffusion_inputs()))):
            with self.subTest(name):
                self.check_saved(self.model(name), inputs)

    def test_l0_takes_at_most_600_megabytes(self):
        model = self.model("l0.onnx")
        report = self.octavo("bench", model, "--threads", "2", "--iterations", "3", "--json", "-").json
        print(f"L0: peak memory {report['peak_rss_mb']:.0f} MB, first result after {report['first_ms']:.0f} ms")
        self.assertLessEqual(report["peak_rss_mb"], 600)


if __name__ == "__main__":
    if not any((FOLDER / name).exists() for name in FILES):
        print(f"SKIP: none of {', '.join(FILES)} in {FOLDER} (tools/get_models.sh)")
        sys.exit(77)
    unittest.main(verbosity=2)
