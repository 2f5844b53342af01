"""Cases of the ops that compute: elementwise, reductions, normalizations, pools, contractions; and random graphs."""
import itertools

import numpy as np
from onnx import helper

from onnx_case import Case, model_of, single_node

FLOATS = (np.float32, np.float64, np.float16)
INTEGERS = (np.int32, np.int64, np.int8, np.uint8)


def normal(rng, *shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def integers(rng, *shape, dtype=np.int64, low=-20, high=20):
    return rng.integers(max(low, np.iinfo(dtype).min), high, shape).astype(dtype)


def sample(rng, shape, dtype):
    return normal(rng, *shape, dtype=dtype) if np.dtype(dtype).kind == "f" else integers(rng, *shape, dtype=dtype)


# Elementwise

BROADCASTS = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), ()), ((), (2, 3)), ((2, 3, 1), (1, 5)), ((4, 1, 3), (2, 1)),
              ((1,), (1, 1)), ((2, 3, 40, 50), (3, 1, 1)), ((2, 0, 3), (1, 3)), ((3, 257), (3, 1))]


def binary_cases(rng):
    for op in ("Add", "Sub", "Mul", "Div"):
        for index, (a, b) in enumerate(BROADCASTS):
            x, y = normal(rng, *a), normal(rng, *b)
            yield single_node(f"broadcast {index}", op, [x, y + np.sign(y) if op == "Div" else y])
        for dtype in (np.float64, np.float16) + INTEGERS:
            x, y = sample(rng, (3, 5), dtype), sample(rng, (5,), dtype)
            yield single_node(np.dtype(dtype).name, op, [x, np.where(y == 0, 3, y).astype(dtype) if op == "Div" else y], opset=14)
    for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"):
        for dtype in (np.float32, np.int32, np.int64):
            x = integers(rng, 4, 5, low=-3, high=3, dtype=np.int64).astype(dtype)
            yield single_node(np.dtype(dtype).name, op, [x, integers(rng, 1, 5, low=-3, high=3).astype(dtype)])
    yield single_node("bool", "Equal", [rng.random((3, 4)) < 0.5, rng.random(4) < 0.5])
    yield single_node("NaN", "Greater", [np.float32([np.nan, 1, np.inf]), np.float32([1, np.nan, np.inf])])
    for op in ("And", "Or", "Xor"):
        yield single_node("broadcast", op, [rng.random((3, 1)) < 0.5, rng.random((2, 1, 4)) < 0.5])
    yield single_node("bool", "Not", [rng.random((3, 4)) < 0.5])
    for fmod, dtype in ((1, np.float32), (1, np.float64), (0, np.int32), (1, np.int32), (0, np.int64), (1, np.int8), (0, np.uint8)):
        x, y = sample(rng, (40,), dtype) * (3 if np.dtype(dtype).kind == "f" else 1), sample(rng, (40,), dtype)
        yield single_node(f"{np.dtype(dtype).name} fmod {fmod}", "Mod", [x.astype(dtype), np.where(y == 0, 3, y).astype(dtype)], fmod=fmod)
    positive = np.abs(normal(rng, 3, 40)) + np.float32(0.1)
    for exponent in (np.float32(2), np.float32(0.5), np.float32(-1.5), np.float32(3), np.int64(2), np.int32(3), normal(rng, 40)):
        yield single_node(f"float32 ^ {np.asarray(exponent).dtype} {np.ravel(exponent)[0]:.2f}", "Pow", [positive, np.asarray(exponent)])
    yield single_node("negative base", "Pow", [normal(rng, 20), np.float32(3)])
    yield single_node("int32 ^ int32", "Pow", [integers(rng, 20, dtype=np.int32, low=-6, high=6), np.abs(integers(rng, 20, dtype=np.int32, low=0, high=5))])
    yield single_node("int64 ^ float32", "Pow", [integers(rng, 20, low=1, high=9), np.float32(2)])
    for op, dtype in itertools.product(("Min", "Max"), (np.float32, np.float64, np.int32, np.int64, np.int8, np.uint8)):
        yield single_node(np.dtype(dtype).name, op, [sample(rng, (3, 1, 5), dtype), sample(rng, (4, 1), dtype), sample(rng, (5,), dtype)])
    yield single_node("of one", "Max", [normal(rng, 3, 4)])
    yield single_node("NaN", "Max", [np.float32([np.nan, 1, 2, -0.0]), np.float32([1, np.nan, 1, 0.0])])


