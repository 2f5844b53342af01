#!/usr/bin/env python3
"""octavo quantize: what it writes, what it refuses, and that ONNX Runtime computes the same from it."""
import json
import os
import struct
import unittest

from octavo_command import DECODER, ENCODER, HARD_ENCODER, SAMPLES, OctavoTest, copy_photos, octavo
from reference import Frame, Sam, load_rgb, np, onnx, open_session, ort, run, sqnr_db

TARGETS = ("octavo", "onnxruntime", "openvino", "tensorrt")


def make_model(path, opset=13, op="Relu", **attributes):
    """x (2, 8) -> MatMul -> op -> MatMul -> y."""
    rng = np.random.default_rng(0)
    weights = [onnx.numpy_helper.from_array(rng.standard_normal((8, 8)).astype(np.float32), name) for name in ("w1", "w2")]
    weights[0] = onnx.numpy_helper.from_array(np.where(np.arange(8) == 3, 0, onnx.numpy_helper.to_array(weights[0])).astype(np.float32), "w1")
    nodes = [onnx.helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
             onnx.helper.make_node(op, ["a"], ["b"], "middle", **attributes),
             onnx.helper.make_node("MatMul", ["b", "w2"], ["y"], "second")]
    value = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 8])
    graph = onnx.helper.make_graph(nodes, "small", [value("x")], [value("y")], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=7), path)


class Quantize(OctavoTest):
    @classmethod
    def setUpClass(cls):
        cls.shared = cls.make_shared()
        cls.photos = cls.shared / "photos"
        copy_photos(cls.photos)
        cls.stats = cls.shared / "nano.stats"
        outcome = octavo("calibrate", ENCODER, "--data", cls.photos, "--preprocess", "sam", "-o", cls.stats)
        assert outcome.code == 0, outcome

    def refused(self, *arguments):
        error = super().refused("quantize", *arguments)
        self.assertFalse((self.folder / "q.onnx").exists())
        return error

    def small(self, **options):
        make_model(self.folder / "small.onnx", **options)
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        rng = np.random.default_rng(1)
        for i in range(5):
            np.savez(data / f"{i}.npz", x=rng.standard_normal((2, 8)).astype(np.float32))
        return "small.onnx", "--data", "data", "-o", "q.onnx"


