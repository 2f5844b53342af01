#!/usr/bin/env python3
"""--task classify, text and command: scores against ONNX Runtime and NumPy, exact bounds, programs of the user's own."""
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time
import unittest

from octavo_command import BINARY, OctavoTest, octavo
from reference import np, onnx, open_session

CLASSES, STEPS = 10, 12
CHARACTERS = list("ab\u4f60\u597d7-")  # and a space, which nobody lists; and the blank
OUTLIER = 2000


def constant(values, name):
    return onnx.numpy_helper.from_array(np.asarray(values, np.float32), name)


def save(path, nodes, constants, output, metadata=None):
    info = lambda name, shape: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
    graph = onnx.helper.make_graph(nodes, "tasks", [info("x", [1, 3, 16, 48])], [info(*output)], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7)
    if metadata:
        onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def convolutions(rng, planted):
    """x -> Conv stem -> Relu -> Conv neck -> Relu; `planted`: one channel between them is OUTLIER times the others, and
    the neck's weights make up for it, so that per-tensor INT8 leaves the others next to nothing."""
    stem, neck = rng.standard_normal((16, 3, 3, 3)) / 4, rng.standard_normal((16, 16, 3, 3)) / 8
    if planted:
        stem[2] *= OUTLIER
        neck[:, 2] /= OUTLIER
    nodes = [onnx.helper.make_node("Conv", ["x", "w1"], ["a"], "stem", pads=[1] * 4, strides=[2, 2]),
             onnx.helper.make_node("Relu", ["a"], ["b"], "relu"),
             onnx.helper.make_node("Conv", ["b", "w2"], ["c"], "neck", pads=[1] * 4, strides=[2, 2]),
             onnx.helper.make_node("Relu", ["c"], ["d"], "relu2")]
    return nodes, [constant(stem, "w1"), constant(neck, "w2")]


def make_classifier(path, planted=False, softmax=False):
    rng = np.random.default_rng(0)
    nodes, constants = convolutions(rng, planted)
    nodes += [onnx.helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
              onnx.helper.make_node("Conv", ["e", "w3", "bias"], ["logits"], "head")]
    constants += [constant(40 * rng.standard_normal((CLASSES, 16, 1, 1)), "w3"), constant(np.zeros(CLASSES), "bias")]
    if softmax:
        nodes.append(onnx.helper.make_node("Softmax", ["logits"], ["p"], "softmax", axis=1))
    save(path, nodes, constants, ("p" if softmax else "logits", [1, CLASSES, 1, 1]))


def centre_logits(path, inputs):
    """A bias that makes classes about equally likely, so that pictures differ in their class."""
    (outputs,) = zip(*(open_session(path).run(None, {"x": x}) for x in inputs))
    model = onnx.load(path)
    bias = next(i for i in model.graph.initializer if i.name == "bias")
    bias.CopyFrom(constant(-np.mean(np.concatenate(outputs), axis=0).ravel(), "bias"))
    onnx.save(model, path)


def make_recognizer(path, planted=False, metadata=None):
    """Columns are steps: (1, STEPS, classes), the blank first."""
    rng = np.random.default_rng(3)
    classes = len(CHARACTERS) + 2
    nodes, constants = convolutions(rng, planted)
    nodes += [onnx.helper.make_node("ReduceMean", ["d"], ["e"], "rows", axes=[2], keepdims=0),
              onnx.helper.make_node("Transpose", ["e"], ["f"], "columns", perm=[0, 2, 1]),
              onnx.helper.make_node("MatMul", ["f", "w3"], ["g"], "head"),
              onnx.helper.make_node("Add", ["g", "bias"], ["y"], "shift")]
    constants += [constant(20 * rng.standard_normal((16, classes)), "w3"), constant(np.zeros(classes), "bias")]
    save(path, nodes, constants, ("y", [1, STEPS, classes]), metadata)


def centre_steps(path, inputs):
    outputs = np.concatenate([open_session(path).run(None, {"x": x})[0] for x in inputs])
    model = onnx.load(path)
    bias = next(i for i in model.graph.initializer if i.name == "bias")
    bias.CopyFrom(constant(-outputs.mean(axis=(0, 1)), "bias"))
    onnx.save(model, path)