UNARY = {"Neg": {}, "Abs": {}, "Exp": {}, "Sin": {}, "Cos": {}, "Tanh": {}, "Erf": {}, "Sigmoid": {}, "Relu": {},
         "LeakyRelu": {}, "HardSigmoid": {}, "HardSwish": {}, "Softplus": {}, "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {}}


def unary_cases(rng):
    for op, attributes in UNARY.items():
        for dtype in (np.float32, np.float64, np.float16):
            yield single_node(np.dtype(dtype).name, op, [normal(rng, 2, 3, 333, dtype=dtype) * dtype(3)], **attributes)
    for op in ("Sqrt", "Log", "Reciprocal"):
        yield single_node("float32", op, [np.abs(normal(rng, 2, 301)) + np.float32(0.01)])
        yield single_node("float64", op, [np.abs(normal(rng, 2, 3, dtype=np.float64)) + 0.01])
    for op in ("Exp", "Tanh", "Erf", "Sigmoid", "Softplus", "HardSigmoid"):
        yield single_node("extremes", op, [np.float32([-np.inf, -100, -88, -20, -1e-6, -0.0, 0, 1e-6, 20, 88, 100, np.inf])])
    yield single_node("halves", "Round", [np.float32([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 0.49999997, 8388609])])
    yield single_node("alpha", "LeakyRelu", [normal(rng, 50)], alpha=0.3)
    yield single_node("alpha beta", "HardSigmoid", [normal(rng, 50) * 4], alpha=0.1, beta=0.7)
    yield single_node("float32", "Mish", [normal(rng, 2, 50) * 3], opset=18)
    for approximate in ("none", "tanh"):
        yield single_node(approximate, "Gelu", [normal(rng, 2, 500) * 3], opset=20, approximate=approximate)
    for op, dtype in itertools.product(("Neg", "Abs", "Sign"), (np.int32, np.int64, np.int8)):
        yield single_node(np.dtype(dtype).name, op, [integers(rng, 3, 5, dtype=dtype)])
    yield single_node("int32", "Relu", [integers(rng, 20, dtype=np.int32)], opset=14)
    x = normal(rng, 3, 50) * 3
    low, high = np.float32(-1), np.float32(1.5)
    for name, operands in (("both", [x, low, high]), ("low", [x, low]), ("high", [x, None, high]), ("none", [x]), ("crossed", [x, high, low])):
        yield single_node(name, "Clip", operands)
        yield single_node(name + ", constant", "Clip", operands, constant=(1, 2))
    yield single_node("int32", "Clip", [integers(rng, 20, dtype=np.int32), np.int32(-3), np.int32(4)])
    yield single_node("uint8", "Clip", [integers(rng, 20, dtype=np.uint8), np.uint8(3), np.uint8(14)])
    yield single_node("infinities", "Clip", [np.float32([-np.inf, np.inf, 1]), None, np.float32(5)])
    yield single_node("opset 6", "Clip", [x], opset=10, min=-0.5, max=1.0)


# Reductions

REDUCE = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "ReduceL2")