class Written(Quantize):
    def test_onnx_runtime_computes_what_octavo_predicts(self):
        inputs = {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor}
        np.save(self.folder / "input_image.npy", inputs["input_image"])
        (expected,) = run(open_session(ENCODER), inputs).values()
        for target in TARGETS:
            with self.subTest(target=target):
                self.octavo("quantize", ENCODER, "--stats", self.stats, "--target", target, "-o", "q.onnx")
                onnx.checker.check_model(str(self.folder / "q.onnx"), full_check=True)
                self.assertLessEqual((self.folder / "q.onnx").stat().st_size, 0.30 * ENCODER.stat().st_size)
                (theirs,) = run(open_session(self.folder / "q.onnx"), inputs).values()
                self.octavo("run", "q.onnx", "input_image.npy", "-o", "out")
                ours = np.load(self.folder / "out/image_embeddings.npy")
                predicted, found = sqnr_db(expected, ours), sqnr_db(expected, theirs)
                print(f"{target}: octavo {predicted:.2f} dB, ONNX Runtime {found:.2f} dB")
                # 8 bits over some 45 layers: measured 25 to 37 dB; below 20 something is misplaced.
                self.assertGreater(predicted, 20)
                self.assertLess(abs(predicted - found), 1)

    def test_q_dq_form(self):
        for target in TARGETS:
            self.octavo("quantize", ENCODER, "--stats", self.stats, "--target", target, "-o", "q.onnx")
            graph = onnx.load(self.folder / "q.onnx").graph
            constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
            producer = {name: node for node in graph.node for name in node.output}
            convolutions = [node for node in graph.node if node.op_type == "Conv"]
            self.assertEqual(len(convolutions), 45)
            if target == "onnxruntime":  # its result is what the model gives
                (last,) = (node for node in convolutions if node.name == "/out/Conv")
                convolutions.remove(last)
                self.assertNotIn(last.input[1], producer)
            for node in convolutions:
                self.assertEqual(producer[node.input[0]].op_type, "DequantizeLinear")
                weight = producer[node.input[1]]
                self.assertEqual(weight.op_type, "DequantizeLinear")
                integers = constants[weight.input[0]]
                self.assertEqual(integers.dtype, np.int8)
                self.assertGreaterEqual(integers.min(), -127)
                self.assertEqual(constants[weight.input[1]].shape, (integers.shape[0],))
                for bias in node.input[2:]:
                    self.assertEqual(constants[bias].dtype, np.float32)
            for node in graph.node:
                if node.op_type != "QuantizeLinear":
                    continue
                zero_point = constants[node.input[2]]
                self.assertEqual(zero_point.dtype, np.int8 if target == "tensorrt" else np.uint8)
                if target == "tensorrt":
                    self.assertEqual(zero_point, 0)

    def test_onnx_runtime_runs_convolutions_on_integers(self):
        """Written for it, all but the last; and both engines draw the same masks from the file."""
        self.octavo("quantize", ENCODER, "--stats", self.stats, "--target", "onnxruntime", "--no-remedy", "all", "-o", "q.onnx")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(self.folder / "optimized.onnx")
        ort.InferenceSession(str(self.folder / "q.onnx"), options, providers=["CPUExecutionProvider"])
        ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
        self.assertEqual((ops.count("QLinearConv"), ops.count("Conv") + ops.count("FusedConv")), (44, 1))
        findings = self.octavo("lint", "q.onnx", "--target", "onnxruntime", "--json", "-").json["findings"]
        self.assertEqual([f["rule"] for f in findings if f["severity"] != "note"], [])
        plan = self.octavo("inspect", "q.onnx", "--json", "-").json["plan"]
        # No conversion between a convolution and what follows it: what is left belongs to linear attention and resizing.
        self.assertLess(len(plan["unfused"]), 12)
        sam = Sam(self.folder / "q.onnx", DECODER, 256)
        for name, box in (("astronaut.png", [150, 8, 292, 200]), ("chelsea.png", [100, 10, 400, 299]),
                          ("coffee.png", [120, 60, 470, 350]), ("rocket.jpg", [300, 60, 360, 400])):
            with self.subTest(picture=name):
                picture = load_rgb(SAMPLES / name)
                np.save(self.folder / "input_image.npy", Frame(picture, 256).tensor)
                sam.encode(picture)
                self.octavo("run", "q.onnx", "input_image.npy", "-o", "out")
                self.assertGreaterEqual(sqnr_db(sam.embeddings, np.load(self.folder / "out/image_embeddings.npy")), 30)
                theirs, _ = sam.predict_box(box)
                self.octavo("segment", SAMPLES / name, "--encoder", "q.onnx", "--box", ",".join(map(str, box)), "--mask", "mask.png")
                ours = np.asarray(load_rgb(self.folder / "mask.png"))[..., 0] > 0
                self.assertGreaterEqual((ours & theirs).sum() / (ours | theirs).sum(), 0.99)

    def test_onnx_runtime_multiplies_matrices_on_integers(self):
        """A float bias keeps those float behind which no Q stands: it stands apart, and the file computes what it did."""
        rng = np.random.default_rng(4)
        tensor = lambda name, *shape: onnx.numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        weights = [tensor("w1", 64, 32), tensor("b1", 32), tensor("w2", 32, 16), tensor("b2", 16), tensor("w3", 8, 16), tensor("b3", 8)]
        flat = onnx.numpy_helper.from_array(np.array([-1, 16]), "flat")
        make = onnx.helper.make_node
        nodes = [make("MatMul", ["x", "w1"], ["m1"], "m1"), make("Add", ["m1", "b1"], ["a1"], "a1"), make("Relu", ["a1"], ["r"], "r"),
                 make("MatMul", ["r", "w2"], ["m2"], "m2"), make("Add", ["b2", "m2"], ["a2"], "a2"),
                 make("Reshape", ["a2", "flat"], ["rows"], "rows"),
                 make("Gemm", ["rows", "w3", "b3"], ["y"], "y", transB=1)]
        value = lambda name, *shape: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        graph = onnx.helper.make_graph(nodes, "g", [value("x", 2, 5, 64)], [value("y", 10, 8)], weights + [flat])
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), self.folder / "m.onnx")
        (self.folder / "data").mkdir()
        x = rng.standard_normal((2, 5, 64)).astype(np.float32)
        np.savez(self.folder / "data/0.npz", x=x)
        for target, integers in ("openvino", 1), ("onnxruntime", 3):
            self.octavo("quantize", "m.onnx", "--data", "data", "--target", target, "--no-remedy", "all", "-o", f"{target}.onnx")
            options = ort.SessionOptions()
            options.log_severity_level = 3
            options.optimized_model_filepath = str(self.folder / "optimized.onnx")
            session = ort.InferenceSession(str(self.folder / f"{target}.onnx"), options, providers=["CPUExecutionProvider"])
            ops = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
            self.assertEqual(ops.count("MatMulIntegerToFloat") + ops.count("QGemm"), integers, ops)
            self.octavo("run", f"{target}.onnx", "data/0.npz", "-o", "out")
            # Sums of 64 products at most, rounded to float32 in another order, and a step of 8 bits where one lies at a tie.
            self.assertGreater(sqnr_db(session.run(None, {"x": x})[0], np.load(self.folder / "out/y.npy")), 45)
            findings = self.octavo("lint", f"{target}.onnx", "--target", "onnxruntime", "--json", "-").json["findings"]
            self.assertEqual(sum(f["rule"] == "float-result" for f in findings), 3 - integers)

    def test_sixteen_bits(self):
        """All contractions in bf16 or fp16: a standard file of half the size, and the same picture in both engines."""
        inputs = {"input_image": Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor}
        np.save(self.folder / "input_image.npy", inputs["input_image"])
        (expected,) = run(open_session(ENCODER), inputs).values()
        # Roundings of 2^-9 and 2^-12 relative over some 45 layers: measured 50 and 68 dB. Where a sum lies near a tie
        # the engines may round it apart, so that they differ by less than either does from float.
        for precision, onnx_type, floor in ("bf16", onnx.TensorProto.BFLOAT16, 40), ("fp16", onnx.TensorProto.FLOAT16, 55):
            with self.subTest(precision=precision):
                self.octavo("quantize", ENCODER, "--stats", self.stats, "--" + precision, "*", "-o", "first.onnx")
                recipe = json.loads((self.folder / "first.onnx.recipe.json").read_text())
                self.assertEqual({entry["precision"] for entry in recipe["float"]}, {precision})
                self.octavo("quantize", ENCODER, "--recipe", "first.onnx.recipe.json", "-o", "q.onnx")
                self.assertEqual((self.folder / "q.onnx").read_bytes(), (self.folder / "first.onnx").read_bytes())
                onnx.checker.check_model(str(self.folder / "q.onnx"), full_check=True)
                self.assertLess((self.folder / "q.onnx").stat().st_size, 0.52 * ENCODER.stat().st_size)
                graph = onnx.load(self.folder / "q.onnx").graph
                constants = {tensor.name: tensor.data_type for tensor in graph.initializer}
                producer = {name: node for node in graph.node for name in node.output}
                for node in graph.node:
                    if node.op_type == "Conv":
                        self.assertEqual(constants[producer[node.input[1]].input[0]], onnx_type)
                (theirs,) = run(open_session(self.folder / "q.onnx"), inputs).values()
                self.octavo("run", "q.onnx", "input_image.npy", "-o", "out")
                ours = np.load(self.folder / "out/image_embeddings.npy")
                self.octavo("run", "q.onnx", "input_image.npy", "--engine", "reference", "-o", "out")
                plain = np.load(self.folder / "out/image_embeddings.npy")
                print(f"{precision}: octavo {sqnr_db(expected, ours):.1f} dB, reference {sqnr_db(expected, plain):.1f} dB, ONNX "
                      f"Runtime {sqnr_db(expected, theirs):.1f} dB; octavo and ONNX Runtime {sqnr_db(theirs, ours):.1f} dB, "
                      f"and reference {sqnr_db(plain, ours):.1f} dB")
                for result in ours, plain, theirs:
                    self.assertGreater(sqnr_db(expected, result), floor)
                self.assertGreater(sqnr_db(theirs, ours), floor)
                self.assertGreater(sqnr_db(plain, ours), floor)
                steps = self.octavo("inspect", "q.onnx", "--plan", "--json", "-").json["plan"]["steps"]
                self.assertEqual({step["precision"] for step in steps if step["op"].startswith("Conv+")}, {precision})

    def test_decoder_with_attention(self):
        """Dynamic sizes and softmax attention: the prompt has two points here."""
        rng = np.random.default_rng(0)
        (self.folder / "prompts").mkdir()
        for i in range(4):
            np.savez(self.folder / f"prompts/{i}.npz",
                     image_embeddings=rng.standard_normal((1, 128, 32, 32)).astype(np.float32),
                     point_coords=rng.uniform(0, 255, (1, 2, 2)).astype(np.float32),
                     point_labels=np.array([[2, 3]], np.float32))
        report = self.octavo("quantize", DECODER, "--data", "prompts", "-o", "q.onnx", "--json", "-").json
        reasons = {entry["reason"] for entry in report["float_nodes"]}
        self.assertIn("both operands are activations", reasons)
        onnx.checker.check_model(str(self.folder / "q.onnx"), full_check=True)
        inputs = dict(np.load(self.folder / "prompts/3.npz"))
        expected, found = run(open_session(DECODER), inputs), run(open_session(self.folder / "q.onnx"), inputs)
        for name, reference in expected.items():
            self.assertGreater(sqnr_db(reference, found[name]), 10, name)
        whole = self.octavo("quantize", DECODER, "--data", "prompts", "--quantize-attention", "-o", "q.onnx", "--json", "-").json
        self.assertNotIn("both operands are activations", {entry["reason"] for entry in whole["float_nodes"]})
        self.assertGreater(whole["activations"], report["activations"])

    def test_json_and_held_out_samples(self):
        report = self.octavo("quantize", *self.small(), "--json", "report.json").stdout
        self.assertIn("over 1 samples", report)
        report = json.loads((self.folder / "report.json").read_text())
        self.assertEqual(report["samples"], 1)  # every fourth of five
        self.assertEqual(report["weights"], 2)
        self.assertEqual(report["int8_macs_share"], 1)
        self.assertGreater(report["score"], 20)
        self.assertGreater(report["seconds"], 0)
        metadata = {p.key: p.value for p in onnx.load(self.folder / "q.onnx").metadata_props}
        self.assertEqual(metadata["octavo.target"], "octavo")
        self.assertEqual(metadata["octavo.estimator"], "mse")
        self.assertEqual(len(metadata["octavo.recipe"]), 16)

    def test_no_data_no_score(self):
        report = self.octavo("quantize", ENCODER, "--stats", self.stats, "-o", "q.onnx", "--json", "-").json
        self.assertIsNone(report["score"])
        # All but linear attention's products, which are a few percent.
        self.assertGreater(report["int8_macs_share"], 0.9)
        self.assertLess(report["int8_macs_share"], 1)

    def test_an_all_zero_channel_gives_a_usable_scale(self):
        self.octavo("quantize", *self.small())
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(self.folder / "q.onnx").graph.initializer}
        self.assertEqual(constants["w1/scale"][3], 1)
        self.assertTrue((constants["w1/quantized"][:, 3] == 0).all())


