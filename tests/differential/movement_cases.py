"""Cases of the ops that move elements, of Cast, Where and Range, and of Resize."""
import itertools

import numpy as np
from onnx import helper, numpy_helper

from onnx_case import Case, single_node


class CaseMaker:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def values(self, shape, dtype=np.float32):
        if dtype == np.bool_:
            return np.asarray(self.rng.random(shape) < 0.5)
        if np.issubdtype(dtype, np.integer):
            info = np.iinfo(dtype)
            return self.rng.integers(max(info.min, -100), min(info.max, 100), shape, dtype=dtype)
        return np.asarray(self.rng.standard_normal(shape)).astype(dtype)

    def model(self, op, inputs, constants=(), outputs=1, opset=17, **attributes):
        """One node. `inputs` are graph inputs; initializers follow them, None where an optional one is left out."""
        operands = [*inputs, *constants]
        constant = range(len(inputs), len(operands))
        return single_node("", op, operands, outputs, opset, constant, **attributes).model


def ints(*values):
    return np.array(values, dtype=np.int64)


def floats(*values):
    return np.array(values, dtype=np.float32)


def layout_cases(make):
    dtypes = [np.float32, np.float64, np.float16, np.int8, np.int32, np.int64, np.uint8, np.bool_]
    for dtype in dtypes:
        x = make.values((2, 3, 4, 5), dtype)
        yield f"transpose_{np.dtype(dtype).name}", make.model("Transpose", [x], perm=[0, 2, 3, 1]), [x]
    for perm in itertools.permutations(range(4)):
        x = make.values((2, 18, 3, 33))
        yield f"transpose_{''.join(map(str, perm))}", make.model("Transpose", [x], perm=list(perm)), [x]
    x = make.values((3, 4, 5))
    yield "transpose_default", make.model("Transpose", [x]), [x]
    x = make.values((1, 64, 48, 50))
    yield "transpose_large", make.model("Transpose", [x], perm=[0, 2, 3, 1]), [x]
    x = make.values((2, 3, 4))
    for name, shape, zero in [
        ("split", (2, 3, 2, 2), 0), ("infer", (4, -1), 0), ("copy", (0, 0, -1, 2), 0), ("copy_infer", (0, -1), 0),
        ("flat", (-1,), 0), ("zero", (2, 3, 4), 1),
    ]:
        yield f"reshape_{name}", make.model("Reshape", [x], [ints(*shape)], allowzero=zero), [x]
    empty = np.zeros((0, 3), np.float32)
    yield "reshape_empty_allowzero", make.model("Reshape", [empty], [ints(3, 0)], allowzero=1), [empty]
    for axis in range(-3, 4):
        yield f"flatten_{axis}", make.model("Flatten", [x], axis=axis), [x]
    x = make.values((1, 3, 1, 2, 1))
    yield "squeeze_all", make.model("Squeeze", [x]), [x]
    yield "squeeze_input", make.model("Squeeze", [x], [ints(0, -1)]), [x]
    yield "squeeze_attribute", make.model("Squeeze", [x], opset=11, axes=[0, 2]), [x]
    x = make.values((3, 2))
    yield "unsqueeze_input", make.model("Unsqueeze", [x], [ints(-1, 0)]), [x]
    yield "unsqueeze_attribute", make.model("Unsqueeze", [x], opset=11, axes=[1, 3]), [x]
    yield "identity", make.model("Identity", [x]), [x]
    yield "dropout", make.model("Dropout", [x], outputs=2, opset=13), [x]
    yield "dropout_ratio", make.model("Dropout", [x], [np.float32(0.3), np.array(False)], opset=13), [x]
    for start, end in [(0, None), (1, None), (-2, None), (0, -1), (1, 3), (3, 1), (-9, 9)]:
        x = make.values((2, 3, 4, 5))
        attributes = {"start": start} if end is None else {"start": start, "end": end}
        yield f"shape_{start}_{end}", make.model("Shape", [x], **attributes), [x]
    yield "size", make.model("Size", [x]), [x]