def reduction_cases(rng):
    x = normal(rng, 2, 3, 4, 5)
    for op in REDUCE:
        for opset, axes, keep in itertools.product((11, 13, 18), (None, [1], [-1], [0, 2], [1, 2, 3], [0, 1, 2, 3]), (0, 1)):
            name = f"opset {opset} axes {axes} keepdims {keep}"
            by_input = opset >= (13 if op == "ReduceSum" else 18)
            if axes is None or not by_input:
                attributes = {} if axes is None else {"axes": axes}
                yield single_node(name, op, [x], opset=opset, keepdims=keep, **attributes)
            else:
                yield single_node(name, op, [x, np.int64(axes)], constant=(1,), opset=opset, keepdims=keep)
        yield single_node("scalar", op, [np.float32(1.5)], opset=13)
        yield single_node("int32", op, [integers(rng, 3, 4, dtype=np.int32, low=-3, high=4), np.int64([1])], constant=(1,), opset=18)
        yield single_node("float64", op, [normal(rng, 3, 40, dtype=np.float64), np.int64([1])], constant=(1,), opset=18)
    for op in ("ReduceSum", "ReduceMax", "ReduceMean"):
        yield single_node("no axes, noop", op, [x, np.int64([])], constant=(1,), opset=18, noop_with_empty_axes=1)
        yield single_node("no axes", op, [x, np.int64([])], constant=(1,), opset=18, noop_with_empty_axes=0)
    yield single_node("long", "ReduceMean", [normal(rng, 4, 100000), np.int64([1])], constant=(1,), opset=18)
    yield single_node("empty", "ReduceSum", [normal(rng, 2, 0, 3), np.int64([1])], constant=(1,), opset=18)
    for dtype in (np.int8, np.uint8, np.int64):
        yield single_node(np.dtype(dtype).name, "ReduceMax", [integers(rng, 3, 7, dtype=dtype), np.int64([1])], constant=(1,), opset=18)
    for axis, keep, last in itertools.product((0, 1, -1), (0, 1), (0, 1)):
        yield single_node(f"axis {axis} keepdims {keep} last {last}", "ArgMax",
                          [integers(rng, 3, 4, 9, low=0, high=4).astype(np.float32)], axis=axis, keepdims=keep, select_last_index=last)
    yield single_node("int32", "ArgMax", [integers(rng, 5, 9, dtype=np.int32)], axis=1)
    for op in ("Softmax", "LogSoftmax"):
        for opset, axis in itertools.product((11, 13), (0, 1, 2, -1, None)):
            yield single_node(f"opset {opset} axis {axis}", op, [normal(rng, 3, 4, 5) * 4], opset=opset, **({} if axis is None else {"axis": axis}))
        yield single_node("large values", op, [np.float32([[1000, 1001, -1000], [-1e30, 0, 1e30], [0, 0, 0]])])
        yield single_node("masked", op, [np.float32([[0, -np.inf, 1], [-np.inf, 0, -np.inf]])])
        yield single_node("float64", op, [normal(rng, 3, 7, dtype=np.float64)], axis=-1)
        yield single_node("float16", op, [normal(rng, 3, 7, dtype=np.float16)], axis=-1)


# Normalizations and pools

def normalization_cases(rng):
    for axis, shape in itertools.product((-1, 1, 2, 0), ((2, 3, 4), (2, 3, 64))):
        tail = shape[axis:] if axis >= 0 else shape[-1:]
        for with_bias in (False, True):
            operands = [normal(rng, *shape) * 2 + 1, normal(rng, *tail)] + ([normal(rng, *tail)] if with_bias else [])
            yield single_node(f"axis {axis} {shape} bias {with_bias}", "LayerNormalization", operands, axis=axis, epsilon=1e-4)
    yield single_node("statistics", "LayerNormalization", [normal(rng, 2, 5, 16), normal(rng, 16), normal(rng, 16)], outputs=3)
    yield single_node("far from zero", "LayerNormalization", [normal(rng, 2, 64) + 100, normal(rng, 64), normal(rng, 64)])
    for shape in ((2, 3, 10), (2, 3, 4, 5), (1, 4, 2, 3, 4)):
        yield single_node(f"{shape}", "InstanceNormalization", [normal(rng, *shape), normal(rng, shape[1]), normal(rng, shape[1])], epsilon=1e-3)
    for groups in (1, 2, 6):
        yield single_node(f"{groups} groups, opset 21", "GroupNormalization",
                          [normal(rng, 2, 6, 4, 5), normal(rng, 6), normal(rng, 6)], opset=21, num_groups=groups, epsilon=1e-4)
        yield single_node(f"{groups} groups, opset 18", "GroupNormalization",
                          [normal(rng, 2, 6, 4, 5), normal(rng, groups), normal(rng, groups)], opset=18, num_groups=groups)
    for shape in ((2, 3), (2, 3, 10), (2, 3, 4, 5), (1, 4, 2, 3, 4)):
        c = shape[1]
        yield single_node(f"{shape}", "BatchNormalization",
                          [normal(rng, *shape), normal(rng, c), normal(rng, c), normal(rng, c), np.abs(normal(rng, c)) + np.float32(0.1)],
                          opset=15, epsilon=1e-3)


