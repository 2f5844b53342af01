#!/usr/bin/env python3
"""octavo export: a calibration cache and flags of trtexec to Q/DQ, and back, with the same arithmetic."""
import json
import os
import pathlib
import shlex
import subprocess
import unittest

from octavo_command import ENCODER, OctavoTest, copy_photos, octavo
from reference import np, onnx, open_session, sqnr_db


def scales_of(path):
    lines = pathlib.Path(path).read_text().splitlines()
    return lines[0], dict(line.rsplit(": ", 1) for line in lines[1:])


def activations_of(recipe):
    entries = json.loads(pathlib.Path(recipe).read_text())["activations"]
    return sorted((e["tensor"], str(e["consumers"]), e["dtype"], e["scale"], e["zero_point"]) for e in entries)


def conv_model(path, names=("first", "second")):
    """x -> Conv -> Relu -> Conv -> y, with names as given."""
    rng = np.random.default_rng(0)
    weights = [onnx.numpy_helper.from_array(rng.standard_normal((4, 4, 1, 1)).astype(np.float32), name)
               for name in ("w1", "w2")]
    nodes = [onnx.helper.make_node("Conv", ["x", "w1"], ["a"], names[0]),
             onnx.helper.make_node("Relu", ["a"], ["b"], "relu"),
             onnx.helper.make_node("Conv", ["b", "w2"], ["y"], names[1])]
    value = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4, 3, 3])
    graph = onnx.helper.make_graph(nodes, "small", [value("x")], [value("y")], weights)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=7), path)


CACHE = "TRT-8601-EntropyCalibration2\nx: 3c010a14\na: 3c810a14\nb: 3c810a14\ny: 3d010a14\n"


