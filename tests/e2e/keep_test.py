#!/usr/bin/env python3
"""octavo quantize --keep: the fewest layers raised that keep a stated quality."""
import json
import shutil
import unittest

from octavo_command import DECODER, ENCODER, SAMPLES, OctavoTest
from reference import np, onnx

OUTLIER = 300


def make_planted(path):
    """x (4, 16) -> four MatMul with Relu between; in front of "third" channel 2 is OUTLIER times the others, and its
    weights make up for it."""
    rng = np.random.default_rng(0)
    weights = [rng.uniform(-1, 1, (16, 16)).astype(np.float32) for _ in range(4)]
    weights[1][:, 2] *= OUTLIER
    weights[2][2, :] /= OUTLIER
    names = ("first", "second", "third", "fourth")
    nodes, value = [], "x"
    for i, name in enumerate(names):
        output = "y" if i == 3 else f"{name}/product"
        nodes.append(onnx.helper.make_node("MatMul", [value, f"w{i}"], [output], name))
        value = f"{name}/relu"
        if i < 3:
            nodes.append(onnx.helper.make_node("Relu", [output], [value], value))
    info = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 16])
    constants = [onnx.numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    graph = onnx.helper.make_graph(nodes, "planted", [info("x")], [info("y")], constants)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7), path)


class Keep(OctavoTest):
    def setUp(self):
        super().setUp()
        make_planted(self.folder / "planted.onnx")
        self.write_data("data", 24, (4, 16))

    def write_data(self, name, samples, shape):
        (self.folder / name).mkdir()
        rng = np.random.default_rng(1)
        for i in range(samples):
            np.savez(self.folder / name / f"{i:02}.npz", x=rng.uniform(-1, 1, shape).astype(np.float32))

    # Remedies would move the outlier away.
    def keep(self, *flags, output="q.onnx", code=0):
        return self.octavo("quantize", "planted.onnx", "--data", "data", "--no-remedy", "all", "--threads", "1", "-o", output,
                           "--json", "-", *flags, code=code).json

    def refused(self, *arguments):
        before = sorted(self.folder.iterdir())
        error = super().refused("quantize", *arguments)
        self.assertEqual(sorted(self.folder.iterdir()), before)
        return error

    def floats(self, recipe="q.onnx.recipe.json"):
        return [node["node"] for node in json.loads((self.folder / recipe).read_text())["float"]]


class Kept(Keep):
    def test_the_planted_layer_alone_is_raised(self):
        report = self.keep("--keep", "0.99", "--raise-to", "fp32")
        self.assertEqual(self.floats(), ["third"])
        self.assertTrue(report["keep"]["met"])
        verdict = report["verdict"]
        self.assertEqual(verdict["questions"], 12)  # of 24 samples half judge
        self.assertGreaterEqual(verdict["mean_bound"], 0.99)
        self.assertLessEqual(verdict["mean_bound"], verdict["score"])
        written = json.loads((self.folder / "q.onnx.keep.json").read_text())
        self.assertEqual(written, report["keep"])
        self.assertEqual([point["last"] for point in written["walked"]], ["", "third"])
        self.assertLess(written["walked"][0]["mean_bound"], 0.99)
        self.assertEqual(written["walked"][-1]["score"], verdict["score"])
        self.assertEqual(written["blame"][0]["node"], "third")
        self.assertIn("channel 2 ranges", written["blame"][0]["reason"])
        self.assertEqual(report["int8_macs_share"], 0.75)
        quantized = [node for node in onnx.load(self.folder / "q.onnx").graph.node if node.op_type == "DequantizeLinear"]
        self.assertEqual(len(quantized), 6)  # an activation and a weight of three layers

    def test_costs_repeat_the_decisions(self):
        self.keep("--keep", "0.99")
        costs = json.loads((self.folder / "q.onnx.costs.json").read_text())
        self.assertEqual({layer["node"] for layer in costs["layers"]}, {"first", "second", "third", "fourth"})
        self.assertEqual(costs["threads"], 1)
        self.keep("--keep", "0.99", "--costs", "q.onnx.costs.json", output="again.onnx")
        for suffix in ("", ".recipe.json", ".keep.json", ".costs.json"):
            self.assertEqual((self.folder / f"q.onnx{suffix}").read_bytes(), (self.folder / f"again.onnx{suffix}").read_bytes())
        # The recipe alone makes the model, too.
        self.octavo("quantize", "planted.onnx", "--recipe", "q.onnx.recipe.json", "-o", "third.onnx")
        self.assertEqual((self.folder / "q.onnx").read_bytes(), (self.folder / "third.onnx").read_bytes())

    def test_a_model_that_is_good_enough(self):
        report = self.keep("--keep", "0.5")
        self.assertEqual(self.floats(), [])
        self.assertEqual(len(report["keep"]["walked"]), 1)
        self.assertEqual(report["int8_macs_share"], 1)

    def test_the_percentile(self):
        report = self.keep("--keep", "0.5", "--keep-p5", "0.95", "--raise-to", "fp32")
        self.assertEqual(self.floats(), ["third"])
        self.assertGreaterEqual(report["verdict"]["p5_bound"], 0.95)

    def test_a_goal_that_is_missed(self):
        outcome = self.octavo("quantize", "planted.onnx", "--data", "data", "--no-remedy", "all", "--threads", "1", "-o", "q.onnx",
                              "--keep", "0.99", "--budget", "int8-macs=90%", code=3)
        self.assertIn("the goal is missed", outcome.stdout)
        self.assertRegex(outcome.stdout, r"layers to blame[^\n]*\n[-\s]*third ")
        self.assertEqual(self.floats(), [])  # the best within the budget is written all the same
        self.assertFalse(json.loads((self.folder / "q.onnx.keep.json").read_text())["met"])
        onnx.checker.check_model(str(self.folder / "q.onnx"), full_check=True)
        report = self.keep("--keep", "1", "--budget", "int8-macs=0", "--raise-to", "bf16", code=3)
        self.assertEqual(report["keep"]["met"], False)
        self.assertEqual(len(self.floats()), 4)

    def test_tensorrts_sums(self):
        """TensorRT's rules quantize an Add, too, which has no 16 bits; with everything in float32 nothing is lost."""
        model = onnx.load(self.folder / "planted.onnx")
        model.graph.node.append(onnx.helper.make_node("Add", ["y", "x"], ["z"], "sum"))
        model.graph.output[0].name = "z"
        onnx.save(model, self.folder / "planted.onnx")
        report = self.keep("--keep", "1", "--target", "tensorrt", "--budget", "int8-macs=0")
        self.assertIn("third", self.floats())
        self.assertGreater(report["verdict"]["score"], 0.999)