POOLS = [dict(kernel_shape=[3, 3]), dict(kernel_shape=[2, 3], strides=[2, 1]), dict(kernel_shape=[3, 2], pads=[1, 0, 2, 1]),
         dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
         dict(kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1), dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
         dict(kernel_shape=[2, 2], auto_pad="SAME_LOWER"), dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="VALID"),
         dict(kernel_shape=[3, 3], strides=[3, 2], pads=[2, 2, 0, 1], ceil_mode=1)]


def pool_cases(rng):
    x = normal(rng, 2, 3, 8, 9)
    for index, attributes in enumerate(POOLS):
        for opset, include in itertools.product((11, 19), (0, 1)):
            yield single_node(f"{index} opset {opset} count_include_pad {include}", "AveragePool", [x], opset=opset, count_include_pad=include, **attributes)
        yield single_node(f"{index}", "MaxPool", [x], opset=12, **attributes)
        yield single_node(f"{index} with indices", "MaxPool", [x], outputs=2, opset=12, **attributes)
    yield single_node("dilated", "AveragePool", [x], opset=19, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 1, 1])
    yield single_node("dilated, padding counts", "AveragePool", [x], opset=19, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    yield single_node("dilated", "MaxPool", [x], opset=12, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 1, 1])
    yield single_node("column-major indices", "MaxPool", [x], outputs=2, opset=12, kernel_shape=[2, 2], storage_order=1)
    yield single_node("1-D", "MaxPool", [normal(rng, 2, 3, 11)], outputs=2, opset=12, kernel_shape=[3], strides=[2], pads=[1, 0])
    yield single_node("1-D", "AveragePool", [normal(rng, 2, 3, 11)], kernel_shape=[3], strides=[2], pads=[1, 1])
    yield single_node("3-D", "MaxPool", [normal(rng, 1, 2, 5, 6, 7)], outputs=2, opset=12, kernel_shape=[2, 3, 2], strides=[1, 2, 2])
    yield single_node("3-D", "AveragePool", [normal(rng, 1, 2, 5, 6, 7)], kernel_shape=[2, 3, 2], pads=[1, 1, 0, 0, 1, 1])
    yield single_node("int8", "MaxPool", [integers(rng, 1, 2, 6, 6, dtype=np.int8)], opset=12, kernel_shape=[2, 2])
    for op, shape in itertools.product(("GlobalAveragePool", "GlobalMaxPool"), ((2, 3, 9), (2, 3, 7, 8), (1, 2, 3, 4, 5))):
        yield single_node(f"{shape}", op, [normal(rng, *shape)])


# Contractions

MATMULS = [((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)),
           ((2, 1, 3, 4), (5, 4, 6)), ((7,), (2, 3, 7, 5)), ((2, 3, 5, 7), (7,)), ((1, 130), (130, 65)), ((65, 33), (33, 1)),
           ((3, 0), (0, 4)), ((0, 3), (3, 4)), ((70, 71), (71, 72))]


def matmul_cases(rng):
    for a, b in MATMULS:
        yield single_node(f"{a} x {b}", "MatMul", [normal(rng, *a), normal(rng, *b)])
    for dtype in (np.float64, np.float16, np.int32, np.int64):
        yield single_node(np.dtype(dtype).name, "MatMul", [sample(rng, (2, 5, 6), dtype), sample(rng, (6, 7), dtype)])
    for trans_a, trans_b, c in itertools.product((0, 1), (0, 1), (None, (), (5,), (3, 1), (1, 5), (3, 5))):
        operands = [normal(rng, *((4, 3) if trans_a else (3, 4))), normal(rng, *((5, 4) if trans_b else (4, 5)))]
        operands += [] if c is None else [normal(rng, *c)]
        yield single_node(f"transA {trans_a} transB {trans_b} C {c}", "Gemm", operands, transA=trans_a, transB=trans_b, alpha=0.5, beta=1.5)
    yield single_node("float64", "Gemm", [normal(rng, 3, 4, dtype=np.float64), normal(rng, 4, 5, dtype=np.float64)])


