#!/usr/bin/env python3
"""octavo bench: profiles against the machine's limits, traces, batches, streams, thread counts, tuning, --isa."""
import json
import unittest

from octavo_command import ENCODER, OctavoTest
from reference import np, onnx

FAST = ("--threads", "1", "--iterations", "3", "--warmup", "1", "--json", "-")


def make_model(path, nodes, constants, input_dims, output_dims):
    info = lambda name, dims: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
    graph = onnx.helper.make_graph(nodes, "g", [info("x", input_dims)], [info("y", output_dims)],
                                   [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


def make_int8(path):
    """x (1, 32, 24, 24) -> Q/DQ -> Conv 1 x 1 -> Q/DQ -> Conv 3 x 3 -> Softmax, with a Reshape to the shape of one."""
    rng = np.random.default_rng(0)
    node, constants, nodes = onnx.helper.make_node, {}, []
    constants["s"], constants["z"] = np.float32(0.03), np.uint8(128)
    value = "x"
    for i, shape in enumerate(((64, 32, 1, 1), (48, 64, 3, 3))):
        constants[f"w{i}"] = rng.integers(-127, 128, shape, dtype=np.int8)
        constants[f"ws{i}"] = rng.uniform(0.001, 0.01, shape[0]).astype(np.float32)
        nodes += [node("QuantizeLinear", [value, "s", "z"], [f"q{i}"], f"quantize{i}"),
                  node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"], f"dequantize{i}"),
                  node("DequantizeLinear", [f"w{i}", f"ws{i}"], [f"dw{i}"], f"weights{i}", axis=0),
                  node("Conv", [f"d{i}", f"dw{i}"], [f"c{i}"], f"conv{i}", pads=[i] * 4)]
        value = f"c{i}"
    constants["shape"] = np.array([1, 48, -1], np.int64)
    nodes += [node("Reshape", [value, "shape"], ["flat"], "reshape"), node("Softmax", ["flat"], ["y"], "softmax")]
    make_model(path, nodes, constants, [1, 32, 24, 24], [1, 48, 576])


class Bench(OctavoTest):
    def setUp(self):
        super().setUp()
        make_int8(self.folder / "int8.onnx")

    def test_profile_says_where_the_time_goes(self):
        report = self.octavo("bench", "int8.onnx", "--profile", "--trace", "trace.json", *FAST).json
        profile = report["profile"]
        steps = profile["steps"]
        self.assertAlmostEqual(sum(profile["ms_by_kind"].values()), sum(step["ms"] for step in steps), places=6)
        convolutions = [step for step in steps if step["op"].startswith("Conv")]
        self.assertEqual([step["kind"] for step in convolutions], ["int8", "int8"])
        self.assertEqual([step["macs"] for step in convolutions], [32 * 64 * 576, 64 * 48 * 9 * 576])
        self.assertEqual(profile["int8_macs"], sum(step["macs"] for step in convolutions))
        # The first reads 32 bytes and writes 64 a pixel, and reads its weights.
        self.assertEqual(convolutions[0]["bytes_read"], 576 * 32 + 64 * 32)
        self.assertEqual(convolutions[0]["bytes_written"], 576 * 64)
        softmax = next(step for step in steps if step["op"] == "Softmax")
        self.assertEqual((softmax["kind"], softmax["limit"]), ("other float", "memory"))
        self.assertEqual(softmax["bytes_read"], 4 * 48 * 576)
        self.assertGreaterEqual(profile["float_islands"], 1)
        for step in steps:
            self.assertGreater(step["ms"], 0, step)
            self.assertGreater(step["limit_ms"], 0, step)
        limits = profile["limits"]
        self.assertTrue(limits["int8_gmacs_per_s"] > 0 and limits["fp32_gmacs_per_s"] > 0, limits)
        self.assertAlmostEqual(profile["int8_limit_share"], profile["int8_gmacs_per_s"] / limits["int8_gmacs_per_s"])
        self.assertLess(profile["int8_limit_share_of_run"], profile["int8_limit_share"])
        self.check_trace(report["iterations"], steps)

    def check_trace(self, runs, steps):
        """Chrome's trace events: every run encloses its steps, which follow each other."""
        trace = json.loads((self.folder / "trace.json").read_text())
        events = trace["traceEvents"]
        self.assertEqual({event["name"] for event in events if event["ph"] == "M"}, {"process_name", "thread_name"})
        spans = [event for event in events if event["ph"] == "X"]
        self.assertEqual(len(events), len(spans) + 2)
        self.assertEqual(len(spans), runs * (1 + len(steps)))
        end = 0
        for r in range(runs):
            run, *inside = spans[r * (1 + len(steps)):(r + 1) * (1 + len(steps))]
            self.assertEqual(run["name"], f"run {r + 1}")
            self.assertGreaterEqual(run["ts"], end)
            end = run["ts"]
            self.assertEqual([event["name"] for event in inside], [step["op"] for step in steps])
            for event in inside:
                self.assertGreaterEqual(event["ts"], end - 1e-6)
                end = event["ts"] + event["dur"]
                self.assertIn("kernel", event["args"])
            self.assertLessEqual(end, run["ts"] + run["dur"] + 1e-3)
            end = run["ts"] + run["dur"]

    def test_top_and_trace(self):
        text = self.octavo("bench", "int8.onnx", "--threads", "1", "--iterations", "3", "--profile", "--top", "1").stdout
        self.assertIn("The 1 longest of", text)
        self.assertIn("of the INT8 limit", text)
        self.assertIn("needs", self.refused("bench", "int8.onnx", "--top", "3").lower().replace("requires", "needs"))
        self.assertIn("nowhere", self.refused("bench", "int8.onnx", "--iterations", "1", "--profile", "--trace",
                                                     "nowhere/t.json", "--json", "r.json"))
        self.assertFalse((self.folder / "r.json").exists())

    def test_batches_are_compared_before_they_are_timed(self):
        report = self.octavo("bench", "int8.onnx", "--batch", "3", *FAST).json
        self.assertEqual((report["batch"], report["batch_same_bits"]), (3, True))
        self.assertLessEqual(report["images_per_s"], 3000 / report["min_ms"] * 1.001)
        self.assertGreater(report["images_per_s"], 0)
        single = self.octavo("bench", "int8.onnx", *FAST).json
        self.assertEqual(report["macs"], 3 * single["macs"])
        self.octavo("bench", ENCODER, "--batch", "2", *FAST)

    def test_a_batch_that_cannot_be_names_the_node(self):
        node = onnx.helper.make_node
        make_model(self.folder / "mean.onnx", [node("ReduceMean", ["x"], ["y"], "over_all", axes=[0], keepdims=1)], {},
                   [1, 4], [1, 4])
        error = self.refused("bench", "mean.onnx", "--batch", "2")
        self.assertIn("ReduceMean 'over_all'", error)
        self.assertEqual(error.count("mean.onnx"), 1)
        make_model(self.folder / "two.onnx", [node("Relu", ["x"], ["y"], "relu")], {}, [2, 4], [2, 4])
        self.assertIn("'x'", self.refused("bench", "two.onnx", "--batch", "2"))

    def test_streams(self):
        report = self.octavo("bench", "int8.onnx", "--streams", "2", *FAST).json
        self.assertEqual((report["streams"], report["threads"]), (2, 1))
        self.assertGreater(report["images_per_s"], 0)
        self.assertLessEqual(report["median_ms"], report["p99_ms"])
        self.assertIn("--streams", self.refused("bench", "int8.onnx", "--streams", "2", "--profile"))

    def test_scaling(self):
        rows = self.octavo("bench", "int8.onnx", "--scaling", "1,2", *FAST).json["scaling"]
        self.assertEqual([row["threads"] for row in rows], [1, 2])
        self.assertEqual(rows[0]["ratio"], 1)
        self.assertAlmostEqual(rows[1]["ratio"], rows[1]["median_ms"] / rows[0]["median_ms"])

    def test_tuning_changes_no_bit_and_is_measured_once(self):
        rng = np.random.default_rng(1)
        np.save(self.folder / "x.npy", rng.standard_normal((1, 32, 24, 24)).astype(np.float32))
        run = lambda *flags: self.octavo("run", "int8.onnx", "--input", "x=x.npy", "-o", "out", *flags)
        result = lambda: (self.folder / "out" / "y.npy").read_bytes()
        run()
        plain = result()
        run("--tune")
        self.assertEqual(result(), plain)
        first = self.octavo("bench", "int8.onnx", "--tuning-cache", "tuning", *FAST).json
        second = self.octavo("bench", "int8.onnx", "--tuning-cache", "tuning", *FAST).json
        self.assertEqual(second["tuned_kernels"], 0)
        if first["isa"].startswith("avx512_core_"):  # exact sums of bytes: there is a choice
            self.assertGreater(first["tuned_kernels"], 0)
        run("--tuning-cache", "tuning")
        self.assertEqual(result(), plain)

    def test_a_bad_tuning_cache_is_refused_and_left_alone(self):
        for text in ("", "something else\n", "octavo tuning cache 1\nno fields\n"):
            (self.folder / "bad").write_text(text)
            error = self.refused("bench", "int8.onnx", "--tuning-cache", "bad")
            self.assertIn("'bad'", error)
            self.assertEqual((self.folder / "bad").read_text(), text)

    def test_isa(self):
        report = self.octavo("bench", "int8.onnx", "--isa", "avx2", "--per-layer", *FAST).json
        self.assertEqual(report["isa"], "avx2")
        kernels = " ".join(layer["kernel"] for layer in report["layers"])
        self.assertIn("avx2", kernels)
        self.assertNotIn("avx512", kernels)
        self.assertNotIn("avx3", kernels)
        self.assertIn("avx9", self.refused("bench", "int8.onnx", "--isa", "avx9"))


if __name__ == "__main__":
    unittest.main()
