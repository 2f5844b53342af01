"""Cases of ops that few models have, beyond what ONNX's node tests ask: types, opsets, attributes, and shapes that are inputs."""
import itertools

import numpy as np

from onnx_case import single_node


def normal(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def int64(*values):
    return np.int64(values)


def elementwise_cases(rng):
    x = normal(rng, 3, 50) * 3
    for op in ("Tan", "Atan", "Sinh", "Cosh", "Asinh", "Softsign", "Selu", "Elu", "Celu", "ThresholdedRelu"):
        yield single_node("float32", op, [x])
    for op, alpha in itertools.product(("Elu", "ThresholdedRelu", "Celu"), (0.3, 2.5)):
        yield single_node(f"alpha {alpha}", op, [x], alpha=alpha)
    yield single_node("parameters", "Selu", [x], alpha=1.1, gamma=0.7)
    inside = np.tanh(normal(rng, 60)) * np.float32(0.99)
    for op in ("Asin", "Acos", "Atanh"):
        yield single_node("float32", op, [inside])
    yield single_node("float32", "Acosh", [np.abs(x) + 1])
    for dtype in (np.float32, np.float16, np.int8, np.int32, np.uint8):
        yield single_node(np.dtype(dtype).name, "Shrink", [(x * 3).astype(np.int64).astype(dtype)], lambd=1.5, bias=0.5)
    for slope in ((50,), (1,), (3, 1)):
        yield single_node(f"slope {slope}", "PRelu", [x, normal(rng, *slope)])
    special = np.float32([np.nan, np.inf, -np.inf, 0, 1, -np.nan])
    yield single_node("float32", "IsNaN", [special])
    for negative, positive in itertools.product((0, 1), (0, 1)):
        yield single_node(f"{negative} {positive}", "IsInf", [special], detect_negative=negative, detect_positive=positive)
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        info = np.iinfo(dtype)
        a, b = (rng.integers(info.min, info.max, (3, 4), dtype, endpoint=True) for _ in range(2))
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
            yield single_node(np.dtype(dtype).name, op, [a, b[:1]], opset=18)
        yield single_node(np.dtype(dtype).name, "BitwiseNot", [a], opset=18)
        if info.min == 0 and dtype != np.uint16:
            for direction in ("LEFT", "RIGHT"):
                yield single_node(f"{np.dtype(dtype).name} {direction}", "BitShift", [a, (b % info.bits).astype(dtype)], direction=direction)
    for op in ("Sum", "Mean"):
        yield single_node("broadcast", op, [normal(rng, 2, 3, 4), normal(rng, 3, 1), normal(rng, 4)])
        yield single_node("of one", op, [x])


def selection_cases(rng):
    x = normal(rng, 3, 4, 5)
    ties = rng.integers(0, 4, (3, 6)).astype(np.float32)
    for axis, largest, k in itertools.product((0, 1, -1), (0, 1), (1, 3)):
        yield single_node(f"axis {axis} largest {largest} k {k}", "TopK", [x, int64(k)], outputs=2, axis=axis, largest=largest)
    for largest in (0, 1):
        yield single_node(f"ties {largest}", "TopK", [ties, int64(4)], outputs=2, largest=largest)
    yield single_node("opset 10", "TopK", [x, int64(2)], outputs=2, opset=10, constant=(1,))
    yield single_node("int64", "TopK", [rng.integers(-9, 9, (3, 7)), int64(3)], outputs=2)
    for axis, exclusive, reverse in itertools.product((0, -1), (0, 1), (0, 1)):
        yield single_node(f"{axis} {exclusive} {reverse}", "CumSum", [x, np.int64(axis)], exclusive=exclusive, reverse=reverse)
    yield single_node("int32", "CumSum", [rng.integers(-9, 9, (3, 7)).astype(np.int32), np.int32(1)])
    for dtype in (np.float32, np.int64, np.bool_, np.uint8, np.int32):
        yield single_node(np.dtype(dtype).name, "NonZero", [rng.integers(0, 2, (3, 4, 2)).astype(dtype)])
    yield single_node("nothing", "NonZero", [np.zeros((3, 4), np.float32)])
    condition = np.array([True, False, True, True])
    yield single_node("axis", "Compress", [x, condition], axis=1)
    yield single_node("flat", "Compress", [x, np.array([False, True] * 20)])
    yield single_node("axis, constant", "Compress", [x, condition], axis=-2, constant=(1,))
    for sorted_, axis in itertools.product((0, 1), (None, 0, 1)):
        yield single_node(f"sorted {sorted_} axis {axis}", "Unique", [rng.integers(-1, 2, (4, 3)).astype(np.float32)], outputs=4,
                          sorted=sorted_, **({} if axis is None else {"axis": axis}))
    for axis in (0, 1, -1):
        yield single_node(f"axis {axis}", "OneHot", [rng.integers(-4, 4, (2, 3)), int64(4), np.float32([-1, 2])], axis=axis)
    yield single_node("float indices", "OneHot", [np.float32([0, 2, 1]), np.float32(3), int64(5, 7)])
    for upper, k in itertools.product((0, 1), (-2, 0, 1, 9)):
        yield single_node(f"upper {upper} k {k}", "Trilu", [x, np.int64(k)], upper=upper)
    for k, dtype in itertools.product((-1, 0, 2), (1, 7)):
        yield single_node(f"k {k} dtype {dtype}", "EyeLike", [normal(rng, 3, 5)], k=k, dtype=dtype)
    for batch in (0, 1):
        lengths = int64(*rng.integers(1, x.shape[1 - batch] + 1, x.shape[batch]))
        yield single_node(f"batch {batch}", "ReverseSequence", [x, lengths], batch_axis=batch, time_axis=1 - batch)


def scatter_cases(rng):
    x = normal(rng, 4, 5)
    for reduction, axis in itertools.product(("none", "add", "mul", "max", "min"), (0, 1)):
        indices = np.stack([rng.permutation(x.shape[axis])[:3] for _ in range(x.shape[1 - axis])], 1 - axis).astype(np.int64)
        indices -= x.shape[axis] * (rng.random(indices.shape) < 0.3)
        for dtype in (np.float32, np.int64, np.float64):
            updates = (normal(rng, *indices.shape) * 4).astype(dtype)
            yield single_node(f"{reduction} axis {axis} {np.dtype(dtype).name}", "ScatterElements", [(x * 4).astype(dtype), indices, updates],
                              opset=18, axis=axis, reduction=reduction)
    for reduction in ("none", "add", "mul", "max", "min"):
        indices = int64([3], [0], [-2])
        yield single_node(f"{reduction} rows", "ScatterND", [x, indices, normal(rng, 3, 5)], opset=18, reduction=reduction)
        yield single_node(f"{reduction} elements", "ScatterND", [x, int64([3, 1], [0, -1]), normal(rng, 2)], opset=18, reduction=reduction)
    yield single_node("repeated", "ScatterND", [x, int64([1], [1], [1]), normal(rng, 3, 5)], opset=18, reduction="add")
    yield single_node("opset 11", "ScatterElements", [x, int64([0, 1, 2, 3, 0]), normal(rng, 1, 5)], opset=11)


def reduction_cases(rng):
    x = normal(rng, 2, 3, 4, 5)
    for op in ("ReduceL1", "ReduceLogSumExp", "ReduceLogSum"):
        for axes, keep in itertools.product(([1], [0, 2], [-1]), (0, 1)):
            yield single_node(f"{axes} {keep}", op, [np.abs(x) + 1, int64(*axes)], opset=18, keepdims=keep)
        yield single_node("opset 13", op, [np.abs(x) + 1], opset=13, axes=[1, 3])
    yield single_node("large", "ReduceLogSumExp", [np.float32([[1000, 1001], [-1000, -1e4]]), int64(1)], opset=18)
    for axis, last in itertools.product((0, 1, -1), (0, 1)):
        yield single_node(f"axis {axis} last {last}", "ArgMin", [rng.integers(0, 4, (3, 4, 9)).astype(np.float32)], axis=axis, select_last_index=last)
    for opset, axis in itertools.product((11, 13), (0, 1, -1)):
        yield single_node(f"opset {opset} axis {axis}", "Hardmax", [rng.integers(0, 4, (3, 4, 5)).astype(np.float32)], opset=opset, axis=axis)
    for p, axis in itertools.product((1, 2), (0, 1, -1)):
        yield single_node(f"p {p} axis {axis}", "LpNormalization", [x], p=p, axis=axis)
    yield single_node("axes", "MeanVarianceNormalization", [x], axes=[0, 2])
    for size in (1, 2, 3, 5):
        yield single_node(f"size {size}", "LRN", [x], size=size, alpha=0.2, beta=0.6, bias=1.5)
    for p in (1, 2, 3):
        yield single_node(f"p {p}", "GlobalLpPool", [x], p=p)
        yield single_node(f"p {p}", "LpPool", [normal(rng, 2, 3, 8, 9)], p=p, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 0, 0, 2])
    pooled = normal(rng, 1, 2, 6, 6)
    yield single_node("indices of MaxPool", "MaxUnpool", [pooled[:, :, ::2, ::2], np.arange(72).reshape(1, 2, 6, 6)[:, :, ::2, ::2].copy()],
                      kernel_shape=[2, 2], strides=[2, 2])
    # The answers of ONNX's node tests are others (tests/node_cases: DISPUTED).
    yield single_node("ceil, padding counts", "AveragePool", [normal(rng, 1, 1, 16, 16, 16)], opset=19, kernel_shape=[5, 5, 5], strides=[3, 3, 3],
                      dilations=[2, 2, 2], ceil_mode=1, count_include_pad=1)
    for mode in ("linear", "cubic"):
        yield single_node(f"corners, {mode}", "Resize", [normal(rng, 1, 1, 5, 5), None, np.float32([1, 1, 0.7, 0.5])], constant=(2,), opset=18,
                          mode=mode, coordinate_transformation_mode="align_corners")
    for mode, opset in itertools.product(("nearest", "linear"), (9,)):
        yield single_node(f"{mode} opset {opset}", "Upsample", [normal(rng, 1, 2, 4, 5), np.float32([1, 1, 2, 3])], opset=opset, constant=(1,), mode=mode)
    for reduction, ignored in itertools.product(("none", "sum", "mean"), (None, 1)):
        labels = rng.integers(0, 5, (3, 4))
        extra = {} if ignored is None else {"ignore_index": ignored}
        for op, outputs in (("NegativeLogLikelihoodLoss", 1), ("SoftmaxCrossEntropyLoss", 2)):
            for weights in ([], [np.abs(normal(rng, 5)) + np.float32(0.1)]):
                yield single_node(f"{reduction} {ignored} {len(weights)}", op, [normal(rng, 3, 5, 4), labels, *weights], outputs=outputs,
                                  reduction=reduction, **extra)