EINSUMS = [("ij,jk->ik", (3, 4), (4, 5)), ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)), ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
           ("bhij,bhjd->bhid", (2, 3, 4, 5), (2, 3, 5, 6)), ("ij,jk", (3, 4), (4, 5)), ("ba,cb", (3, 4), (5, 3)), ("ii->i", (4, 4)),
           ("ii", (4, 4)), ("...ii->...i", (2, 3, 4, 4)), ("ij->ji", (3, 4)), ("ij->", (3, 4)), ("i,j->ij", (3,), (4,)), ("i,i->", (5,), (5,)),
           ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 6)), ("...ij,jk->i...k", (2, 3, 4), (4, 5)), ("b...,b...->b", (2, 3, 4), (2, 3, 4)),
           ("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5)), ("bhwc,wkc->bhwk", (2, 3, 4, 5), (4, 6, 5)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
           ("bcij,kcij->bk", (2, 3, 4, 5), (6, 3, 4, 5)), ("ij,i->j", (3, 4), (3,)), ("a b c , c d -> a b d", (2, 3, 4), (4, 5)),
           ("bijk,bijl->bkl", (2, 3, 4, 5), (2, 3, 4, 6)), ("nctkv,kvw->nctw", (2, 3, 4, 2, 5), (2, 5, 5)), ("iij->j", (3, 3, 4)), ("ij,k->i", (2, 3), (4,))]


def einsum_cases(rng):
    for equation, *shapes in EINSUMS:
        yield single_node(equation, "Einsum", [normal(rng, *s) for s in shapes], equation=equation)
    yield single_node("int64", "Einsum", [integers(rng, 3, 4), integers(rng, 4, 5)], equation="ij,jk->ik")


CONVS = [((1, 3, 8, 9), (4, 3, 3, 3), {}), ((2, 3, 8, 9), (4, 3, 3, 3), dict(pads=[1, 1, 1, 1])),
         ((2, 4, 8, 9), (6, 2, 3, 2), dict(group=2, strides=[2, 1])), ((1, 4, 8, 9), (4, 1, 3, 3), dict(group=4, pads=[1, 1, 1, 1], strides=[2, 2])),
         ((1, 4, 8, 9), (8, 1, 3, 3), dict(group=4)), ((1, 3, 12, 13), (2, 3, 3, 3), dict(dilations=[2, 3], pads=[2, 0, 1, 3])),
         ((1, 3, 8, 9), (4, 3, 3, 3), dict(auto_pad="SAME_UPPER", strides=[2, 2])), ((1, 3, 8, 9), (4, 3, 2, 4), dict(auto_pad="SAME_LOWER")),
         ((1, 3, 8, 9), (4, 3, 2, 4), dict(auto_pad="SAME_LOWER", strides=[2, 2])), ((1, 3, 8, 9), (4, 3, 3, 3), dict(auto_pad="VALID", strides=[3, 2])),
         ((2, 3, 20), (4, 3, 5), dict(pads=[2, 1], strides=[2])), ((2, 3, 5, 6, 7), (4, 3, 2, 3, 2), dict(pads=[1, 1, 0, 0, 1, 1], strides=[2, 1, 1])),
         ((2, 70, 9, 9), (67, 70, 1, 1), {}), ((1, 8, 17, 19), (9, 8, 3, 3), dict(pads=[1, 1, 1, 1])), ((1, 3, 4, 4), (5, 3, 4, 4), {}),
         ((1, 3, 32, 32), (8, 3, 4, 4), dict(strides=[4, 4])), ((1, 2, 3, 3), (2, 2, 3, 3), dict(pads=[3, 3, 3, 3]))]