class Export(OctavoTest):
    @classmethod
    def setUpClass(cls):
        cls.shared = cls.make_shared()
        photos = cls.shared / "photos"
        copy_photos(photos)
        cls.photo = sorted(photos.iterdir())[0]
        cls.stats, cls.cache = cls.shared / "nano.stats", cls.shared / "nano.cache"
        outcome = octavo("calibrate", ENCODER, "--data", photos, "--preprocess", "sam", "-o", cls.stats)
        assert outcome.code == 0, outcome
        outcome = octavo("quantize", ENCODER, "--stats", cls.stats, "--preset", "tensorrt8-implicit",
                         "--calibration-cache", cls.cache, "-o", cls.shared / "naive.onnx")
        assert outcome.code == 0, outcome

    def refused(self, *arguments, output="q.onnx"):
        error = super().refused("export", *arguments, "-o", output)
        self.assertFalse((self.folder / output).exists())
        return error

    def outputs(self, model, *flags):
        self.octavo("run", model, self.photo, "--preprocess", "sam", "-o", "out", *flags)
        return {path.name: np.load(path) for path in sorted((self.folder / "out").iterdir())}

    def assert_same_bits(self, a, b):
        self.assertEqual(a.keys(), b.keys())
        for name, value in a.items():
            self.assertTrue(np.array_equal(value, b[name]), name)

    def small(self, **options):
        conv_model(self.folder / "small.onnx", **options)
        (self.folder / "small.cache").write_text(CACHE)
        return "small.onnx", "--from-calibration-cache", "small.cache"

    def test_what_is_written_is_the_arithmetic_of_the_implicit_run(self):
        self.octavo("export", ENCODER, "--target", "tensorrt", "--from-calibration-cache", self.cache, "-o", "a.onnx")
        self.octavo("export", ENCODER, "--preset", "tensorrt8-implicit", "--from-calibration-cache", self.cache, "-o", "b.onnx")
        self.octavo("export", ENCODER, "--target", "octavo", "--from-calibration-cache", self.cache, "-o", "c.onnx")
        implicit = lambda *flags: self.outputs(ENCODER, "--calibration-cache", self.cache, *flags)
        self.assert_same_bits(self.outputs("a.onnx"), implicit("--cache-rules", "tensorrt"))
        self.assert_same_bits(self.outputs("b.onnx"), implicit("--cache-rules", "tensorrt8-implicit"))
        self.assert_same_bits(self.outputs("b.onnx"), self.outputs(self.shared / "naive.onnx"))
        self.assert_same_bits(self.outputs("c.onnx"), implicit())

    def test_onnxruntime_computes_the_same(self):
        self.octavo("export", ENCODER, "--from-trtexec",
                    f"--int8 --fp16 --calib={shlex.quote(str(self.cache))} --precisionConstraints=obey "
                    "--layerPrecisions=/middle/middle.0/body/body.0/body.0.0/Conv:fp16", "-o", "q.onnx")
        model = onnx.load(self.folder / "q.onnx")
        self.assertEqual(sum(node.op_type == "Cast" for node in model.graph.node), 2)
        found = list(self.outputs("q.onnx").values())
        session = open_session(self.folder / "q.onnx")
        pixels = self.folder / "x.npz"
        rng = np.random.default_rng(3)
        shape = [d if isinstance(d, int) else 1 for d in session.get_inputs()[0].shape]
        x = rng.standard_normal(shape).astype(np.float32)
        np.savez(pixels, **{session.get_inputs()[0].name: x})
        self.octavo("run", "q.onnx", pixels, "-o", "npz")
        ours = [np.load(path) for path in sorted((self.folder / "npz").iterdir())]
        theirs = session.run(None, {session.get_inputs()[0].name: x})
        self.assertEqual(len(found), len(theirs))
        for a, b in zip(theirs, ours):
            self.assertGreaterEqual(sqnr_db(a, b), 30)

    def test_there_and_back_loses_nothing(self):
        self.octavo("export", ENCODER, "--from-calibration-cache", self.cache, "-o", "q.onnx")
        outcome = self.octavo("export", "q.onnx", "--target", "tensorrt8-implicit", "-o", "float.onnx",
                              "--calibration-cache", "back.cache", "--trtexec", "back.sh", "--trt-version", "10.3",
                              "--json", "-")
        self.assertEqual(outcome.json["lost"], [])
        header, scales = scales_of(self.folder / "back.cache")
        self.assertEqual(header, "TRT-100300-EntropyCalibration2")
        given = scales_of(self.cache)[1]
        self.assertTrue(set(scales.items()) <= set(given.items()))
        # Every tensor that was quantized has its scale back.
        self.assertEqual({entry[0] for entry in activations_of(self.folder / "q.onnx.recipe.json")}, set(scales))
        script = (self.folder / "back.sh").read_text()
        self.octavo("export", "float.onnx", "--from-trtexec", script, "-o", "again.onnx")
        self.assertEqual(activations_of(self.folder / "again.onnx.recipe.json"),
                         activations_of(self.folder / "q.onnx.recipe.json"))
        self.assert_same_bits(self.outputs("again.onnx"), self.outputs("q.onnx"))

    def test_the_script_calls_trtexec_with_these_very_names(self):
        names = ("a:b $HOME `x`", "(Unnamed Layer* 3) [Constant] é")
        self.octavo("export", *self.small(names=names), "-o", "q.onnx")
        self.octavo("export", "q.onnx", "--target", "tensorrt8-implicit", "-o", "it's.onnx", "--calibration-cache",
                    "c.cache", "--trtexec", "run me.sh")
        program = self.folder / "bin" / "trtexec"
        program.parent.mkdir()
        program.write_text('#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done\n')
        program.chmod(0o755)
        environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        printed = subprocess.run(["sh", "run me.sh", "--saveEngine=x y"], cwd=self.folder, env=environment,
                                 capture_output=True, text=True, check=True).stdout.splitlines()
        self.assertIn(f"--layerPrecisions='{names[0]}':int8,{names[1]}:int8", printed)
        self.assertIn("--onnx=./it's.onnx", printed)
        self.assertIn("--calib=./c.cache", printed)
        self.assertIn("--precisionConstraints=obey", printed)
        self.assertEqual(printed[-1], "--saveEngine=x y")

    def test_layers_become_float_as_asked(self):
        model = self.small()
        outcome = self.octavo("export", *model, "--layer-precisions", "first:fp16,second:fp32,gone:fp16,x*:fp32", "-o",
                              "q.onnx", "--json", "-")
        self.assertEqual([(n["node"], n["precision"]) for n in outcome.json["float_nodes"]],
                         [("first", "fp16"), ("second", "fp32")])
        self.assertIn("'gone' matches no node", outcome.stderr)
        self.assertIn("takes '*' alone", outcome.stderr)
        outcome = self.octavo("export", "small.onnx", "--from-trtexec",
                              "trtexec --int8 --calib=small.cache --layerPrecisions=first:fp16 --verbose", "-o", "r.onnx")
        self.assertIn("'--verbose' is ignored", outcome.stderr)
        self.assertIn("without --precisionConstraints", outcome.stderr)
        self.assertIn("2 weights", outcome.stdout)

    def test_a_missing_scale_leaves_its_readers_float(self):
        self.small()
        (self.folder / "small.cache").write_text(CACHE.replace("b: 3c810a14\n", ""))
        outcome = self.octavo("export", "small.onnx", "--from-calibration-cache", "small.cache", "-o", "q.onnx", "--json", "-")
        self.assertEqual([n["node"] for n in outcome.json["float_nodes"]], ["second"])
        self.assertIn("no scale of 'b'", outcome.json["float_nodes"][0]["reason"])

    def test_inspect_says_which_precision_is_expected(self):
        self.octavo("export", *self.small(), "-o", "q.onnx")
        outcome = self.octavo("inspect", "q.onnx", "--target", "tensorrt", "--json", "-")
        layers = {layer["node"]: layer for layer in outcome.json["tensorrt"]}
        self.assertEqual(layers["first"]["precision"], "INT8")
        self.assertEqual(layers["relu"]["precision"], "INT8")
        self.assertIn("dequantized right before it", layers["second"]["rule"])

    def test_refuses_what_does_not_fit(self):
        model = self.small()
        self.assertIn("say where scales come from", self.refused("small.onnx"))
        self.assertIn("'half' is no type", self.refused(*model, "--layer-precisions", "first:half"))
        self.assertIn("cuts at every comma", self.refused(*model, "--layer-precisions", "'a,b':fp16"))
        self.assertIn("never closed", self.refused("small.onnx", "--from-trtexec", "--calib='small.cache"))
        self.assertIn("does not go with it", self.refused(*model, "--from-trtexec", "--int8", "--layer-precisions", "a:fp16"))
        self.assertIn("needs --calibration-cache", self.refused("small.onnx", "--target", "tensorrt8-implicit"))
        self.assertIn("no Q/DQ", self.refused("small.onnx", "--target", "tensorrt8-implicit", "--calibration-cache", "c"))
        self.assertIn("no version", self.refused(*model, "--trt-version", "eight"))
        self.assertIn("is no target", self.refused(*model, "--target", "tensorrt9"))
        (self.folder / "small.cache").write_text("garbage")
        self.assertIn("small.cache:1:", self.refused(*model))
        self.octavo("run", "small.onnx", "--cache-rules", "tensorrt", code=2)


if __name__ == "__main__":
    unittest.main()