def integer_cases(rng):
    def data(dtype, *shape):
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    for a, b in itertools.product((np.uint8, np.int8), (np.uint8, np.int8)):
        if (a, b) == (np.int8, np.uint8):
            continue  # ONNX Runtime has no kernel
        name = f"{np.dtype(a).name} {np.dtype(b).name}"
        yield single_node(name, "MatMulInteger", [data(a, 2, 3, 7), data(b, 7, 5), data(a), data(b, 5)], constant=(1, 2, 3))
        scales = [np.float32(0.02), np.float32(0.03)]
        # Large enough to saturate now and then.
        yield single_node(name, "QLinearMatMul", [data(a, 3, 7), scales[0], data(a), data(b, 7, 5), scales[1], data(b), np.float32(0.1), data(a)],
                          constant=(1, 2, 3, 4, 5, 6, 7))
    yield single_node("uint8", "ConvInteger", [data(np.uint8, 1, 4, 7, 8), data(np.uint8, 6, 2, 3, 3), np.uint8(100), np.uint8(120)],
                      constant=(1, 2, 3), group=2, pads=[1, 1, 1, 0], strides=[2, 1])
    for w in (np.uint8, np.int8):
        # A sum that lies within float32's rounding of a tie may go either way.
        case = single_node(f"uint8 {np.dtype(w).name}", "QLinearConv",
                           [data(np.uint8, 1, 4, 7, 8), np.float32(0.02), np.uint8(100), data(w, 6, 4, 3, 3),
                            np.float32(rng.uniform(0.01, 0.02, 6)), np.zeros(6, w), np.float32(0.15), np.uint8(90), rng.integers(-500, 500, 6).astype(np.int32)],
                           constant=(1, 2, 3, 4, 5, 6, 7, 8), pads=[1, 0, 1, 2])
        yield case._replace(slack=(1,))
    yield single_node("float32", "DynamicQuantizeLinear", [normal(rng, 3, 40)], outputs=3)
    yield single_node("positive", "DynamicQuantizeLinear", [np.abs(normal(rng, 3, 40)) + 1], outputs=3)


