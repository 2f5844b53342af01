"""Random graphs of 3 to 8 ops with random shapes and attributes, from convolutions to Slice: case `random graph SEED/INDEX`.

Values are computed on the way, node by node, with a bound of how far two right answers may lie apart:
the errors that come in times how much the op can stretch them, plus the op's own roundings, each at most half an ulp (2^-24).
"""
import numpy as np
import onnxruntime
from onnx import helper

from onnx_case import Case, model_of

ULP = 2.0**-24
OPSET = 20
# What an op's slope is at most, for ops of one operand. Approximations of exp and erf are good to about 16 ulp.
UNARY = {"Relu": 1, "Sigmoid": 1, "Tanh": 1, "Abs": 1, "Neg": 1, "LeakyRelu": 1, "Elu": 1, "Softsign": 1, "Softplus": 1,
         "HardSwish": 1.5, "HardSigmoid": 1, "Gelu": 1.2, "Erf": 1.2, "Mish": 1.2, "Selu": 1.8, "Celu": 1, "Atan": 1, "Sin": 1,
         "Identity": 1, "ThresholdedRelu": None, "Shrink": None}


def largest(array):
    return float(np.abs(array).max()) if array.size else 0.0


class Builder:
    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.inputs, self.constants = [], {}, {}
        self.values, self.errors = {}, {}
        self.read = set()

    def name(self):
        return f"v{len(self.values)}"

    def input(self, shape):
        name = self.name()
        self.inputs[name] = self.values[name] = self.rng.standard_normal(shape).astype(np.float32)
        self.errors[name] = 0.0
        return name

    def constant(self, array):
        name = self.name()
        self.constants[name] = self.values[name] = np.asarray(array)
        self.errors[name] = 0.0
        return name

    def node(self, op, operands, error, outputs=1, **attributes):
        """`error`(values, errors, first output) bounds the error of every output."""
        names = [self.name() + (f"_{i}" if i else "") for i in range(outputs)]
        node = helper.make_node(op, operands, names, name=f"n{len(self.nodes)}", **attributes)
        given = {n: self.values[n] for n in operands if n}
        model = model_of([node], given, names, opset=OPSET)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        results = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"]).run(None, given)
        if not all(np.isfinite(r).all() for r in results) or results[0].size > 1 << 16 or results[0].size == 0:
            return None
        bound = error([self.values[n] for n in operands if n], [self.errors[n] for n in operands if n], results[0])
        self.nodes.append(node)
        self.read.update(n for n in operands if n)
        for n, result in zip(names, results):
            self.values[n], self.errors[n] = result, bound
        return names[0]


def moved(values, errors, y):
    return max(errors)


def stretched(slope):
    # 16 ulp of the op's own approximation.
    return lambda values, errors, y: slope * errors[0] + 16 * ULP * largest(y)


def linear(rows, depth):
    """A sum of `depth` products, the absolute values of whose weights add up to `rows` at most."""
    return lambda values, errors, y: rows * errors[0] + (depth + 2) * ULP * (rows * largest(values[0]) + largest(y))


def pick(rng, items):
    return items[int(rng.integers(len(items)))]


def add_unary(b, x):
    op = pick(b.rng, [op for op, slope in UNARY.items() if slope is not None])
    return b.node(op, [x], stretched(UNARY[op]))


def add_binary(b, x):
    op = pick(b.rng, ["Add", "Sub", "Mul", "Max", "Min"])
    shape = [int(d) if b.rng.random() < 0.6 else 1 for d in b.values[x].shape][int(b.rng.integers(b.values[x].ndim)):]
    others = [n for n in b.values if b.values[n].shape == b.values[x].shape and b.values[n].dtype == np.float32]
    other = pick(b.rng, others) if b.rng.random() < 0.5 else b.constant(b.rng.standard_normal(shape).astype(np.float32))

    def error(values, errors, y):
        if op == "Mul":
            return largest(values[1]) * errors[0] + largest(values[0]) * errors[1] + ULP * largest(y)
        return sum(errors) + ULP * largest(y)
    operands = [x, other] if b.rng.random() < 0.5 else [other, x]
    return b.node(op, operands, error)


