#!/usr/bin/env python3
"""octavo judge and octavo sensitivity: scores by what a model is for, and which layers cost them."""
import csv
import json
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

from octavo_command import BINARY, DECODER, ENCODER, SAMPLES, OctavoTest, octavo
from reference import np, onnx
from quantize_test import make_model

# In pixels of the samples; the cup, the cat's face.
PROMPTS = {"coffee.png": [{"box": [150, 60, 430, 330]}], "chelsea.png": [{"box": [80, 30, 300, 280]}, {"points": [[220, 150]]}]}


class JudgeTest(OctavoTest):
    @classmethod
    def setUpClass(cls):
        cls.shared = cls.make_shared()
        cls.photos = cls.shared / "photos"
        cls.photos.mkdir()
        for name in PROMPTS:
            shutil.copy(SAMPLES / name, cls.photos)
        cls.prompts = cls.shared / "prompts.json"
        cls.prompts.write_text(json.dumps(PROMPTS))
        cls.pictures = ("--data", cls.photos, "--preprocess", "sam", "--threads", "1")
        cls.int8 = cls.shared / "int8.onnx"
        outcome = octavo("quantize", ENCODER, *cls.pictures, "--no-remedy", "all", "-o", cls.int8)
        assert outcome.code == 0, outcome


class Judged(JudgeTest):
    def judge(self, *arguments, code=0):
        return self.octavo("judge", *arguments, "--json", "-", code=code).json

    def test_masks(self):
        report = self.judge(ENCODER, ENCODER, self.int8, "--task", "segment", "--prompts", self.prompts, *self.pictures)
        self.assertEqual((report["task"], report["score"]), ("segment", "mask IoU"))
        self.assertEqual((report["samples"], report["questions"]), (2, 3))
        same, int8 = report["models"]
        self.assertEqual((same["score"], same["mean_bound"], same["sqnr_db"]), (1, 1, 999))
        self.assertEqual([len(scores) for scores in same["scores"]], [2, 1])  # chelsea, coffee
        # Measured 0.98; a mask of something else has less than half.
        self.assertGreater(int8["score"], 0.8)
        self.assertLess(int8["score"], 1)
        self.assertAlmostEqual(int8["score"], np.mean(sum(int8["scores"], [])), places=12)
        self.assertLess(int8["mean_bound"], int8["score"])
        self.assertGreater(int8["int8_macs_share"], 0.9)
        self.assertEqual(int8["bytes"], self.int8.stat().st_size)
        self.assertIsNone(int8["human_score"])

    def test_segments_that_people_drew(self):
        photos = self.folder / "photos"
        photos.mkdir()
        shutil.copy(SAMPLES / "coffee.png", photos)
        # What FP32 answers stands for a person: to it FP32 has 1 and INT8 what it has to FP32.
        self.octavo("segment", photos / "coffee.png", "--box", "150,60,430,330", "-o", "overlay.png",
                    "--mask", photos / "coffee.segments.png")
        prompts = {"coffee.png": [{**PROMPTS["coffee.png"][0], "segment": 255}]}
        (self.folder / "p.json").write_text(json.dumps(prompts))
        report = self.judge(ENCODER, self.int8, "--task", "segment", "--prompts", "p.json", "--data", photos, "--preprocess", "sam")
        self.assertEqual(report["human_score"], 1)
        self.assertEqual(report["models"][0]["human_score"], report["models"][0]["score"])

    def test_heatmaps_and_tensors(self):
        for task in ("heatmap", "tensor"):
            report = self.judge(ENCODER, ENCODER, self.int8, "--task", task, *self.pictures)
            same, int8 = report["models"]
            self.assertEqual(report["questions"], 2)
            self.assertEqual(same["score"], 1)
            self.assertLess(int8["score"], 1)
            if task == "tensor":  # 30 dB are 0.999
                self.assertGreater(int8["score"], 0.99)

    def test_least(self):
        model = (ENCODER, self.int8, *self.pictures)  # --task tensor
        score = self.judge(*model)["models"][0]["score"]
        self.judge(*model, "--least", score)
        self.judge(*model, "--least", np.nextafter(score, 2), code=1)

    def test_a_mask_decoder(self):
        data = ("--data", self.photos, "--encoder", ENCODER, "--task", "segment", "--prompts", self.prompts, "--threads", "1")
        self.octavo("quantize", DECODER, *data, "--no-remedy", "all", "-o", "d.onnx")
        report = self.judge(DECODER, DECODER, "d.onnx", *data)
        self.assertEqual((report["samples"], report["questions"]), (2, 3))  # pictures, prompts
        same, int8 = report["models"]
        self.assertEqual((same["score"], same["sqnr_db"]), (1, 999))
        self.assertGreater(int8["score"], 0.8)
        self.assertLess(int8["score"], 1)

    def test_what_cannot_be(self):
        judge = lambda *flags: self.refused("judge", ENCODER, self.int8, *flags, *self.pictures)
        for flags in (("--decoder", DECODER), ("--prompts", self.prompts), ("--encoder", ENCODER, "--task", "tensor")):
            self.assertIn("go with --task segment", judge(*flags))
        self.assertIn("the model is the decoder", judge("--task", "segment", "--encoder", ENCODER, "--decoder", DECODER))
        self.assertIn("takes no image_embeddings", judge("--task", "segment", "--encoder", ENCODER))
        self.assertIn("needs the --encoder", self.refused("judge", DECODER, DECODER, "--task", "segment", *self.with_arrays(DECODER)))
        self.assertIn("--least", judge("--least", "1.5"))
        (self.folder / "p.json").write_text('{"coffee.png": [{"box": [1, 2, 3]}]}')
        self.assertIn("'coffee.png', prompt 1", judge("--task", "segment", "--prompts", "p.json"))
        (self.folder / "p.json").write_text('{"coffee.png": [{"box": [9000, 0, 9001, 1]}]}')
        self.assertIn("coffee.png", judge("--task", "segment", "--prompts", "p.json"))
        self.assertIn("missing.json", judge("--task", "segment", "--prompts", "missing.json"))

    def with_arrays(self, model):
        """One sample of zeros for each input of a model."""
        folder = self.folder / "arrays"
        folder.mkdir()
        shapes = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in onnx.load(model).graph.input}
        np.savez(folder / "0.npz", **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        return "--data", folder

    def test_models_of_other_inputs(self):
        make_model(self.folder / "small.onnx")
        self.assertIn("small.onnx", self.refused("judge", ENCODER, "small.onnx", *self.pictures))


class Sensitivity(JudgeTest):
    def setUp(self):
        super().setUp()
        # The other sample calibrates.
        self.common = ("sensitivity", ENCODER, *self.pictures, "--check", self.photos, "--judging-samples", "2",
                       "--precisions", "int8", "--no-without", "--no-times")

    def test_layers_as_json_and_csv(self):
        printed = self.octavo(*self.common, "-o", "s.json", "--csv", "s.csv", "--top", "3").stdout
        self.assertIn("... 42 layers more", printed)
        report = json.loads((self.folder / "s.json").read_text())
        self.assertEqual(len(report["layers"]), 45)
        scores = [layer["alone"][0]["score"] for layer in report["layers"]]
        self.assertEqual(scores, sorted(scores))
        # Noise of layers alone is less than that of all together.
        self.assertLess(report["all_int8"]["score"], scores[0])
        with open(self.folder / "s.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual([row["node"] for row in rows], [layer["node"] for layer in report["layers"]])
        self.assertEqual([float(row["score"]) for row in rows], scores)
        self.assertFalse((self.folder / "s.json.checkpoint").exists())

    def test_interrupted_and_resumed(self):
        process = subprocess.Popen([str(BINARY), *map(str, self.common), "-o", "s.json"], cwd=self.folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.wait_for_handler(process)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 4, errors)
        self.assertIn(b"the same command with --resume goes on from 's.json.checkpoint'", errors)
        self.assertFalse((self.folder / "s.json").exists())
        done = len(json.loads((self.folder / "s.json.checkpoint").read_text())["layers"])
        self.assertLess(done, 45)
        self.assertIn("other settings", self.refused(*self.common, "-o", "s.json", "--resume", "--task", "heatmap"))
        self.octavo(*self.common, "-o", "s.json", "--resume")
        self.assertFalse((self.folder / "s.json.checkpoint").exists())
        self.octavo(*self.common, "-o", "whole.json")
        self.assertEqual((self.folder / "s.json").read_bytes(), (self.folder / "whole.json").read_bytes())

    def wait_for_handler(self, process):
        """Until SIGINT asks for an orderly end; the kernel lists which signals are caught."""
        until = time.monotonic() + 60
        caught = 0
        while not caught >> (signal.SIGINT - 1) & 1:
            self.assertIsNone(process.poll(), "it ended before it could be interrupted")
            self.assertLess(time.monotonic(), until)
            time.sleep(0.005)
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)

    def test_what_cannot_be(self):
        self.assertIn("--data is missing", self.refused("sensitivity", ENCODER))
        self.assertIn("--precisions", self.refused(*self.common, "--precisions", "fp32"))
        self.assertIn("go with --task segment", self.refused(*self.common, "--decoder", DECODER))
        self.assertIn("is no size", self.refused(*self.common, "--memory", "much"))
        self.assertIn("minmax", self.refused(*self.common, "--estimator", "best"))
        one = self.folder / "one"
        one.mkdir()
        shutil.copy(SAMPLES / "coffee.png", one)
        self.assertIn("two samples at least", self.refused("sensitivity", ENCODER, "--data", one, "--preprocess", "sam"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