def concat_split_cases(make):
    for axis in (-1, 0, 1, 2):
        xs = []
        for size in (3, 1, 5):
            shape = [2, 4, 3]
            shape[axis] = size
            xs.append(make.values(shape))
        yield f"concat_{axis}", make.model("Concat", xs, axis=axis), xs
    xs = [make.values((2, 0), np.int64), make.values((2, 3), np.int64)]
    yield "concat_empty", make.model("Concat", xs, axis=1), xs
    x = make.values((4, 6, 5))
    yield "split_equal_13", make.model("Split", [x], outputs=3, opset=13, axis=1), [x]
    yield "split_equal_11", make.model("Split", [x], outputs=2, opset=11, axis=0), [x]
    yield "split_sizes_11", make.model("Split", [x], outputs=3, opset=11, axis=-2, split=[1, 2, 3]), [x]
    yield "split_sizes", make.model("Split", [x], [ints(4, 0, 1)], outputs=3, axis=-1), [x]
    x = make.values((2, 7))
    yield "split_num_outputs", make.model("Split", [x], outputs=3, opset=18, axis=1, num_outputs=3), [x]


def slice_cases(make):
    x = make.values((6, 7, 8))
    big = 2**63 - 1
    for i, (starts, ends, axes, steps) in enumerate(
        [
            ((1,), (4,), None, None), ((0, 1), (3, 100), None, None), ((-3,), (-1,), (1,), None),
            ((5,), (0,), (2,), (-2,)), ((-1,), (-big,), (0,), (-1,)), ((100,), (-100,), (1,), (-3,)),
            ((0,), (big,), (-1,), (3,)), ((1, 6, -2), (5, 0, -7), (0, 1, 2), (2, -1, -2)), ((4,), (2,), (0,), None),
            ((2,), (3,), (2,), (100,)), ((-100,), (3,), (0,), (1,)), ((0,), (5,), (0,), (-1,)),
            ((3,), (-8,), (2,), (-1,)), ((-1,), (-big - 1,), (0,), (-big - 1,)),
        ]
    ):
        constants = [ints(*starts), ints(*ends)]
        if axes is not None or steps is not None:
            constants.append(None if axes is None else ints(*axes))
        if steps is not None:
            constants.append(ints(*steps))
        yield f"slice_{i}", make.model("Slice", [x], constants), [x]
    yield "slice_attributes", make.model("Slice", [x], opset=9, starts=[1, -4], ends=[9, -1], axes=[0, 2]), [x]
    i32 = [np.array([v], np.int32) for v in (6, -9, 1, -2)]
    yield "slice_int32", make.model("Slice", [x], i32), [x]


def gather_cases(make):
    x = make.values((4, 5, 6))
    for axis in range(-3, 3):
        for shape in [(), (3,), (2, 2), (0,)]:
            size = x.shape[axis]
            indices = make.rng.integers(-size, size, shape, dtype=np.int64)
            yield f"gather_{axis}_{len(shape)}_{indices.size}", make.model("Gather", [x, indices], axis=axis), [x, indices]
    indices = np.array([[0, 2], [3, 1]], np.int32)
    yield "gather_constant_int32", make.model("Gather", [x], [indices], axis=0), [x]
    table, words = make.values((100, 64)), make.rng.integers(0, 100, (3, 50), dtype=np.int64)
    yield "gather_embedding", make.model("Gather", [table, words]), [table, words]
    for axis in (-1, 0, 1):
        size = x.shape[axis]
        indices = make.rng.integers(-size, size, (3, 4, 5), dtype=np.int64)
        yield f"gather_elements_{axis}", make.model("GatherElements", [x, indices], axis=axis), [x, indices]
    for batch, shape, depth in [(0, (3,), 1), (0, (2, 3), 2), (0, (2,), 3), (1, (4, 2), 1), (1, (4,), 2), (2, (4, 5), 1)]:
        bounds = x.shape[batch:batch + depth]
        columns = [make.rng.integers(-b, b, shape, dtype=np.int64) for b in bounds]
        indices = np.stack(columns, axis=-1)
        name = f"gather_nd_{batch}_{len(shape)}_{depth}"
        yield name, make.model("GatherND", [x, indices], batch_dims=batch), [x, indices]