def add_conv(b, x):
    shape = b.values[x].shape
    if len(shape) not in (3, 4) or min(shape[2:]) < 3:
        return None
    spatial = len(shape) - 2
    group = pick(b.rng, [g for g in (1, 2, 3, shape[1]) if shape[1] % g == 0])
    kernel = [int(k) for k in b.rng.integers(1, 4, spatial)]
    attributes = {"group": group, "strides": [int(s) for s in b.rng.integers(1, 3, spatial)],
                  "pads": [int(p) for p in b.rng.integers(0, 2, 2 * spatial)]}
    if b.rng.random() < 0.3:
        w = (b.rng.standard_normal((shape[1], int(b.rng.integers(1, 4)), *kernel)) / 3).astype(np.float32)
        op, rows, depth = "ConvTranspose", float(np.abs(w).sum()), int(w.size // w.shape[1])
        attributes["pads"] = [0] * 2 * spatial
        bias = b.rng.standard_normal(w.shape[1] * group)
    else:
        w = (b.rng.standard_normal((group * int(b.rng.integers(1, 4)), shape[1] // group, *kernel)) / 3).astype(np.float32)
        op, depth = "Conv", int(np.prod(w.shape[1:]))
        rows = float(np.abs(w).reshape(len(w), -1).sum(1).max())
        bias = b.rng.standard_normal(len(w))
        if b.rng.random() < 0.3:
            attributes["dilations"] = [2] * spatial
            attributes["pads"] = [2] * 2 * spatial
        if b.rng.random() < 0.2:
            attributes.pop("pads")
            attributes["auto_pad"] = pick(b.rng, ["SAME_UPPER", "SAME_LOWER", "VALID"])
            attributes.pop("dilations", None)
    operands = [x, b.constant(w)] + ([b.constant(bias.astype(np.float32))] if b.rng.random() < 0.5 else [])
    return b.node(op, operands, linear(rows, depth), **attributes)


def add_matmul(b, x):
    if b.values[x].ndim < 2:
        return None
    depth = b.values[x].shape[-1]
    w = (b.rng.standard_normal((depth, int(b.rng.integers(1, 9)))) / np.sqrt(depth)).astype(np.float32)
    return b.node("MatMul", [x, b.constant(w)], linear(float(np.abs(w).sum(0).max()), depth))


def add_reduce(b, x):
    op = pick(b.rng, ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"])
    rank = b.values[x].ndim
    axes = sorted(int(a) for a in b.rng.choice(rank, int(b.rng.integers(1, rank + 1)), replace=False))
    count = int(np.prod([b.values[x].shape[a] for a in axes]))
    rows = count if op == "ReduceSum" else 1
    return b.node(op, [x, b.constant(np.int64(axes))], linear(rows, count), keepdims=int(b.rng.integers(2)))


def add_softmax(b, x):
    axis = int(b.rng.integers(-b.values[x].ndim, b.values[x].ndim))
    count = b.values[x].shape[axis]
    # The derivatives of a probability sum up to 2 p (1 - p) <= 1/2; of its logarithm, to 2.
    op, slope = pick(b.rng, [("Softmax", 0.5), ("LogSoftmax", 2)])
    return b.node(op, [x], lambda v, e, y: slope * e[0] + (32 + count) * ULP * max(1, largest(y)), axis=axis)


def add_normalization(b, x):
    value = b.values[x]
    if value.ndim < 3:
        return None
    op = pick(b.rng, ["LayerNormalization", "InstanceNormalization", "LpNormalization"])
    axes = {"LayerNormalization": (-1,), "InstanceNormalization": tuple(range(2, value.ndim)), "LpNormalization": (1,)}[op]
    count = int(np.prod([value.shape[a] for a in axes]))
    spread = float(np.sqrt(value.var(axis=axes) + 1e-2).min())
    if op == "LpNormalization":
        spread = float(np.sqrt((value**2).sum(axis=1)).min())
        if spread < 0.1:
            return None
    size = value.shape[-1] if op == "LayerNormalization" else value.shape[1]
    parameters = [b.constant(b.rng.standard_normal(size).astype(np.float32)) for _ in range(2)]
    gain = largest(b.values[parameters[0]]) if op != "LpNormalization" else 1

    def error(values, errors, y):
        # Taking the mean out doubles an error at most, and dividing by a deviation that is off adds |y| times as much again.
        scale = gain / spread * (2 + largest(y))
        return scale * errors[0] + (count + 16) * ULP * (scale * largest(values[0]) + largest(y))
    if op == "LpNormalization":
        return b.node(op, [x], error, axis=1, p=2)
    return b.node(op, [x, *parameters], error, epsilon=1e-2)


def add_pool(b, x):
    shape = b.values[x].shape
    if len(shape) not in (3, 4) or min(shape[2:]) < 3:
        return None
    spatial = len(shape) - 2
    kernel = [int(k) for k in b.rng.integers(2, 4, spatial)]
    op = pick(b.rng, ["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"])
    if op.startswith("Global"):
        return b.node(op, [x], linear(1, int(np.prod(shape[2:]))))
    attributes = {"kernel_shape": kernel, "strides": [int(s) for s in b.rng.integers(1, 3, spatial)],
                  "pads": [int(p) for p in b.rng.integers(0, 2, 2 * spatial)]}
    if op == "LpPool":
        attributes["p"] = 2
    elif b.rng.random() < 0.3:
        attributes["ceil_mode"] = 1
    if op == "AveragePool":
        attributes["count_include_pad"] = int(b.rng.integers(2))
    # A norm's slope is 1 in the norm; of n equal errors that is sqrt(n) of one. Its root is good to an ulp near 0 only as sqrt(ulp).
    rows = float(np.sqrt(np.prod(kernel))) if op == "LpPool" else 1
    return b.node(op, [x], linear(rows, int(np.prod(kernel))), **attributes)


def add_movement(b, x):
    shape = b.values[x].shape
    rank = len(shape)
    rng = b.rng
    kind = pick(rng, ["Transpose", "Reshape", "Slice", "Concat", "Pad", "Gather", "Split", "Tile", "Flatten", "Trilu", "TopK",
                      "Unsqueeze", "CumSum", "DepthToSpace", "ScatterND", "Where"])
    if kind == "Transpose":
        return b.node(kind, [x], moved, perm=[int(p) for p in rng.permutation(rank)])
    if kind == "Reshape":
        axis = int(rng.integers(rank))
        merged = [*shape[:axis], -1] if rng.random() < 0.5 else [*shape[:axis], 1, *shape[axis:]]
        return b.node(kind, [x, b.constant(np.int64(merged))], moved) if len(merged) <= 5 else None
    if kind == "Slice":
        axis = int(rng.integers(rank))
        step = int(pick(rng, [-2, -1, 1, 2]))
        start, end = (0, shape[axis]) if step > 0 else (shape[axis] - 1, -shape[axis] - 1)
        start += int(rng.integers(2)) if step > 0 and shape[axis] > 2 else 0
        return b.node(kind, [x, *(b.constant(np.int64([v])) for v in (start, end, axis, step))], moved)
    if kind == "Concat":
        others = [n for n in b.values if b.values[n].dtype == np.float32 and b.values[n].shape == shape]
        return b.node(kind, [x, pick(rng, others)], moved, axis=int(rng.integers(rank)))
    if kind == "Pad":
        mode = pick(rng, ["constant", "edge", "reflect"])
        pads = [int(rng.integers(0, min(3, d))) for d in shape] + [int(rng.integers(0, min(3, d))) for d in shape]
        return b.node(kind, [x, b.constant(np.int64(pads))], moved, mode=mode)
    if kind == "Gather":
        axis = int(rng.integers(rank))
        indices = rng.integers(-shape[axis], shape[axis], int(rng.integers(1, 5)))
        return b.node(kind, [x, b.constant(indices.astype(np.int64))], moved, axis=axis)
    if kind == "Split":
        axis = int(rng.integers(rank))
        if shape[axis] < 2:
            return None
        first = int(rng.integers(1, shape[axis]))
        return b.node(kind, [x, b.constant(np.int64([first, shape[axis] - first]))], moved, outputs=2, axis=axis)
    if kind == "Tile":
        return b.node(kind, [x, b.constant(np.int64([int(r) for r in rng.integers(1, 3, rank)]))], moved)
    if kind == "Flatten":
        return b.node(kind, [x], moved, axis=int(rng.integers(0, rank + 1)))
    if kind == "Trilu":
        return b.node(kind, [x, b.constant(np.int64(int(rng.integers(-2, 3))))], moved, upper=int(rng.integers(2))) if rank > 1 else None
    if kind == "TopK":
        axis = int(rng.integers(rank))
        k = int(rng.integers(1, shape[axis] + 1))
        # Sorted values move no further than the values do; their places may change, so that nobody reads them.
        return b.node(kind, [x, b.constant(np.int64([k]))], moved, outputs=2, axis=axis, largest=int(rng.integers(2)))
    if kind == "Unsqueeze":
        return b.node(kind, [x, b.constant(np.int64([int(rng.integers(rank + 1))]))], moved) if rank < 5 else None
    if kind == "CumSum":
        axis = int(rng.integers(rank))
        return b.node(kind, [x, b.constant(np.int64(axis))], linear(shape[axis], shape[axis]), reverse=int(rng.integers(2)))
    if kind == "DepthToSpace":
        return b.node(kind, [x], moved, blocksize=2, mode=pick(rng, ["DCR", "CRD"])) if rank == 4 and shape[1] % 4 == 0 else None
    if kind == "ScatterND":
        indices = b.constant(rng.permutation(shape[0])[:max(1, shape[0] // 2)].reshape(-1, 1).astype(np.int64))
        updates = b.constant(rng.standard_normal((len(b.values[indices]), *shape[1:])).astype(np.float32))
        return b.node(kind, [x, indices, updates], moved)
    condition = b.constant(rng.random(shape) < 0.5)
    other = b.constant(rng.standard_normal(shape[-1:]).astype(np.float32))
    return b.node("Where", [condition, x, other], moved)


def add_resize(b, x):
    if b.values[x].ndim != 4:
        return None
    mode = pick(b.rng, ["nearest", "linear"])
    sizes = [*b.values[x].shape[:2], *(int(s) for s in b.rng.integers(2, 14, 2))]
    coordinates = pick(b.rng, ["asymmetric", "align_corners"] if mode == "linear" else ["asymmetric"])
    side = max(*b.values[x].shape, *sizes)
    # Float32 source positions are off by up to side * 2^-24 of a step, and neighbours differ by up to twice the largest.
    return b.node("Resize", [x, "", "", b.constant(np.int64(sizes))], linear(1, 4 + 4 * side), mode=mode,
                  coordinate_transformation_mode=coordinates, nearest_mode="floor")


ADDERS = [add_unary, add_unary, add_binary, add_binary, add_conv, add_conv, add_matmul, add_reduce, add_softmax, add_normalization,
          add_pool, add_movement, add_movement, add_movement, add_resize]


def random_graph(seed, index):
    rng = np.random.default_rng([seed, index])
    b = Builder(rng)
    shape = pick(rng, [(2, 4, 8, 9), (1, 6, 7, 7), (1, 4, 10, 10), (2, 3, 12), (3, 8, 5), (4, 6), (1, 12, 16)])
    last = b.input(shape)
    wanted = int(rng.integers(3, 9))
    for _ in range(10 * wanted):
        if len(b.nodes) >= wanted:
            break
        # Mostly a chain; now and then a branch from an older value.
        older = [n for n in b.values if n not in b.constants and b.values[n].dtype == np.float32 and b.values[n].ndim > 0]
        x = pick(rng, older) if rng.random() < 0.25 or b.values[last].ndim == 0 else last
        last = pick(rng, ADDERS)(b, x) or last
    made = [o for node in b.nodes for o in node.output]
    sinks = [n for n in made if n not in b.read and b.values[n].dtype == np.float32]
    constants = {n: a for n, a in b.constants.items() if n in b.read}
    model = model_of(b.nodes, b.inputs, sinks, constants, OPSET)
    # Each side may be off by the bound; passes that fold scales into weights round those once more, as often again.
    tolerances = [4 * b.errors[n] + 2 * ULP * largest(b.values[n]) for n in sinks]
    return Case(f"random graph {seed}/{index}", model, list(b.inputs.values()), tolerances=tolerances)


def cases(seed, count=60):
    for index in range(count):
        yield random_graph(seed, index)