class Recipes(Quantize):
    def test_a_recipe_gives_the_same_model_again(self):
        self.octavo("quantize", ENCODER, "--stats", self.stats, "--target", "tensorrt", "-o", "q.onnx")
        self.octavo("quantize", ENCODER, "--recipe", "q.onnx.recipe.json", "--recipe-out", "copy.json", "-o", "again.onnx")
        self.assertEqual((self.folder / "q.onnx").read_bytes(), (self.folder / "again.onnx").read_bytes())
        self.assertEqual((self.folder / "q.onnx.recipe.json").read_bytes(), (self.folder / "copy.json").read_bytes())

    def test_an_edited_recipe_is_followed(self):
        self.octavo("quantize", *self.small())
        recipe = json.loads((self.folder / "q.onnx.recipe.json").read_text())
        dropped = recipe["activations"].pop(0)
        recipe["weights"] = [w for w in recipe["weights"] if w["node"] not in dropped["consumers"]]
        recipe["activations"][0]["scale"] = 0.5
        (self.folder / "edited.json").write_text(json.dumps(recipe))
        self.octavo("quantize", "small.onnx", "--recipe", "edited.json", "-o", "edited.onnx")
        graph = onnx.load(self.folder / "edited.onnx").graph
        self.assertEqual(sum(node.op_type == "QuantizeLinear" for node in graph.node), 1)
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.assertEqual(constants[recipe["activations"][0]["tensor"] + "/scale"], 0.5)

    def test_bad_recipes(self):
        self.octavo("quantize", *self.small())
        good = json.loads((self.folder / "q.onnx.recipe.json").read_text())
        (self.folder / "q.onnx").unlink()

        def broken(edit):
            recipe = json.loads(json.dumps(good))
            edit(recipe)
            (self.folder / "bad.json").write_text(json.dumps(recipe))
            return self.refused("small.onnx", "--recipe", "bad.json", "-o", "q.onnx")

        self.assertIn("another model", broken(lambda r: r.update(fingerprint="00")))
        self.assertIn("not a positive normal number", broken(lambda r: r["activations"][0].update(scale=0)))
        self.assertIn("not a positive normal number", broken(lambda r: r["weights"][0]["scales"].__setitem__(0, 1e-45)))
        self.assertIn("unknown key 'scales'", broken(lambda r: r["activations"][0].update(scales=1)))
        self.assertIn("axis 5", broken(lambda r: r["weights"][0].update(axis=5)))
        self.assertIn("no node 'nobody'", broken(lambda r: r["weights"][0].update(node="nobody")))
        self.assertIn("format 9", broken(lambda r: r.update(octavo_recipe=9)))