TRANSPOSED = [((1, 3, 5, 6), (3, 4, 3, 3), {}), ((2, 3, 5, 6), (3, 4, 2, 2), dict(strides=[2, 2])),
              ((1, 4, 5, 6), (4, 3, 3, 3), dict(group=2, strides=[2, 1], pads=[1, 0, 1, 2])),
              ((1, 3, 5, 6), (3, 4, 3, 3), dict(strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])),
              ((1, 3, 5, 6), (3, 4, 3, 2), dict(dilations=[2, 3], strides=[2, 2])), ((1, 3, 5, 6), (3, 4, 3, 3), dict(strides=[3, 2], output_shape=[15, 12])),
              ((1, 3, 5, 6), (3, 4, 4, 4), dict(strides=[2, 2], auto_pad="SAME_UPPER")), ((1, 3, 5, 6), (3, 4, 3, 3), dict(strides=[2, 2], auto_pad="SAME_UPPER")),
              ((1, 3, 5, 6), (3, 4, 3, 3), dict(strides=[2, 2], auto_pad="SAME_LOWER")), ((1, 3, 5, 6), (3, 4, 3, 3), dict(strides=[2, 2], auto_pad="VALID")),
              ((1, 3, 9), (3, 4, 3), dict(strides=[2])), ((1, 2, 3, 4, 5), (2, 3, 2, 2, 2), dict(strides=[2, 2, 2])),
              ((1, 3, 5, 6), (3, 4, 3, 3), dict(strides=[2, 2], output_shape=[10, 12], auto_pad="SAME_LOWER")),
              ((1, 4, 5, 6), (4, 1, 3, 3), dict(group=4, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[0, 1]))]


def convolution_cases(rng):
    for op, table in (("Conv", CONVS), ("ConvTranspose", TRANSPOSED)):
        for (x, w, attributes), bias in itertools.product(table, (False, True)):
            channels = w[0] if op == "Conv" else w[1] * attributes.get("group", 1)
            operands = [normal(rng, *x), normal(rng, *w)] + ([normal(rng, channels)] if bias else [])
            yield single_node(f"{x} {w} {attributes} bias {bias}", op, operands, constant=(1, 2), **attributes)
        yield single_node("weights from an input", op, [normal(rng, 1, 3, 6, 6), normal(rng, 3, 3, 2, 2)])


# Random graphs

