#!/usr/bin/env python3
"""The embedded models against ONNX Runtime: outputs, masks over real pictures, models that were saved again."""
import json
import os
import pathlib
import unittest

from octavo_command import DECODER, ENCODER, HARD_ENCODER, ROOT, SAMPLES, OctavoTest
from reference import Frame, Sam, load_rgb, np, onnx, open_session, run, sqnr_db

# Both sides add up the same products in another order. Float32 has 24 bits: 6.02 * 24 = 144 dB for one rounding; a sum of
# some thousand terms through some fifty layers loses 30 to 50 dB of that. The issue asks for 90.
FP32_DB = 90
BF16_DB = 35

CHECK = pathlib.Path(os.environ.get("OCTAVO_SHARED", ROOT.parent / "shared")) / "images/check"
SAMPLE_BOXES = {
    "astronaut.png": [[150, 8, 292, 200], [25, 150, 370, 511], [280, 345, 511, 511], [375, 5, 475, 290]],
    "chelsea.png": [[100, 10, 400, 299], [60, 60, 240, 200]],
    "coffee.png": [[120, 60, 470, 350], [0, 0, 300, 200]],
    "rocket.jpg": [[300, 60, 360, 400], [0, 300, 639, 426]],
}


def pictures_with_boxes():
    """Path and boxes: the samples, and the check set where it is there."""
    found = [(SAMPLES / name, boxes) for name, boxes in SAMPLE_BOXES.items()]
    if (CHECK / "prompts.json").exists():
        prompts = json.loads((CHECK / "prompts.json").read_text())
        found += [(CHECK / name, [entry["box"] for entry in entries]) for name, entries in prompts.items()]
    else:
        print(f"{CHECK} is not there: masks are compared on samples/ only")
    return found


class AgainstOnnxRuntime(OctavoTest):
    def run_octavo(self, model, inputs, *flags):
        given = []
        for name, value in inputs.items():
            np.save(self.folder / f"{name}.npy", value)
            given += ["--input", f"{name}={name}.npy"]
        report = self.octavo("run", model, *given, "-o", "out", "--json", "-", *flags).json
        return {output["name"]: np.load(self.folder / output["file"]) for output in report["outputs"]}

    def check(self, model, inputs, least_db, *flags):
        expected = run(open_session(model), inputs)
        got = self.run_octavo(model, inputs, *flags)
        self.assertEqual(set(got), set(expected))
        for name, reference in expected.items():
            decibels = sqnr_db(reference, got[name])
            print(f"{model.name} {name} {' '.join(flags) or '--precision fp32'}: {decibels:.1f} dB")
            self.assertGreaterEqual(decibels, least_db, name)

    def check_saved(self, model, inputs, *flags):
        saved = self.folder / "saved.onnx"
        self.octavo("resave", model, saved, *flags)
        onnx.checker.check_model(str(saved), full_check=True)
        expected, got = run(open_session(model), inputs), run(open_session(saved), inputs)
        self.assertEqual(list(got), list(expected))
        for name in expected:
            # One graph, one engine: the same bits, unless its optimizer orders two nodes otherwise.
            self.assertGreaterEqual(sqnr_db(expected[name], got[name]), 120, name)