class KeepFloat(Quantize):
    def test_kept_nodes_read_floats(self):
        for entry, kept in (("first", {"first"}), ("MatMul", {"first", "second"}), ("s*d", {"second"})):
            with self.subTest(entry):
                report = self.octavo("quantize", *self.small(), "--keep-float", entry, "--json", "-").json
                self.assertEqual({node["node"] for node in report["float_nodes"]}, kept)
                nodes = {node.name: node for node in onnx.load(self.folder / "q.onnx").graph.node}
                for name in kept:
                    self.assertFalse(any("dequantized" in name for name in nodes[name].input))

    def test_a_pattern_of_the_encoder(self):
        report = self.octavo("quantize", ENCODER, "--stats", self.stats, "--preset", "tensorrt8-implicit", "--keep-float",
                             "linear-attention", "-o", "q.onnx", "--json", "-").json
        self.assertEqual(len(report["float_nodes"]), 4)

    def test_what_matches_nothing_is_an_error(self):
        self.assertIn("'sevond' matches no node", self.refused(*self.small(), "--keep-float", "sevond"))
        self.assertIn("bf16 'sevond' matches no node", self.refused(*self.small(), "--bf16", "sevond"))
        self.assertIn("both bf16 and fp16", self.refused(*self.small(), "--bf16", "second", "--fp16", "MatMul"))