class Refused(Keep):
    def test_flags_that_do_not_go_together(self):
        data = ("planted.onnx", "--data", "data", "-o", "q.onnx")
        for flags in (("--keep-p5", "0.9"), ("--budget", "latency=50%"), ("--raise-to", "bf16"), ("--costs", "c.json")):
            self.assertIn("go with --keep", self.refused(*data, *flags))
        self.assertIn("--keep needs --data", self.refused("planted.onnx", "--stats", "s", "--keep", "0.9", "-o", "q.onnx"))
        for share in ("latency=0", "latency=101%", "latency=x", "int8-macs=nan", "memory=5%", "int8-macs"):
            self.assertIn("write latency=60%", self.refused(*data, "--keep", "0.9", "--budget", share))
        for goal in ("0", "1.1", "-1", "nan", "x"):
            self.assertIn("--keep", self.refused(*data, "--keep", goal))
            self.assertIn("--keep-p5", self.refused(*data, "--keep", "0.9", "--keep-p5", goal))
        self.assertIn("--raise-to", self.refused(*data, "--keep", "0.9", "--raise-to", "int8"))

    def test_a_few_samples_promise_nothing(self):
        message = self.refused("planted.onnx", "--data", "data", "--count", "14", "--keep", "0.9", "-o", "q.onnx")
        self.assertIn("7 samples judge", message)
        self.assertIn("--check", message)

    def test_prompts_about_one_picture_are_one_sample(self):
        photos = self.folder / "photos"
        photos.mkdir()
        for name in ("coffee.png", "chelsea.png", "astronaut.png", "rocket.jpg"):
            shutil.copy(SAMPLES / name, photos)
        # Two pictures judge, with ten prompts.
        self.assertIn("2 samples judge", self.refused(DECODER, "--data", "photos", "--encoder", ENCODER, "--task", "segment",
                                                      "--threads", "1", "--keep", "0.9", "-o", "q.onnx"))

    def test_costs_of_something_else(self):
        self.keep("--keep", "0.5")
        costs = json.loads((self.folder / "q.onnx.costs.json").read_text())
        refused = lambda: self.refused("planted.onnx", "--data", "data", "--no-remedy", "all", "--keep", "0.5", "--costs", "c.json",
                                       "-o", "r.onnx")
        write = lambda: (self.folder / "c.json").write_text(json.dumps(costs))
        self.assertIn("c.json", refused())  # missing
        costs["fingerprint"] = "0123"
        write()
        self.assertIn("of another model", refused())
        costs["fingerprint"] = ""
        del costs["layers"][1]
        write()
        self.assertIn("measure them anew", refused())
        costs["layers"][0]["int8"] = -1
        write()
        self.assertIn("milliseconds", refused())


if __name__ == "__main__":
    unittest.main(verbosity=2)