def sampling_cases(rng):
    x, grid = normal(rng, 2, 3, 5, 6), rng.uniform(-1.6, 1.6, (2, 4, 3, 2)).astype(np.float32)
    for mode, padding, corners in itertools.product(("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1)):
        yield single_node(f"{mode} {padding} {corners}", "GridSample", [x, grid], opset=20, mode=mode, padding_mode=padding, align_corners=corners)
    volume, places = normal(rng, 1, 2, 3, 4, 5), rng.uniform(-1.3, 1.3, (1, 2, 3, 2, 3)).astype(np.float32)
    for mode in ("linear", "nearest"):
        yield single_node(f"3-D {mode}", "GridSample", [volume, places], opset=20, mode=mode)
    for corners, size in itertools.product((0, 1), ((2, 1, 4, 5), (2, 1, 3, 4, 5))):
        n = len(size) - 2
        yield single_node(f"{n}-D {corners}", "AffineGrid", [normal(rng, 2, n, n + 1), int64(*size)], opset=20, align_corners=corners)
    # None whose samples lie just where a map ends: those fall to either side.
    rois = np.float32([[0, 0, 4, 3], [1, 0.5, 5, 4.5], [-1, -2, 3, 8.7]])
    for mode, ratio, opset in itertools.product(("avg", "max"), (0, 2), (10, 16)):
        yield single_node(f"{mode} {ratio} opset {opset}", "RoiAlign", [x, rois, int64(0, 1, 1)], opset=opset, mode=mode, sampling_ratio=ratio,
                          output_height=2, output_width=3, spatial_scale=0.8)
    corners = rng.uniform(0, 5, (1, 12, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(1, 3, (1, 12, 2)).astype(np.float32)], 2)
    scores = rng.random((1, 2, 12)).astype(np.float32)
    for center, threshold in itertools.product((0, 1), (0.1, 0.5)):
        yield single_node(f"center {center} overlap {threshold}", "NonMaxSuppression",
                          [boxes, scores, int64(5), np.float32([threshold]), np.float32([0.3])], center_point_box=center)
    for image, block, extra in (((5, 6), (2, 3), {}), ((5, 6), (2, 2), {"pads": [1, 0, 1, 1], "strides": [2, 1]}), ((6, 7), (2, 2), {"dilations": [2, 3]})):
        pads, strides, dilations = extra.get("pads", [0] * 4), extra.get("strides", [1, 1]), extra.get("dilations", [1, 1])
        count = int(np.prod([(image[d] + pads[d] + pads[d + 2] - dilations[d] * (block[d] - 1) - 1) // strides[d] + 1 for d in (0, 1)]))
        yield single_node(f"{image} {block} {extra}", "Col2Im", [normal(rng, 2, 3 * int(np.prod(block)), count), int64(*image), int64(*block)],
                          opset=18, **extra)
    for shape in ((5, 7), (2, 9), (8, 3)):
        yield single_node(f"{shape}", "CenterCropPad", [normal(rng, 2, 4, 6), int64(*shape)], opset=18, axes=[1, -1])


def signal_cases(rng):
    for op, periodic in itertools.product(("HannWindow", "HammingWindow", "BlackmanWindow"), (0, 1)):
        yield single_node(f"periodic {periodic}", op, [np.int64(11)], periodic=periodic)
    for inverse, parts in itertools.product((0, 1), (1, 2)):
        yield single_node(f"inverse {inverse} parts {parts}", "DFT", [normal(rng, 2, 12, parts)], opset=17, inverse=inverse)
    yield single_node("one side", "DFT", [normal(rng, 2, 15, 1)], opset=17, onesided=1)
    yield single_node("longer", "DFT", [normal(rng, 2, 6, 2), np.int64(10)], opset=17, constant=(1,))
    yield single_node("window", "STFT", [normal(rng, 2, 40, 1), np.int64(5), normal(rng, 16)], opset=17, constant=(1, 2))
    yield single_node("mel", "MelWeightMatrix", [np.int64(8), np.int64(64), np.int64(8192), np.float32(0), np.float32(4000)], opset=17)


def shape_cases(rng):
    x = normal(rng, 2, 3, 4)
    yield single_node("shape is an input", "Reshape", [x, int64(4, -1)])
    yield single_node("shape is an input", "Expand", [x, int64(5, 1, 1, 1)])
    yield single_node("repeats are an input", "Tile", [x, int64(1, 2, 3)])
    yield single_node("all are inputs", "Slice", [x, int64(0, 3), int64(2, -9), int64(0, 2), int64(1, -2)])
    yield single_node("pads are an input", "Pad", [x, int64(0, 1, 0, 2, 0, 1), np.float32(3)])
    yield single_node("axes are an input", "ReduceMean", [x, int64(1)], opset=18)
    yield single_node("split is an input", "Split", [x, int64(1, 2)], outputs=2, axis=1)
    yield single_node("shape is an input", "ConstantOfShape", [int64(2, 3)])
    yield single_node("all are inputs", "Range", [np.float32(1), np.float32(5), np.float32(0.7)])
    yield single_node("scales are an input", "Resize", [normal(rng, 1, 1, 4, 4), None, np.float32([1, 1, 2, 2])], opset=18)


def cases(seed):
    rng = np.random.default_rng(seed)
    for family in (elementwise_cases, selection_cases, scatter_cases, reduction_cases, integer_cases, sampling_cases, signal_cases, shape_cases):
        yield from family(rng)