class Remedies(Quantize):
    def test_planted_outliers_are_equalized(self):
        """The hard encoder is the nano one with channels rescaled: what is lost to that comes back."""
        run = lambda *flags: self.octavo("quantize", HARD_ENCODER, "--data", self.photos, "--preprocess", "sam",
                                         "--eval-data", self.photos, "-o", "q.onnx", "--json", "-", *flags).json
        plain = run("--no-remedy", "all")
        self.assertLess(plain["score"], 10)
        self.assertEqual(plain["remedies"], [])
        others = [flag for name in ("defer-softmax", "search-ranges", "smooth-norm", "migrate-depthwise", "migrate",
                                    "fold-signs", "shift-channels", "clip-weights", "correct-bias")
                  for flag in ("--no-remedy", name)]
        report = run(*others)
        self.assertEqual([r["name"] for r in report["remedies"]], ["equalize"])
        self.assertTrue(report["remedies"][0]["kept"])
        self.assertGreater(report["score"], 28)
        # The recipe alone makes the same file.
        self.octavo("quantize", HARD_ENCODER, "--recipe", "q.onnx.recipe.json", "-o", "again.onnx")
        self.assertEqual((self.folder / "q.onnx").read_bytes(), (self.folder / "again.onnx").read_bytes())

    def test_rounded_weights_stand_in_the_recipe(self):
        arguments = self.small()
        rng = np.random.default_rng(2)
        for i in range(30):  # inputs that go together; layers with fewer rows than inputs are left alone
            x = rng.standard_normal((2, 1)) + 0.1 * rng.standard_normal((2, 8))
            np.savez(self.folder / "data" / f"{i}.npz", x=x.astype(np.float32))
        report = self.octavo("quantize", *arguments, "--remedy", "ada-round", "--json", "-").json
        self.assertEqual([r["kept"] for r in report["remedies"] if r["name"] == "ada-round"], [True])
        self.assertIn('"offsets":"', (self.folder / "q.onnx.recipe.json").read_text())
        self.octavo("quantize", "small.onnx", "--recipe", "q.onnx.recipe.json", "-o", "again.onnx")
        self.assertEqual((self.folder / "q.onnx").read_bytes(), (self.folder / "again.onnx").read_bytes())

    def test_what_cannot_be(self):
        self.assertIn("zero point 0", self.refused(*self.small(), "--target", "tensorrt", "--remedy", "fold-signs"))
        self.assertIn("is no remedy", self.refused(*self.small(), "--remedy", "prayer"))
        self.assertIn("is no remedy", self.refused(*self.small(), "--try-remedy", "prayer"))
        self.assertIn("need --data", self.refused(ENCODER, "--stats", self.stats, "--remedy", "equalize", "-o", "q.onnx"))
        self.assertIn("another tool", self.refused(*self.small(), "--preset", "tensorrt8-implicit", "--remedy", "migrate"))
        self.assertIn("calibration cache", self.refused(*self.small(), "--calibration-cache", "c", "--remedy", "migrate"))


