#!/usr/bin/env python3
"""A model whose weights, 2.25 GiB in a file of their own, no protobuf file could hold. The file is sparse: it takes no disk."""
import os
import pathlib
import resource
import shutil
import tempfile
import unittest

from octavo_command import octavo
from reference import np, onnx

GIB = 1 << 30
ROW = 1 << 20


def external(name, rows, offset):
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.INT8, dims=[rows, ROW],
                              data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", offset), ("length", rows * ROW)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


class ExternalData(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="octavo-external-", dir=os.environ.get("OCTAVO_WORK")))
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, file_bytes):
        """Two tables, the second behind 2 GiB; the model reads the last row of each."""
        tables = [external("low", 2048, 0), external("high", 256, 2048 * ROW)]
        data = self.folder / "weights.bin"
        with data.open("wb") as file:
            file.truncate(file_bytes)
            for row, value in ((2047, 3), (2303, 5)):
                if (row + 1) * ROW <= file_bytes:
                    file.seek(row * ROW)
                    file.write(bytes([value]) * ROW)
        index = onnx.helper.make_tensor("last", onnx.TensorProto.INT64, [1], [-1])
        node = onnx.helper.make_node
        info = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, ROW])
        graph = onnx.helper.make_graph(
            [node("Gather", ["low", "last"], ["a"], "a"), node("Gather", ["high", "last"], ["b"], "b"),
             node("Cast", ["a"], ["fa"], "fa", to=1), node("Cast", ["b"], ["fb"], "fb", to=1),
             node("Add", ["x", "fa"], ["s"], "s"), node("Add", ["s", "fb"], ["y"], "t")],
            "large", [info("x")], [info("y")], [*tables, index])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, self.folder / "large.onnx")

    def test_more_than_2_gib_load_and_run(self):
        self.write(2304 * ROW)
        np.save(self.folder / "x.npy", np.ones((1, ROW), np.float32))
        outcome = octavo("run", "large.onnx", "x.npy", "-o", "out", cwd=self.folder)
        self.assertEqual(outcome.code, 0, outcome)
        self.assertTrue((np.load(self.folder / "out/y.npy") == 9).all())
        # The weights once, and what a command takes anyway.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        print(f"peak memory {peak / GIB:.2f} GiB")
        self.assertLess(peak, 2.25 * GIB + (200 << 20))

    def test_a_file_that_ends_too_early_is_refused_unread(self):
        self.write(2303 * ROW)
        outcome = octavo("inspect", "large.onnx", cwd=self.folder)
        self.assertEqual(outcome.code, 2, outcome)
        for text in ("large.onnx", "'high'", "weights.bin", "shorter"):
            self.assertIn(text, outcome.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
