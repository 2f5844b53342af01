#!/usr/bin/env python3
"""octavo lint: findings, exit codes, JSON and SARIF, names of any kind, and mends that ONNX Runtime cannot tell apart."""
import json
import pathlib
import shutil
import sys
import tempfile
import unittest

from octavo_command import ENCODER, ROOT, octavo
from reference import np, onnx, ort

sys.path.insert(0, str(ROOT / "tools"))
import make_peer_models as peers  # noqa: E402

helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
ODD = ["a:b/conv", "it's", "all * of", "with space", "Größe/畳み込み", "(Unnamed Layer* 3) [Constant]"]


class Model:
    """A Q/DQ model, node by node."""

    def __init__(self, opset=17):
        self.nodes, self.constants, self.opset = [], [], opset

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=attributes.pop("name", "node:" + output), **attributes))
        return output

    def pair(self, x, prefix, scale=0.05, zero_point=np.int8(0), name=None):
        scale = self.constant(prefix + "_scale", np.float32(scale))
        zero = self.constant(prefix + "_zero", zero_point)
        q = self.op("QuantizeLinear", [x, scale, zero], prefix + "_q", name=name or prefix + "_Q")
        return self.op("DequantizeLinear", [q, scale, zero], prefix + "_dq", name=prefix + "_DQ")

    def weights(self, name, values, axis=0, zero_point=None, **attributes):
        values = np.asarray(values)
        count = values.shape[axis]
        scale = self.constant(name + "_scale", np.linspace(0.002, 0.02, count, dtype=np.float32))
        zero = self.constant(name + "_zero", np.full(count, zero_point or 0, values.dtype))
        return self.op("DequantizeLinear", [self.constant(name, values), scale, zero], name + "_dq",
                       **(attributes or {"axis": axis}))

    def save(self, path, inputs, outputs, shape=None):
        graph = helper.make_graph(self.nodes, "g", [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs],
                                  [helper.make_tensor_value_info(n, FLOAT, shape) for n in outputs], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        onnx.save(model, str(path))
        return path


def run(path, inputs):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, inputs)