class Caches(Quantize):
    def write(self, **scales):
        lines = ["TRT-8501-EntropyCalibration2"]
        lines += [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in scales.items()]
        (self.folder / "c.cache").write_text("\n".join(lines) + "\n")

    def test_a_written_cache_drives_the_engine_without_q_dq(self):
        self.octavo("quantize", ENCODER, "--stats", self.stats, "--calibration-cache", "c.cache", "-o", "q.onnx")
        lines = (self.folder / "c.cache").read_text().splitlines()
        self.assertTrue(lines[0].startswith("TRT-"))
        self.assertRegex(lines[1], r"^.+: [0-9a-f]{8}$")
        self.octavo("quantize", ENCODER, "--from-calibration-cache", "c.cache", "-o", "explicit.onnx")
        report = self.octavo("compare", "explicit.onnx", ENCODER, "--calibration-cache", "c.cache", "--data", self.photos,
                             "--preprocess", "sam", "--json", "-").json
        # The same graph either way, on one machine: the same bits.
        self.assertEqual(report["outputs"][0]["sqnr_db"], 999)
        np.save(self.folder / "x.npy", Frame(load_rgb(SAMPLES / "coffee.png"), 256).tensor)
        self.octavo("run", ENCODER, "x.npy", "--calibration-cache", "c.cache", "-o", "implicit")
        self.octavo("run", "explicit.onnx", "x.npy", "-o", "explicit")
        np.testing.assert_array_equal(np.load(self.folder / "implicit/image_embeddings.npy"),
                                      np.load(self.folder / "explicit/image_embeddings.npy"))

    def test_scales_are_the_caches(self):
        self.small()
        self.write(x=0.25, b=0.5)
        self.octavo("quantize", "small.onnx", "--from-calibration-cache", "c.cache", "-o", "q.onnx")
        constants = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(self.folder / "q.onnx").graph.initializer}
        self.assertEqual(constants["x/scale"], 0.25)
        self.assertEqual(constants["b/scale"], 0.5)

    def test_bad_caches(self):
        self.small()
        refused = lambda: self.refused("small.onnx", "--from-calibration-cache", "c.cache", "-o", "q.onnx")
        self.write(x=0.25)
        self.assertIn("no scale of tensor 'b'", refused())
        for scale in (0.0, -1.0, float("nan"), 1e-40):
            self.write(x=0.25, b=scale)
            self.assertIn("c.cache:3: tensor 'b'", refused())
        (self.folder / "c.cache").write_text("TRT-8501-EntropyCalibration2\nx: 3f800000\nx: 3f800000\n")
        self.assertIn("c.cache:3: tensor 'x' was listed before", refused())
        (self.folder / "c.cache").write_bytes(os.urandom(64))
        self.assertIn("c.cache:1:", refused())
        (self.folder / "c.cache").unlink()
        self.assertIn("c.cache", refused())