class RandomGraph:
    """A chain of ops that keep values near 1 and never sit on a step, with now and then a branch that joins again."""

    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.constants = [], {}
        self.x = normal(rng, 1, int(rng.integers(2, 9)), int(rng.integers(4, 13)), int(rng.integers(4, 13)))
        self.name, self.shape = "x", list(self.x.shape)
        self.earlier = []  # (name, shape) of what came before

    def add(self, op, operands, shape=None, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], name=f"n{len(self.nodes)}", **attributes))
        self.earlier.append((self.name, list(self.shape)))
        self.name, self.shape = name, list(shape or self.shape)

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def weights(self, *shape):
        fan_in = np.prod(shape[1:])
        return self.constant(normal(self.rng, *shape) / np.sqrt(fan_in).astype(np.float32))

    def activation(self):
        self.add(str(self.rng.choice(["Tanh", "Sigmoid", "Relu", "HardSwish", "Erf", "Softplus", "LeakyRelu", "Abs", "Neg"])), [self.name])

    def silu(self):
        before = self.name
        self.add("Sigmoid", [before])
        self.add("Mul", [before, self.name])

    def hard_swish(self):
        before = self.name
        self.add("Add", [before, self.constant(np.float32(3))])
        self.add("Clip", [self.name, self.constant(np.float32(0)), self.constant(np.float32(6))])
        self.add("Mul", [before, self.name])
        self.add("Div", [self.name, self.constant(np.float32(6))])

    def gelu(self):
        before = self.name
        self.add("Div", [before, self.constant(np.float32(np.sqrt(2)))])
        self.add("Erf", [self.name])
        self.add("Add", [self.name, self.constant(np.float32(1))])
        self.add("Mul", [before, self.name])
        self.add("Mul", [self.name, self.constant(np.float32(0.5))])

    def conv(self):
        n, c, h, w = self.shape
        out, depthwise = int(self.rng.integers(2, 9)), bool(self.rng.random() < 0.3)
        group = c if depthwise else 1
        out = c if depthwise else out
        kernel = int(self.rng.choice([1, 3]))
        operands = [self.name, self.weights(out, c // group, kernel, kernel)]
        if self.rng.random() < 0.7:
            operands.append(self.constant(normal(self.rng, out)))
        self.add("Conv", operands, [n, out, h, w], pads=[kernel // 2] * 4, group=group)

    def batch_norm(self):
        c = self.shape[1]
        values = [self.constant(normal(self.rng, c)) for _ in range(3)] + [self.constant(np.abs(normal(self.rng, c)) + np.float32(0.5))]
        self.add("BatchNormalization", [self.name, *values])

    def scale(self):
        shape = self.shape if self.rng.random() < 0.3 else [self.shape[1], 1, 1]
        self.add(str(self.rng.choice(["Add", "Sub", "Mul"])), [self.name, self.constant(normal(self.rng, *shape))])

    def join(self):
        same = [name for name, shape in self.earlier if shape == self.shape]
        if not same:
            return self.activation()
        self.add(str(self.rng.choice(["Add", "Mul"])), [self.name, str(self.rng.choice(same))])
        self.add("Tanh", [self.name])  # products must not grow

    def norm(self):
        c = self.shape[1]
        self.add("InstanceNormalization", [self.name, self.constant(normal(self.rng, c)), self.constant(normal(self.rng, c))])

    def softmax(self):
        self.add("Softmax", [self.name], axis=int(self.rng.choice([1, 2, 3, -1])))

    def transpose(self):
        self.add("Transpose", [self.name], [self.shape[i] for i in (0, 1, 3, 2)], perm=[0, 1, 3, 2])

    def matmul(self):
        n, c, h, w = self.shape
        columns = int(self.rng.integers(2, 12))
        matrix = self.constant(normal(self.rng, w, columns) / np.sqrt(w).astype(np.float32))
        self.add("MatMul", [self.name, matrix], [n, c, h, columns])

    def gate(self):
        before, shape = self.name, list(self.shape)
        self.add("GlobalAveragePool", [self.name], [*shape[:2], 1, 1])
        self.add("Sigmoid", [self.name])
        self.add("Mul", [before, self.name], shape)

    def layer_norm(self):
        """Over the channels, as exporters spell it without LayerNormalization."""
        before, shape = self.name, list(self.shape)
        self.add("ReduceMean", [before], [shape[0], 1, *shape[2:]], axes=[1])
        self.add("Sub", [before, self.name], shape)
        centered = self.name
        self.add("Mul", [centered, centered])
        self.add("ReduceMean", [self.name], [shape[0], 1, *shape[2:]], axes=[1])
        self.add("Add", [self.name, self.constant(np.float32(1e-2))])
        self.add("Sqrt", [self.name])
        self.add("Div", [centered, self.name], shape)

    def pool(self):
        if min(self.shape[2:]) < 4:
            return self.activation()
        n, c, h, w = self.shape
        self.add(str(self.rng.choice(["AveragePool", "MaxPool"])), [self.name], [n, c, h // 2, w // 2], kernel_shape=[2, 2], strides=[2, 2])

    STEPS = (activation, activation, silu, hard_swish, gelu, conv, conv, conv, batch_norm, scale, scale, join, join, norm, softmax, transpose, matmul,
             gate, layer_norm, pool)

    def case(self, index):
        for _ in range(int(self.rng.integers(5, 16))):
            self.STEPS[int(self.rng.integers(len(self.STEPS)))](self)
        ops = " ".join(node.op_type for node in self.nodes)
        return Case(f"random {index}: {ops}", model_of(self.nodes, {"x": self.x}, [self.name], self.constants, opset=17), [self.x])


def cases(seed):
    for number, make in enumerate((binary_cases, unary_cases, reduction_cases, normalization_cases, pool_cases, matmul_cases, einsum_cases,
                                   convolution_cases)):
        yield from make(np.random.default_rng([seed, number]))
    for index in range(60):
        yield RandomGraph(np.random.default_rng([seed, 100, index])).case(index)