class Lint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-lint-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.random = np.random.default_rng(5)

    def lint(self, *arguments, code=0):
        outcome = octavo("lint", *arguments, cwd=self.folder)
        self.assertEqual(outcome.code, code, outcome)
        return outcome

    def integers(self, shape, low=-127, dtype=np.int8):
        return self.random.integers(low, low + 255, shape).astype(dtype)

    def sound(self, name="sound.onnx", zero_point=np.int8(0), node_name=None):
        model = Model()
        x = model.pair("x", "x", zero_point=zero_point, name=node_name)
        y = model.op("Conv", [x, model.weights("w", self.integers((16, 16, 1, 1)))], "y")
        return model.save(self.folder / name, [("x", [1, 16, 8, 8])], [y])

    def everything_wrong(self):
        """What --fix mends of every kind, in one model."""
        model = Model(opset=12)
        x = model.pair(model.pair("x", "x1", zero_point=np.uint8(128)), "x2", zero_point=np.uint8(128))
        model.pair("x", "dead")
        bias = model.op("DequantizeLinear", [model.constant("b", self.integers((16,)).astype(np.int32) * 1001),
                                             model.constant("b_scale", np.float32(0.00371))], "b_dq")
        w = model.weights("w", self.integers((16, 16, 1, 1), 0, np.uint8), zero_point=128)
        y = model.op("Conv", [x, w, bias], "y")
        flat = model.op("Reshape", [model.pair(y, "y"), model.constant("shape", np.array([64, 16], np.int64))], "flat")
        z = model.op("MatMul", [flat, model.weights("v", self.integers((16, 32)), 1, none=0)], "z")
        # A scale per column without an axis.
        del model.nodes[-2].attribute[:]
        return model.save(self.folder / "wrong.onnx", [("x", [1, 16, 8, 8])], [z], [64, 32])

    def test_a_sound_model_has_no_findings(self):
        outcome = self.lint(self.sound(), "--fail-on", "note")
        self.assertIn("0 errors, 0 warnings, 0 notes", outcome.stdout)

    def test_exit_codes(self):
        bad = self.sound("zero_point.onnx", np.int8(3))
        self.lint(bad, code=1)
        self.lint(bad, "--fail-on", "never")
        self.lint(bad, "--target", "onnxruntime", code=0)  # its Conv runs in float: a warning
        self.lint(bad, "--target", "onnxruntime", "--fail-on", "warning", code=1)
        self.lint(bad, "--disable", "zero-point")
        self.assertIn("no-such-rule", self.lint(bad, "--disable", "no-such-rule", code=2).stderr)
        self.assertIn("tensorrt, onnxruntime, openvino", self.lint(bad, "--target", "tensor-rt", code=2).stderr)
        self.assertIn("--output", self.lint(bad, "--fix", code=2).stderr)
        self.lint("none.onnx", code=2)
        self.assertIn("EXAMPLES", self.lint("--help").stdout)
        self.assertIn("zero-point", self.lint("--rules").stdout)

    def test_json(self):
        document = self.lint(self.sound("j.onnx", np.int8(3)), "--json", "-", code=1).json
        self.assertEqual((document["target"], document["errors"]), ("tensorrt", 1))
        (finding,) = document["findings"]
        self.assertEqual(finding["rule"], "zero-point")
        self.assertEqual((finding["severity"], finding["effect"]), ("error", "build error"))
        self.assertEqual((finding["node"], finding["op"], finding["tensor"]), ("x_Q", "QuantizeLinear", "x_zero"))
        self.assertIn("3", finding["why"])
        self.assertTrue(finding["mend"])

    def check_sarif(self, document):
        """What SARIF 2.1.0 requires of what is there."""
        self.assertEqual(document["version"], "2.1.0")
        for run_ in document["runs"]:
            driver = run_["tool"]["driver"]
            self.assertEqual(driver["name"], "octavo")
            ids = [rule["id"] for rule in driver["rules"]]
            self.assertEqual(len(ids), len(set(ids)))
            for result in run_["results"]:
                self.assertTrue(result["message"]["text"])
                self.assertEqual(ids[result["ruleIndex"]], result["ruleId"])
                self.assertIn(result["level"], ("none", "note", "warning", "error"))
                for location in result["locations"]:
                    artifact = location["physicalLocation"]["artifactLocation"]
                    self.assertEqual(run_["artifacts"][artifact["index"]]["location"]["uri"], artifact["uri"])
                    self.assertRegex(artifact["uri"], r"^[A-Za-z0-9._~:/%-]+$")

    def test_sarif(self):
        bad = self.sound("größe und so.onnx", np.int8(3))
        self.lint(bad, "--sarif", "out.sarif", code=1)
        document = json.loads((self.folder / "out.sarif").read_text())
        self.check_sarif(document)
        self.assertEqual(len(document["runs"][0]["results"]), 1)
        outcome = self.lint(bad, "--sarif", "-", code=1)
        self.assertEqual(json.loads(outcome.stdout), document)
        self.assertIn("--sarif", self.lint(bad, "--sarif", "-", "--json", "-", code=2).stderr)

    def test_odd_names_come_through(self):
        for name in ODD:
            with self.subTest(name):
                bad = self.sound("odd.onnx", np.int8(3), node_name=name)
                self.assertEqual(self.lint(bad, "--json", "-", code=1).json["findings"][0]["node"], name)
                document = json.loads(self.lint(bad, "--sarif", "-", code=1).stdout)
                self.check_sarif(document)
                logical = document["runs"][0]["results"][0]["locations"][0]["logicalLocations"]
                self.assertEqual(logical[0]["fullyQualifiedName"], name)

    def test_mends_change_no_bit(self):
        wrong = self.everything_wrong()
        before = {f["rule"] for f in self.lint(wrong, "--json", "-", code=1).json["findings"]}
        mendable = {"uint8", "int32-bias", "redundant-pair", "dead-qdq", "unwritten-axis", "per-channel-opset"}
        self.assertLessEqual(mendable, before)
        document = self.lint(wrong, "--fix", "-o", "mended.onnx", "--json", "-").json
        self.assertLessEqual(mendable, {f["rule"] for f in document["fixed"]})
        self.assertFalse(mendable & {f["rule"] for f in document["findings"]}, document["findings"])
        self.assertEqual(document["errors"], 0)
        onnx.checker.check_model(str(self.folder / "mended.onnx"))
        # The original's opset has no scales per channel; ONNX Runtime takes them all the same, along axis 1.
        inputs = {"x": self.random.standard_normal((1, 16, 8, 8)).astype(np.float32) * 3}
        original = onnx.load(str(wrong))
        original.opset_import[0].version = 13
        onnx.save(original, str(self.folder / "original13.onnx"))
        (expected,), (found,) = run(self.folder / "original13.onnx", inputs), run(self.folder / "mended.onnx", inputs)
        np.testing.assert_array_equal(expected, found)
        self.assertEqual(self.lint("mended.onnx", "--fix", "-o", "again.onnx", "--json", "-").json["fixed"], [])

    def test_ops_that_are_not_known_are_named(self):
        model = Model()
        model.op("Swirl", [model.pair("x", "x", zero_point=np.int8(3))], "s", domain="com.example")
        path = model.save(self.folder / "custom.onnx", [("x", [1, 16, 8, 8])], ["s"], [1, 16, 8, 8])
        loaded = onnx.load(str(path))
        loaded.opset_import.append(helper.make_opsetid("com.example", 1))
        branch = helper.make_graph([helper.make_node("Identity", ["x_dq"], ["inside"])], "b", [],
                                   [helper.make_tensor_value_info("inside", FLOAT, None)])
        loaded.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        loaded.graph.node.append(helper.make_node("If", ["yes"], ["either"], "choice", then_branch=branch, else_branch=branch))
        onnx.save(loaded, str(path))
        rules = [f["rule"] for f in self.lint(path, "--json", "-", code=1).json["findings"]]
        self.assertIn("zero-point", rules)
        self.assertEqual(rules.count("unknown-op"), 2)
        self.assertIn("not supported", self.lint(path, "--fix", "-o", "fixed.onnx", code=2).stderr)

    def test_files_beside_the_model(self):
        names = [node.name for node in onnx.load(str(ENCODER)).graph.node if node.op_type == "Conv"]
        (self.folder / "other.cache").write_text("TRT-8601-EntropyCalibration2\na: 3c010a14\n")
        document = self.lint(ENCODER, "--calibration-cache", "other.cache", "--layer-precisions",
                             f"'{names[0]}':fp16,no/such/node:fp32", "--json", "-", code=1).json
        self.assertEqual([f["rule"] for f in document["findings"]], ["cache-foreign", "override-unmatched"])
        self.assertEqual(document["findings"][1]["node"], "no/such/node")

    def test_wrong_axis_is_wrong_in_onnxruntime(self):
        """The rule says so: ONNX Runtime's optimizer takes scales of another axis for those of output channels."""
        model = Model()
        w = model.weights("w", self.integers((16, 16, 3, 3)), axis=1)
        y = model.pair(model.op("Conv", [model.pair("x", "x"), w], "y"), "y", scale=0.5)
        path = model.save(self.folder / "axis.onnx", [("x", [1, 16, 8, 8])], [y])
        self.assertEqual(self.lint(path, "--target", "onnxruntime", "--json", "-", code=1).json["findings"][0]["rule"],
                         "weight-axis")
        inputs = {"x": self.random.standard_normal((1, 16, 8, 8)).astype(np.float32)}
        (plain,) = run(path, inputs)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        (optimized,) = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, inputs)
        self.assertGreater(((plain - optimized) ** 2).sum(), 0.1 * (plain**2).sum())

    def test_silent_float_is_what_onnxruntime_does(self):
        """Of a model that its own quantizer made: as many convolutions stay float as findings say."""
        try:
            import onnxruntime.quantization  # noqa: F401
        except ImportError as error:
            self.skipTest(str(error))
        for kind in ("u8s8c", "s8s8c"):
            with self.subTest(kind):
                path = self.folder / f"nano-{kind}.onnx"
                peers.make("nano", kind, path, pictures_each=1)
                document = self.lint(path, "--target", "onnxruntime", "--json", "-").json
                predicted = {f["node"] for f in document["findings"] if f["effect"] == "silent float"}
                options = ort.SessionOptions()
                options.log_severity_level = 3
                options.optimized_model_filepath = str(self.folder / "optimized.onnx")
                ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
                ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
                self.assertEqual(len(predicted), ops.count("Conv") + ops.count("FusedConv"))
                self.assertGreater(ops.count("QLinearConv"), 0)

    def test_silent_float_is_what_openvino_does(self):
        try:
            import openvino
        except ImportError as error:
            self.skipTest(f"{error} (tools/make_venv.sh --peers)")
        core = openvino.Core()

        def precision(path):
            compiled = core.compile_model(core.read_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            for op in compiled.get_runtime_model().get_ops():
                info = {key: str(getattr(value, "value", value)) for key, value in op.get_rt_info().items()}
                if info["layerType"] == "Convolution":
                    return info["runtimePrecision"]
            return None

        def model(name, quantize_input=True, quantize_weights=True, channels=1, group=1):
            built, x = Model(), "x"
            if quantize_input:
                scale = np.linspace(0.02, 0.08, channels, dtype=np.float32) if channels > 1 else np.float32(0.05)
                zero = np.full(channels, 128, np.uint8) if channels > 1 else np.uint8(128)
                built.constant("s", scale), built.constant("z", zero)
                built.op("QuantizeLinear", ["x", "s", "z"], "q", axis=1)
                x = built.op("DequantizeLinear", ["q", "s", "z"], "dq", axis=1)
            values = self.integers((16, 16 // group, 3, 3))
            w = built.weights("w", values) if quantize_weights else built.constant("w", values.astype(np.float32))
            return built.save(self.folder / name, [("x", [1, 16, 8, 8])], [built.op("Conv", [x, w], "y", group=group)])

        # Equal scales would be one to OpenVINO, and to the rule.
        cases = {
            "whole": model("whole.onnx"),
            "weights": model("weights.onnx", quantize_input=False),
            "activations": model("activations.onnx", quantize_weights=False),
            "per channel": model("per_channel.onnx", channels=16),
            "depthwise": model("depthwise.onnx", channels=16, group=16),
        }
        for name, path in cases.items():
            with self.subTest(name):
                findings = self.lint(path, "--target", "openvino", "--json", "-").json["findings"]
                is_float = any(finding["effect"] == "silent float" for finding in findings)
                self.assertEqual(is_float, name not in ("whole", "depthwise"))
                self.assertEqual(is_float, precision(path) == "f32")


if __name__ == "__main__":
    unittest.main()
