#!/usr/bin/env python3
"""Statistics and ranges against NumPy and ONNX Runtime: what a model computes, and TensorRT's entropy algorithm."""
import unittest

from octavo_command import ENCODER, SAMPLES, OctavoTest
from reference import np, onnx

HALF = 2048
LEVELS = 128


def entropy_threshold(counts, exponent):
    """The algorithm as docs/calibration.md words it, with arrays: counts of bins -2048 .. 2047."""
    folded = counts[HALF:] + counts[:HALF][::-1]
    used = int(np.flatnonzero(folded)[-1]) + 1
    folded = folded.astype(np.float64)
    best, least = used, np.inf
    for size in range(used, LEVELS - 1, -1):
        q_bins = folded[:size]
        p = q_bins.copy()
        p[-1] += folded[size:].sum()
        level = np.arange(size) * LEVELS // size
        sums = np.bincount(level, q_bins, LEVELS)
        filled = np.bincount(level, p > 0, LEVELS)
        q = np.where(p > 0, (sums / np.maximum(filled, 1))[level], 0)
        there = p > 0
        if (q[there] == 0).any():
            continue
        p, q = p[there] / p.sum(), q[there] / q.sum()
        divergence = float((p * np.log(p / q)).sum())
        # Of equals the widest; sums in another order differ by some 1e-16 a term.
        if divergence < least - 1e-12:
            best, least = size, divergence
    return (best + 0.5) * 2.0**exponent


class Estimators(OctavoTest):
    def calibrate(self, model, *flags):
        self.octavo("calibrate", model, *flags, "-o", "a.stats")
        return self.octavo("stats", "show", "a.stats", "--json", "-").json

    def counts(self, tensor):
        counts = np.zeros(2 * HALF, np.uint64)
        first = tensor["histogram"]["first_bin"] + HALF
        found = tensor["histogram"]["counts"]
        counts[first:first + len(found)] = found
        return counts

    def check_entropy(self, report):
        for tensor in report["tensors"]:
            if tensor["min"] == tensor["max"] == 0:
                continue
            threshold = entropy_threshold(self.counts(tensor), tensor["histogram"]["exponent"])
            largest = max(-tensor["min"], tensor["max"])
            low, high = tensor["ranges"]["entropy"]["symmetric"]
            # Both are (i + 0.5) * 2^e, exact in float32, or what was seen.
            self.assertEqual((low, high), (-min(threshold, largest), min(threshold, largest)), tensor["name"])
            low, high = tensor["ranges"]["entropy"]["asymmetric"]
            self.assertEqual(low, max(min(tensor["min"], 0), -threshold), tensor["name"])
            self.assertEqual(high, min(max(tensor["max"], 0), threshold), tensor["name"])

    def identity(self, values):
        """Statistics of given values: a model that does next to nothing."""
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Neg", ["x"], ["y"])], "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, len(values)])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, len(values)])])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, self.folder / "neg.onnx")
        (self.folder / "data").mkdir(exist_ok=True)
        np.savez(self.folder / "data/a.npz", x=values.astype(np.float32)[None])
        return self.calibrate("neg.onnx", "--data", "data")

    def test_statistics_and_entropy_of_known_distributions(self):
        random = np.random.default_rng(0)
        normal = random.normal(size=50000)
        clipped = 0
        for values in (normal, np.maximum(normal, 0), random.laplace(size=50000), random.uniform(-1, 3, 50000),
                       np.concatenate([normal, random.uniform(4, 100, 300)]), random.standard_t(3, 50000),
                       np.concatenate([np.zeros(50000), [1e-3, 50]]), np.array([1.0, -2.0])):
            report = self.identity(values)
            values = values.astype(np.float32)
            (x,) = [tensor for tensor in report["tensors"] if tensor["name"] == "x"]
            self.assertEqual((x["min"], x["max"]), (values.min(), values.max()))
            # Sums in double of 5e4 terms: relative 1e-11 at most, of the mean magnitude.
            self.assertAlmostEqual(x["mean"], float(values.mean(dtype=np.float64)), delta=1e-11 * np.abs(values).mean())
            exponent = x["histogram"]["exponent"]
            bins = np.floor(np.ldexp(values.astype(np.float64), -exponent)).astype(np.int64)
            self.assertTrue((-HALF <= bins.min()) and (bins.max() < HALF))
            self.assertTrue(bins.min() < -HALF // 2 or bins.max() >= HALF // 2)  # half the width would not do
            self.assertTrue((np.bincount(bins + HALF, minlength=2 * HALF) == self.counts(x)).all())
            self.check_entropy(report)
            clipped += x["ranges"]["entropy"]["symmetric"][1] < 0.9 * np.abs(values).max()
        self.assertGreater(clipped, 2)  # it was not the largest value every time

    def test_entropy_of_a_models_activations(self):
        report = self.calibrate(ENCODER, "--data", SAMPLES, "--preprocess", "sam")
        self.assertGreater(len(report["tensors"]), 50)
        self.check_entropy(report)


if __name__ == "__main__":
    unittest.main(verbosity=2)