def decode(steps):
    """Greedy CTC, the blank is 0."""
    best = steps[0].argmax(axis=1)
    merged = [c for i, c in enumerate(best) if i == 0 or c != best[i - 1]]
    return "".join((["", *CHARACTERS, " "])[c] for c in merged)


def edits(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def softmax(logits):
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


def divergence_of(p, q):
    q = np.maximum(q, 1e-7)
    q = q / q.sum()
    return (p * np.log(np.where(p > 0, p, 1) / q))[p > 0].sum()


class Tasks(OctavoTest):
    @classmethod
    def setUpClass(cls):
        cls.shared = cls.make_shared()
        cls.calibration, cls.check = cls.make_data("calibration", 16, 1), cls.make_data("check", 60, 2)
        inputs = [cls.load(path) for path in cls.check]
        for planted in (False, True):
            name = cls.shared / f"classifier{'_planted' * planted}.onnx"
            make_classifier(name, planted)
            centre_logits(name, inputs)
            name = cls.shared / f"recognizer{'_planted' * planted}.onnx"
            make_recognizer(name, planted, {"character": "\n".join(CHARACTERS)})
            centre_steps(name, inputs)
        for model in ("classifier", "classifier_planted", "recognizer", "recognizer_planted"):
            outcome = octavo("quantize", cls.shared / f"{model}.onnx", "--data", cls.shared / "calibration", "--no-remedy",
                             "all", "--threads", "1", "-o", cls.shared / f"{model}.int8.onnx")
            assert outcome.code == 0, outcome

    @classmethod
    def make_data(cls, name, count, seed):
        rng = np.random.default_rng(seed)
        (cls.shared / name).mkdir()
        for i in range(count):
            blobs = rng.standard_normal((1, 3, 4, 12)).repeat(4, axis=2).repeat(4, axis=3)
            np.savez(cls.shared / name / f"{i:03}.npz", x=blobs.astype(np.float32))
        return sorted((cls.shared / name).iterdir())

    @staticmethod
    def load(path):
        return np.load(path)["x"]

    def judge(self, model, *flags, code=0):
        """The FP32 model and its INT8 form against it."""
        return self.octavo("judge", *self.models(model), "--data", self.shared / "check", "--threads", "1", "--json", "-",
                           *flags, code=code).json

    def models(self, model):
        fp32 = self.shared / f"{model}.onnx"
        return fp32, fp32, self.shared / f"{model}.int8.onnx"

    def outputs(self, model):
        """ONNX Runtime's outputs for the samples that judge."""
        session = open_session(self.shared / model)
        return [session.run(None, {"x": self.load(path)})[0] for path in self.check]


class Classify(Tasks):
    def test_scores_and_figures(self):
        for model in ("classifier", "classifier_planted"):
            with self.subTest(model=model):
                report = self.judge(model, "--task", "classify")
                self.assertEqual((report["task"], report["score"], report["questions"]), ("classify", "top-1 agreement", 60))
                same, int8 = report["models"]
                self.assertEqual((same["score"], same["figures"]["top5_overlap"]), (1, 1))
                # All of 60 are right: 0.05^(1/60), and not 1.
                self.assertAlmostEqual(same["mean_bound"], 0.05 ** (1 / 60), places=12)
                self.assertEqual(same["p5_bound"], 1)
                ours, theirs = (self.outputs(f"{model}{kind}.onnx") for kind in ("", ".int8"))
                self.assertGreater(len({y.argmax() for y in ours}), 3)  # or else agreement says nothing
                # Measured equal; where two classes lie closer than the engines' float sums the order may differ: a
                # picture of 60.
                agreement = np.mean([a.argmax() == b.argmax() for a, b in zip(ours, theirs)])
                self.assertAlmostEqual(int8["score"], agreement, delta=1.01 / 60)
                top5 = lambda y: set(np.argsort(-y.ravel(), kind="stable")[:5])
                overlap = np.mean([len(top5(a) & top5(b)) / 5 for a, b in zip(ours, theirs)])
                self.assertAlmostEqual(int8["figures"]["top5_overlap"], overlap, delta=0.01)
                # Measured 1e-6 apart; an accumulator that rounds the other way moves a logit by one INT8 step.
                shift = np.mean([np.abs(softmax(a) - softmax(b)).sum() / 2 for a, b in zip(ours, theirs)])
                self.assertAlmostEqual(int8["figures"]["probability_difference"], shift, delta=0.002)
                divergence = np.mean([divergence_of(softmax(a), softmax(b)) for a, b in zip(ours, theirs)])
                self.assertAlmostEqual(int8["figures"]["kl_divergence"], divergence, delta=0.002 + 0.01 * divergence)
                self.assertTrue(all(score in ([0], [1]) for score in int8["scores"]))
        self.assertLess(int8["score"], 0.8)  # the planted layer flips classes

    def test_probabilities_are_taken_as_they_are(self):
        make_classifier(self.folder / "p.onnx", softmax=True)
        report = self.octavo("judge", "p.onnx", "p.onnx", "--task", "classify", "--data", self.shared / "check", "--json",
                             "-").json
        self.assertEqual(report["models"][0]["score"], 1)
        self.assertLess(report["models"][0]["figures"]["kl_divergence"], 1e-5)  # what cutting at 1e-7 leaves

    def test_quantize_measures_by_it(self):
        outcome = self.octavo("quantize", self.shared / "classifier.onnx", "--data", self.shared / "calibration", "--check",
                              self.shared / "check", "--task", "classify", "--no-remedy", "all", "--threads", "1", "-o", "q.onnx",
                              "--json", "-")
        self.assertIn("top-1 agreement", outcome.stderr)
        judged = self.judge("classifier", "--task", "classify")["models"][1]
        self.assertEqual([outcome.json["verdict"][key] for key in ("score", "mean_bound", "figures")],
                         [judged[key] for key in ("score", "mean_bound", "figures")])

    def test_labels(self):
        ours, theirs = self.outputs("classifier_planted.onnx"), self.outputs("classifier_planted.int8.onnx")
        truth = [int(y.argmax()) if i % 2 else 0 for i, y in enumerate(ours)]
        (self.folder / "truth.csv").write_text("".join(f"{p.name},{c}\n" for p, c in zip(self.check, truth)))
        report = self.judge("classifier_planted", "--task", "classify", "--labels", "truth.csv")
        accuracy = lambda outputs: np.mean([y.argmax() == c for y, c in zip(outputs, truth)])
        self.assertAlmostEqual(report["human_score"], accuracy(ours), places=12)
        self.assertAlmostEqual(report["models"][1]["human_score"], accuracy(theirs), delta=1.5 / 60)
        printed = self.octavo("judge", *self.models("classifier"), "--data", self.shared / "check", "--task", "classify",
                              "--labels", "truth.csv").stdout
        self.assertIn("human: accuracy by --labels; FP32 has", printed)
        self.assertIn("top-5 overlap 1,", printed)

    def test_keep_says_how_many_samples_it_needs(self):
        keep = ("quantize", self.shared / "classifier_planted.onnx", "--data", self.shared / "calibration", "--check",
                self.shared / "check", "--task", "classify", "--no-remedy", "all", "--threads", "1", "-o", "k.onnx")
        message = self.refused(*keep, "--keep", "0.99")
        self.assertIn("60 samples judge", message)
        self.assertIn("0.99 needs 299 samples", message)
        self.assertIn("no number of right ones", self.refused(*keep, "--keep", "1"))
        self.assertFalse((self.folder / "k.onnx").exists())
        report = self.octavo(*keep, "--keep", "0.9", "--keep-p5", "1", "--budget", "int8-macs=0", "--raise-to", "fp32", "--json",
                             "-").json
        self.assertGreaterEqual(report["verdict"]["mean_bound"], 0.9)
        self.assertEqual(report["verdict"]["p5_bound"], 1)
        self.assertIn("top5_overlap", report["verdict"]["figures"])
        raised = {b["node"] for b in report["keep"]["blame"] if b["precision"] == "fp32"}
        self.assertIn("neck", raised)
        kept = self.octavo("judge", self.shared / "classifier_planted.onnx", "k.onnx", "--data", self.shared / "check",
                           "--task", "classify", "--json", "-").json["models"][0]
        self.assertEqual(kept["score"], report["verdict"]["score"])

    def test_sensitivity(self):
        report = self.octavo("sensitivity", self.shared / "classifier_planted.onnx", "--data", self.shared / "calibration",
                             "--check", self.shared / "check", "--judging-samples", "60", "--task", "classify", "--no-times",
                             "--precisions", "int8", "--threads", "1", "--json", "-").json
        self.assertEqual(report["layers"][0]["node"], "neck")
        self.assertLess(report["layers"][0]["alone"][0]["score"], 0.8)

    def test_what_cannot_be(self):
        judge = lambda *flags: self.refused("judge", *self.models("classifier"), "--data", self.shared / "check", *flags)
        self.assertIn("go with --task segment", judge("--task", "classify", "--prompts", "p.json"))
        self.assertIn("--labels goes with --task classify or text", judge("--task", "heatmap", "--labels", "l"))
        self.assertIn("--judged-output goes with", judge("--task", "tensor", "--judged-output", "logits"))
        self.assertIn("outputs are logits", judge("--task", "classify", "--judged-output", "y"))
        self.assertIn("missing.csv", judge("--task", "classify", "--labels", "missing.csv"))
        for text, wanted in (("000.npz,10", "its label is 10"), ("000.npz cat", "line 1"), ("000.npz,cat", "an index"),
                             ("nobody.npz,1", "name none of the samples"), ("000.npz,1\n000.npz,2", "line 2"), ("", "no label")):
            (self.folder / "l.csv").write_text(text)
            self.assertIn(wanted, judge("--task", "classify", "--labels", "l.csv"))


class Text(Tasks):
    def test_texts_and_error_rate(self):
        for model in ("recognizer", "recognizer_planted"):
            with self.subTest(model=model):
                report = self.judge(model, "--task", "text")
                self.assertEqual((report["score"], report["note"]), ("equal texts", ""))
                same, int8 = report["models"]
                self.assertEqual((same["score"], same["figures"]["character_error_rate"]), (1, 0))
                ours, theirs = ([decode(y) for y in self.outputs(f"{model}{kind}.onnx")] for kind in ("", ".int8"))
                self.assertGreater(len(set(ours)), 30)
                self.assertTrue(any(" " in text for text in ours))
                equal = np.mean([a == b for a, b in zip(ours, theirs)])
                rate = np.mean([edits(a, b) / max(1, len(a)) for a, b in zip(ours, theirs)])
                # Measured equal; a step whose best classes lie closer than float sums may read otherwise.
                self.assertAlmostEqual(int8["score"], equal, delta=1.01 / 60)
                self.assertAlmostEqual(int8["figures"]["character_error_rate"], rate, delta=0.01)
        self.assertLess(int8["score"], 0.5)

    def test_labels_are_texts(self):
        texts = [decode(y) for y in self.outputs("recognizer.onnx")]
        lines = [f"crops/{p.name}\t{text if i % 3 else 'x' + text}\n" for i, (p, text) in enumerate(zip(self.check, texts))]
        # White space around a label is no part of it.
        right = np.mean([i % 3 != 0 and text == text.strip() and text != "" for i, text in enumerate(texts)])
        (self.folder / "truth.txt").write_text("".join(line for line in lines if not line.endswith("\t\n")), encoding="utf-8")
        self.assertTrue(all(text.strip() for text in texts))
        report = self.judge("recognizer", "--task", "text", "--labels", "truth.txt")
        self.assertAlmostEqual(report["human_score"], right, places=12)

    def test_characters_from_a_file_and_from_nowhere(self):
        make_recognizer(self.folder / "bare.onnx")
        bare = ("judge", "bare.onnx", "bare.onnx", "--data", self.shared / "check", "--task", "text")
        self.assertIn("sequences of class indices", self.octavo(*bare).stdout)
        self.assertIn("sequences of class indices", self.octavo(*bare, "--json", "-").json["note"])
        keys = self.folder / "keys.txt"
        keys.write_text("\n".join(CHARACTERS) + "\n", encoding="utf-8")
        self.assertNotIn("sequences of class indices", self.octavo(*bare, "--characters", keys).stdout)
        for text, wanted in ((b"a\nb\n", "2 characters do not fit 8 classes"), (b"a\n\n", "line 2"), (b"\xff", "not UTF-8"),
                             (b"", "no character")):
            keys.write_bytes(text)
            self.assertIn(wanted, self.refused(*bare, "--characters", keys))
        (self.folder / "l.txt").write_text("000.npz\ttext")
        self.assertIn("characters of the model's classes", self.refused(*bare, "--labels", "l.txt"))
        self.assertIn("the blank cannot be 8", self.refused(*bare, "--blank", "8"))
        self.assertIn("write first, last or", self.refused(*bare, "--blank", "middle"))
        self.octavo(*bare, "--blank", "last")
        self.octavo(*bare, "--text-layout", "tnc")
        self.assertIn("go with --task text", self.refused(*bare[:-2], "--blank", "last"))


SCORE = """
import pathlib, sys
import numpy as np
reference, candidate = map(pathlib.Path, sys.argv[-2:])
options = sys.argv[1:-2]
names = sorted(p.stem for p in reference.iterdir())
assert names == sorted(p.stem for p in candidate.iterdir())
scores = {}
for name in names:
    a, b = (np.load(f / f"{name}.npz")["logits"].ravel() for f in (reference, candidate))
    scores[name] = float(a.argmax() == b.argmax())
if "lines" in options:
    for name, score in scores.items():
        print(f"{name}\\t{score}")
print("mean over pictures follows")
print(sum(scores.values()) / len(scores))
"""


class Command(Tasks):
    def setUp(self):
        super().setUp()
        (self.folder / "score.py").write_text(SCORE)
        self.command = f"{sys.executable} score.py"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        os.environ["TMPDIR"] = str(self.temporary)
        self.addCleanup(os.environ.pop, "TMPDIR")

    def tearDown(self):
        self.assertEqual(list(self.temporary.iterdir()), [])
        super().tearDown()

    def test_one_number_has_no_bound(self):
        classes = self.judge("classifier_planted", "--task", "classify")["models"]
        report = self.judge("classifier_planted", "--score-command", self.command)
        self.assertEqual((report["task"], report["questions"], report["samples"]), ("command", 1, 60))
        for found, expected in zip(report["models"], classes):
            self.assertAlmostEqual(found["score"], expected["score"], places=12)
            self.assertEqual((found["mean_bound"], found["p5"], found["p5_bound"]), (None, None, None))
        printed = self.octavo("judge", *self.models("classifier"), "--data", self.shared / "check", "--score-command",
                              self.command).stdout
        self.assertIn("no bound can be given", printed)

    def test_a_line_per_sample_has_bounds(self):
        classes = self.judge("classifier_planted", "--task", "classify")["models"][1]
        found = self.judge("classifier_planted", "--task", "command", "--score-command", f"{self.command} lines")["models"][1]
        self.assertEqual(found["scores"], classes["scores"])
        # Only ever 0 or 1: the same exact bound.
        self.assertEqual((found["mean_bound"], found["p5_bound"]), (classes["mean_bound"], classes["p5_bound"]))
        self.assertIn("0.99 needs 299 samples", self.refused(
            "quantize", self.shared / "classifier.onnx", "--data", self.shared / "calibration", "--check", self.shared / "check",
            "--no-remedy", "all", "--score-command", f"{self.command} lines", "--keep", "0.99", "-o", "k.onnx"))

    def test_keep_and_sensitivity_run_it_once_per_candidate(self):
        (self.folder / "counted.sh").write_text(f'echo run >> {self.folder}/runs\nexec {self.command} "$@"\n')
        data = ("--data", self.shared / "calibration", "--check", self.shared / "check", "--threads", "1", "--score-command",
                "sh counted.sh")
        model = self.shared / "classifier_planted.onnx"
        outcome = self.octavo("quantize", model, *data, "--no-remedy", "all", "--keep", "0.98", "--budget", "int8-macs=0",
                              "--raise-to", "fp32", "-o", "k.onnx")
        self.assertIn("no bound can be given: the goal 0.98 is met by that number", outcome.stdout)
        keep = json.loads((self.folder / "k.onnx.keep.json").read_text())
        self.assertTrue(keep["met"])
        self.assertGreaterEqual(max(point["score"] for point in keep["walked"]), 0.98)
        runs = (self.folder / "runs").read_text().count("run")
        self.assertEqual(runs, len(keep["walked"]) + 1)  # and the written model
        (self.folder / "runs").unlink()
        report = self.octavo("sensitivity", model, *data, "--judging-samples", "60", "--precisions", "int8", "--no-times", "--json",
                             "-").json
        self.assertEqual(report["layers"][0]["node"], "neck")
        # All layers, each alone and all but each.
        self.assertEqual((self.folder / "runs").read_text().count("run"), 1 + 2 * len(report["layers"]))
        self.assertIn("there is no 5th percentile", self.refused("quantize", model, *data, "--no-remedy", "all", "--keep", "0.5",
                                                                 "--keep-p5", "0.5", "-o", "p.onnx"))

    def test_failures(self):
        judge = lambda command, *flags: self.refused("judge", *self.models("classifier"), "--data", self.shared / "check",
                                                     "--score-command", command, *flags)
        message = judge(f"{sys.executable} -c 'raise ValueError(\"no such metric\")'")
        self.assertIn("ended with exit code 1", message)
        self.assertIn("ValueError: no such metric", message)
        self.assertIn("exit code 127", judge("./missing"))
        self.assertIn("'nan' is no score", judge("echo nan #"))
        self.assertIn("is no number", judge("echo"))  # the folders' names
        self.assertIn("did not end within 0.5 s", judge("sleep 60; true", "--score-timeout", "0.5"))
        self.assertIn("needs a --score-command", self.refused("judge", *self.models("classifier"), "--data",
                                                              self.shared / "check", "--task", "command"))
        self.assertIn("go with --task command", judge("true", "--task", "tensor"))
        self.assertIn("--score-timeout", judge("true", "--score-timeout", "0"))

    def test_names_of_files_are_no_commands(self):
        data = self.folder / "d"
        data.mkdir()
        for name in ("$(touch pwned)", "; touch pwned;", "a b"):
            shutil.copy(self.check[0], data / f"{name}.npz")
        found = self.octavo("judge", *self.models("classifier")[:2], "--data", data, "--score-command", f"{self.command} lines",
                            "--json", "-").json
        self.assertEqual(found["models"][0]["score"], 1)
        self.assertFalse((self.folder / "pwned").exists())

    def test_folders_go_away_when_it_is_killed(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(signal=number):
                pid = self.folder / "pid"
                pid.unlink(missing_ok=True)
                process = subprocess.Popen([str(BINARY), "judge", *map(str, self.models("classifier")), "--data",
                                            str(self.shared / "check"), "--score-command",
                                            f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 300; true"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.wait(pid.exists)
                (folder,) = self.temporary.iterdir()
                self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
                process.send_signal(number)
                process.wait(timeout=60)
                self.wait(lambda: not list(self.temporary.iterdir()))
                # The command is ended, too.
                self.wait(lambda: not self.runs(int(pid.read_text())))

    @staticmethod
    def runs(pid):
        try:
            return bool(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
        except OSError:
            return False

    def wait(self, done):
        until = time.monotonic() + 60
        while not done():
            self.assertLess(time.monotonic(), until)
            time.sleep(0.01)


if __name__ == "__main__":
    unittest.main(verbosity=2)