def broadcast_cases(make):
    x = make.values((3, 1, 4))
    for shape in [(3, 5, 4), (2, 1, 6, 1), (1,), (3, 1, 1), (5, 3, 2, 4)]:
        yield "expand_" + "x".join(map(str, shape)), make.model("Expand", [x], [ints(*shape)]), [x]
    for repeats in [(2, 3, 1), (1, 1, 4), (0, 1, 1), (1, 1, 1), (3, 2, 2)]:
        yield f"tile_{''.join(map(str, repeats))}", make.model("Tile", [x], [ints(*repeats)]), [x]
    for dtype in (np.float32, np.int64, np.uint8, np.float16):
        c, a, b = make.values((2, 1, 4), np.bool_), make.values((3, 1), dtype), make.values((2, 3, 4), dtype)
        yield f"where_{np.dtype(dtype).name}", make.model("Where", [c, a, b]), [c, a, b]
    c, a, b = make.values((), np.bool_), make.values((2, 3)), make.values((2, 3))
    yield "where_scalar", make.model("Where", [c, a, b]), [c, a, b]
    for dtype in (np.float32, np.int64, np.bool_, np.uint8):
        value = numpy_helper.from_array(np.array([1], dtype))
        shape = ints(2, 3)
        yield f"constant_of_shape_{np.dtype(dtype).name}", make.model("ConstantOfShape", [], [shape], value=value), []
    for dtype, (start, limit, delta) in itertools.product(
        (np.float32, np.int64, np.int32, np.float64), [(0, 5, 1), (10, 1, -3), (3, 3, 1), (5, 0, 1), (-3, 9, 4)]
    ):
        scalars = [np.array(v, dtype) for v in (start, limit, delta)]
        yield f"range_{np.dtype(dtype).name}_{start}_{limit}", make.model("Range", [], scalars), []


def cast_cases(make):
    names = ["float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
             "uint64", "bool"]
    # Values that every type holds: what happens beyond is not defined by ONNX.
    base = np.array([[0, 1, 2, 3.75], [100, 1.5, 27.25, 0.5]])
    for source, target in itertools.product(names, names):
        x = base.astype(source)
        to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
        yield f"cast_{source}_{target}", make.model("Cast", [x], to=to), [x]
    x = floats(-1.5, -0.5, -127.9, 2.9)
    for target in ("int8", "int32", "int64", "float16", "float64", "bool"):
        to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
        yield f"cast_negative_{target}", make.model("Cast", [x], to=to), [x]


def pad_cases(make):
    x = make.values((2, 3, 4))
    for mode in ("constant", "reflect", "edge", "wrap"):
        opset = 19 if mode == "wrap" else 13
        for pads in [(0, 1, 2, 0, 2, 1), (1, 0, 3, 1, 0, 0), (0, 0, 0, 0, 0, 0)]:
            if mode == "reflect" and pads[0] >= 2:
                continue
            name = f"pad_{mode}_{''.join(map(str, pads))}"
            yield name, make.model("Pad", [x], [ints(*pads)], opset=opset, mode=mode), [x]
        yield f"pad_{mode}_axes", make.model(
            "Pad", [x], [ints(1, 2, 2, 0), None, ints(-1, 1)], opset=max(opset, 18), mode=mode
        ), [x]
    yield "pad_value", make.model("Pad", [x], [ints(1, 0, 0, 0, 1, 2), np.float32(1.5)], opset=13), [x]
    yield "pad_attributes", make.model("Pad", [x], opset=10, pads=[0, 1, 0, 2, 0, 1], mode="constant", value=-2.0), [x]
    yield "pad_crop", make.model("Pad", [x], [ints(0, -1, 2, -1, 0, -1)], opset=13), [x]
    yield "pad_crop_edge", make.model("Pad", [x], [ints(0, -1, 2, -1, 0, -1)], opset=13, mode="edge"), [x]
    i = make.values((3, 3), np.int64)
    yield "pad_int64", make.model("Pad", [i], [ints(1, 1, 1, 1), np.int64(7)], opset=13), [i]


def block_cases(make):
    for mode in ("DCR", "CRD"):
        x = make.values((2, 18, 3, 4))
        yield f"depth_to_space_{mode}", make.model("DepthToSpace", [x], blocksize=3, mode=mode), [x]
    x = make.values((2, 3, 6, 4))
    yield "space_to_depth", make.model("SpaceToDepth", [x], blocksize=2), [x]