class Refused(Quantize):
    def test_usage(self):
        model, data = self.small()[0], ["--data", "data", "-o", "q.onnx"]
        self.assertIn("where scales come from", self.refused(model, "-o", "q.onnx"))
        self.assertIn("where scales come from", self.refused(model, *data, "--stats", self.stats))
        self.assertIn("'tpu' is no target", self.refused(model, *data, "--target", "tpu"))
        self.assertIn("'magic' is no preset", self.refused(model, *data, "--preset", "magic"))
        self.assertIn("minmax", self.refused(model, *data, "--estimator", "best"))
        self.assertIn("goes with --estimator percentile", self.refused(model, *data, "--estimator", "mse", "--percentile", "99"))
        self.assertIn("--recipe holds every decision", self.refused(model, "--recipe", "r.json", "--keep-float", "first", "-o", "q.onnx"))
        self.assertIn("--preprocess", self.refused(ENCODER, "--data", self.photos, "-o", "q.onnx"))

    def test_statistics_of_another_model(self):
        self.assertIn("another model", self.refused(HARD_ENCODER, "--stats", self.stats, "-o", "q.onnx"))

    def test_a_quantized_model(self):
        self.octavo("quantize", *self.small())
        (self.folder / "q.onnx").rename(self.folder / "quantized.onnx")
        self.assertIn("quantized already", self.refused("quantized.onnx", "--data", "data", "-o", "q.onnx"))

    def test_opsets_below_13(self):
        model = self.small(opset=11)
        self.octavo("quantize", *model)
        self.assertEqual(onnx.load(self.folder / "q.onnx").opset_import[0].version, 13)
        (self.folder / "q.onnx").unlink()
        self.assertIn("convert_version", self.refused(*self.small(opset=11, op="Softmax", axis=0)))

    def test_nothing_is_left_of_a_model_that_cannot_be_written(self):
        model = self.small()[0]
        (self.folder / "folder.onnx").mkdir()
        self.octavo("quantize", model, "--data", "data", "-o", "folder.onnx", code=2)
        self.octavo("quantize", model, "--data", "data", "-o", "missing/q.onnx", code=2)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["data", "folder.onnx", "small.onnx"])


class Preset(Quantize):
    def test_everything_is_int8_and_the_picture_suffers(self):
        scores = {}
        for flags in ((), ("--preset", "tensorrt8-implicit")):
            report = self.octavo("quantize", ENCODER, "--stats", self.stats, "--eval-data", self.photos, "--preprocess", "sam",
                                 *flags, "-o", "q.onnx", "--json", "-").json
            scores[flags] = report["score"]
            self.assertEqual(len(report["float_nodes"]), 0 if flags else 4)
            self.assertEqual(report["estimator"], "entropy" if flags else "mse")
        print(scores)
        # Measured: 37 against 20 dB.
        self.assertGreater(scores[()], scores[("--preset", "tensorrt8-implicit")] + 6)


if __name__ == "__main__":
    unittest.main(verbosity=2)