class Outputs(AgainstOnnxRuntime):
    def test_encoders(self):
        for name in SAMPLE_BOXES:
            inputs = {"input_image": Frame(load_rgb(SAMPLES / name), 256).tensor}
            for model in (ENCODER, HARD_ENCODER):
                with self.subTest(picture=name, model=model.name):
                    self.check(model, inputs, FP32_DB)
                    self.check(model, inputs, BF16_DB, "--precision", "bf16")

    def test_encoder_on_a_batch(self):
        tensors = [Frame(load_rgb(SAMPLES / name), 256).tensor for name in SAMPLE_BOXES]
        self.check(ENCODER, {"input_image": np.concatenate(tensors)}, FP32_DB)

    def test_encoder_without_any_pass(self):
        report = self.octavo("inspect", ENCODER, "--json", "-").json
        flags = [flag for entry in report["passes"] for flag in ("--disable-pass", entry["name"])]
        self.check(ENCODER, {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor}, FP32_DB, *flags)

    def test_decoder(self):
        frame = Frame(load_rgb(SAMPLES / "astronaut.png"), 256)
        (embeddings,) = open_session(ENCODER).run(None, {"input_image": frame.tensor})
        prompts = {
            "one box": ([[[75, 4], [146, 100]]], [[2, 3]]),
            "two boxes": ([[[75, 4], [146, 100]], [[190, 3], [237, 145]]], [[2, 3], [2, 3]]),
            "points": ([[[110, 50], [10, 10], [200, 200]]], [[1, 0, 0]]),
            "a point and padding": ([[[110, 50], [0, 0]]], [[1, -1]]),
        }
        for name, (coordinates, labels) in prompts.items():
            with self.subTest(name):
                self.check(DECODER, {"image_embeddings": embeddings, "point_coords": np.array(coordinates, np.float32),
                                     "point_labels": np.array(labels, np.float32)}, FP32_DB)


class Masks(AgainstOnnxRuntime):
    def test_masks_are_equal_on_999_of_1000_pixels(self):
        equal = total = 0
        worst = (2, "")
        sam = Sam(ENCODER, DECODER, 256)
        for path, boxes in pictures_with_boxes():
            sam.encode(load_rgb(path))
            for number, box in enumerate(boxes):
                expected, score = sam.predict_box(box)
                report = self.octavo("segment", path, "--box", ",".join(map(str, box)), "--mask", "mask.png", "--threads", "1",
                                     "--json", "-").json
                got = np.asarray(load_rgb(self.folder / "mask.png"))[..., 0] > 0
                self.assertEqual(got.shape, expected.shape)
                # The prediction ends in float32 sums of 128 terms near 1: far below 1e-3.
                self.assertAlmostEqual(report["masks"][0]["iou_prediction"], score, delta=1e-3)
                same = int((got == expected).sum())
                equal, total = equal + same, total + got.size
                worst = min(worst, (same / got.size, f"{path.name} box {number + 1}"))
        print(f"masks equal on {100 * equal / total:.4f} % of {total} pixels; worst {100 * worst[0]:.3f} % ({worst[1]})")
        self.assertGreaterEqual(equal / total, 0.999)

    def test_points(self):
        sam = Sam(ENCODER, DECODER, 256)
        picture = SAMPLES / "astronaut.png"
        sam.encode(load_rgb(picture))
        expected, score = sam.predict([[220, 100], [20, 20]], [1, 0])
        report = self.octavo("segment", picture, "--point", "220,100", "--point", "20,20,0", "--mask", "mask.png", "--json", "-").json
        got = np.asarray(load_rgb(self.folder / "mask.png"))[..., 0] > 0
        self.assertGreaterEqual((got == expected).mean(), 0.999)
        self.assertAlmostEqual(report["masks"][0]["iou_prediction"], score, delta=1e-3)


class Saved(AgainstOnnxRuntime):
    def test_saved_models_are_valid_and_give_the_same_outputs(self):
        picture = {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor}
        prompt = {"image_embeddings": np.random.default_rng(0).standard_normal((1, 128, 32, 32)).astype(np.float32),
                  "point_coords": np.array([[[10, 20], [200, 180]]], np.float32),
                  "point_labels": np.array([[2, 3]], np.float32)}
        for model, inputs in ((ENCODER, picture), (HARD_ENCODER, picture), (DECODER, prompt)):
            for flags in ([], ["--external-data"]):
                with self.subTest(model=model.name, flags=flags):
                    self.check_saved(model, inputs, *flags)


if __name__ == "__main__":
    unittest.main(verbosity=2)