RESIZE_COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


def resize_cases(make):
    x = make.values((1, 2, 6, 7))
    targets = {
        "up2": (None, floats(1, 1, 2, 2), None), "up_odd": (None, floats(1, 1, 1.7, 2.3), None),
        "down": (None, floats(1, 1, 0.6, 0.5), None), "sizes_up": (None, None, ints(1, 2, 13, 17)),
        "sizes_down": (None, None, ints(1, 2, 4, 3)), "sizes_mixed": (None, None, ints(1, 2, 3, 16)),
        "one": (None, None, ints(1, 2, 1, 1)),
    }
    for coordinates in RESIZE_COORDINATES:
        opset = 19 if coordinates == "half_pixel_symmetric" else 13
        for name, constants in targets.items():
            constants = [c for c in constants]
            while constants and constants[-1] is None:
                constants.pop()
            for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
                yield f"resize_nearest_{coordinates}_{nearest}_{name}", make.model(
                    "Resize", [x], constants, opset=opset, mode="nearest", nearest_mode=nearest,
                    coordinate_transformation_mode=coordinates
                ), [x]
            yield f"resize_linear_{coordinates}_{name}", make.model(
                "Resize", [x], constants, opset=opset, mode="linear", coordinate_transformation_mode=coordinates
            ), [x]
            for a, outside in [(-0.75, 0), (-0.5, 1)]:
                yield f"resize_cubic_{coordinates}_{name}_{outside}", make.model(
                    "Resize", [x], constants, opset=opset, mode="cubic", coordinate_transformation_mode=coordinates,
                    cubic_coeff_a=a, exclude_outside=outside
                ), [x]
    for mode, (h, w) in itertools.product(("linear", "cubic"), [(3, 4), (12, 3), (4, 15)]):
        yield f"resize_antialias_{mode}_{h}_{w}", make.model(
            "Resize", [x], [None, None, ints(1, 2, h, w)], opset=18, mode=mode, antialias=1
        ), [x]
    roi = floats(0, 0, 0.1, -0.2, 1, 1, 0.9, 1.3)
    for mode in ("nearest", "linear", "cubic"):
        yield f"resize_crop_{mode}", make.model(
            "Resize", [x], [roi, None, ints(1, 2, 5, 9)], opset=13, mode=mode,
            coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=-3.0
        ), [x]
    for policy in ("stretch", "not_larger", "not_smaller"):
        for mode in ("nearest", "linear"):
            yield f"resize_{policy}_{mode}", make.model(
                "Resize", [x], [None, None, ints(9, 8)], opset=18, mode=mode, axes=[2, 3],
                keep_aspect_ratio_policy=policy
            ), [x]
    yield "resize_linear_axes_scales", make.model("Resize", [x], [None, floats(2, 0.5)], opset=18, mode="linear", axes=[3, 2]), [x]
    y = make.values((1, 2, 3, 4, 5))
    yield "resize_linear_3d", make.model("Resize", [y], [None, floats(1, 1, 2, 1.5, 2)], opset=13, mode="linear"), [y]
    yield "resize_nearest_5d", make.model("Resize", [y], [None, floats(1, 1, 2, 3, 0.5)], opset=13), [y]
    for dtype in (np.uint8, np.int32, np.float16):
        z = make.values((1, 1, 4, 5), dtype)
        yield f"resize_nearest_{np.dtype(dtype).name}", make.model("Resize", [z], [None, floats(1, 1, 2, 3)], opset=13), [z]
    large = make.values((1, 8, 48, 40))
    yield "resize_linear_large", make.model("Resize", [large], [None, floats(1, 1, 2, 2)], opset=13, mode="linear"), [large]
    yield "resize_cubic_large", make.model("Resize", [large], [None, floats(1, 1, 2.5, 2.5)], opset=13, mode="cubic"), [large]


GROUPS = (layout_cases, concat_split_cases, slice_cases, gather_cases, broadcast_cases, cast_cases, pad_cases,
          block_cases, resize_cases)


def cases(seed):
    make = CaseMaker(seed)
    for group in GROUPS:
        for name, model, inputs in group(make):
            yield Case(name, model, inputs)
