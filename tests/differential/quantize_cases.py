"""Cases of quantized graphs: QuantizeLinear and DequantizeLinear alone, single layers on integers, and chains of them.

ONNX Runtime, its optimizer switched off, computes what a Q/DQ graph says: in float, on dequantized values. Octavo sums
integers. Both give the same real value up to float rounding, so that a quantizer that follows may round the other way where
the value lies next to a tie, and then differs by one step.
"""
import itertools

import numpy as np
from onnx import helper

from onnx_case import Case, model_of, single_node

TYPES = (np.int8, np.uint8, np.int16, np.uint16)


def zero_point(rng, dtype, shape=()):
    """Anywhere in the middle half of the type's range."""
    info = np.iinfo(dtype)
    quarter = (int(info.max) - int(info.min)) // 4
    return rng.integers(int(info.min) + quarter, int(info.max) - quarter, shape).astype(dtype)


# QuantizeLinear and DequantizeLinear alone: equal to the bit

def quantize_cases(rng):
    for dtype, opset in itertools.product(TYPES, (10, 13, 19, 21)):
        if opset < 21 and np.dtype(dtype).itemsize > 1:
            continue
        scale = np.float32(rng.uniform(0.001, 0.1))
        x = (rng.standard_normal((3, 5, 700)) * 150 * scale).astype(np.float32)
        x.flat[:6] = [0, -0.0, np.inf, -np.inf, 1e38, -1e38]
        # Ties of an exact scale.
        halves = (np.arange(-300, 300, dtype=np.float32) + np.float32(0.5)) / np.float32(64)
        name = f"{np.dtype(dtype).name} opset {opset}"
        zero = zero_point(rng, dtype)
        yield single_node(name, "QuantizeLinear", [x, scale, zero], opset=opset)
        yield single_node(name + " constant", "QuantizeLinear", [x, scale, zero], opset=opset, constant=(1, 2))
        yield single_node(name + " ties", "QuantizeLinear", [halves, np.float32(1 / 64), zero], opset=opset, constant=(1, 2))
        near = ((np.arange(-150, 150) + 0.5) * scale).astype(np.float32)
        yield single_node(name + " near ties", "QuantizeLinear", [near, scale, zero], opset=opset, constant=(1, 2))
        info = np.iinfo(dtype)
        q = rng.integers(info.min, int(info.max) + 1, (2, 3, 1001)).astype(dtype)
        yield single_node(name, "DequantizeLinear", [q, scale, zero], opset=opset)
        yield single_node(name + " constant", "DequantizeLinear", [q, scale, zero], opset=opset, constant=(1, 2))
    x = rng.standard_normal((4, 6, 5)).astype(np.float32)
    yield single_node("no zero point", "QuantizeLinear", [x * 100, np.float32(0.5)], opset=13)
    yield single_node("no zero point", "DequantizeLinear", [rng.integers(-128, 128, (4, 5)).astype(np.int8), np.float32(0.5)], opset=13)
    yield single_node("int32", "DequantizeLinear", [rng.integers(-2**31, 2**31, 300).astype(np.int32), np.float32(1e-6)], opset=13)
    yield single_node("scalar", "QuantizeLinear", [np.float32(0.7), np.float32(0.01), np.int8(3)], opset=13)
    yield single_node("empty", "QuantizeLinear", [np.zeros((0, 3), np.float32), np.float32(0.01), np.int8(3)], opset=13)
    for dtype in ("int8", "uint8", "int16", "uint16"):
        number = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        yield single_node(f"output_dtype {dtype}", "QuantizeLinear", [x * 50, np.float32(0.3)], opset=21, output_dtype=number)
    for axis, dtype in itertools.product((0, 1, 2, -1, -3), (np.int8, np.uint8)):
        count = x.shape[axis]
        scales = rng.uniform(0.01, 0.03, count).astype(np.float32)
        operands = [scales, zero_point(rng, dtype, count)]
        name = f"axis {axis} {np.dtype(dtype).name}"
        yield single_node(name, "QuantizeLinear", [x, *operands], opset=13, axis=axis)
        q = rng.integers(0, 100, x.shape).astype(dtype)
        yield single_node(name, "DequantizeLinear", [q, *operands], opset=13, axis=axis, constant=(1, 2))


# Layers

class Quantized:
    """Builds a graph of quantized layers; values stay near 1."""

    def __init__(self, rng, *shape):
        self.rng = rng
        self.nodes, self.constants, self.inputs = [], {}, {}
        self.activations = np.uint8 if rng.random() < 0.5 else np.int8
        self.weights = np.int8 if rng.random() < 0.7 else np.uint8
        self.per_channel = bool(rng.random() < 0.6)
        self.name, self.shape = self.input(*shape), list(shape)
        self.scale = None  # of the quantizer behind `name`

    def input(self, *shape):
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.rng.standard_normal(shape).astype(np.float32)
        return name

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(self, op, operands, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def quantize(self, name, low=0.02, high=0.04):
        """Through integers and back; gives the names of both, and the scale."""
        self.scale = np.float32(self.rng.uniform(low, high))
        parameters = [self.constant(self.scale), self.constant(zero_point(self.rng, self.activations))]
        integers = self.add("QuantizeLinear", [name, *parameters])
        return integers, self.add("DequantizeLinear", [integers, *parameters])

    def dequantized_weights(self, shape, axis, fan_in):
        """8-bit weights of deviation about 1/sqrt(fan_in); gives their name and scales."""
        dtype = self.weights
        info = np.iinfo(dtype)
        q = self.rng.integers(info.min + (dtype == np.int8), int(info.max) + 1, shape).astype(dtype)
        count = shape[axis] if self.per_channel else None
        scales = (self.rng.uniform(0.5, 1.5, count) / (73 * np.sqrt(fan_in))).astype(np.float32)
        zeros = np.zeros(count or (), dtype) if dtype == np.int8 else np.full(count or (), 128, dtype) + self.rng.integers(-9, 9, count or ()).astype(dtype)
        attributes = {"axis": axis} if self.per_channel else {}
        return self.add("DequantizeLinear", [self.constant(q), self.constant(scales), self.constant(zeros.astype(dtype))], **attributes), scales

    def bias(self, channels, scales):
        kind = self.rng.integers(3)
        if kind == 0:
            return []
        if kind == 1:
            return [self.constant(self.rng.standard_normal(channels).astype(np.float32))]
        # As quantizers write it: INT32 on the product of the scales.
        scale = (np.full(channels, self.scale) * scales).astype(np.float32)
        integers = np.round(self.rng.standard_normal(channels) / scale).astype(np.int32)
        return [self.add("DequantizeLinear", [self.constant(integers), self.constant(scale)], axis=0)]

    def conv(self):
        rng, (n, c), spatial = self.rng, self.shape[:2], self.shape[2:]
        group = int(rng.choice([1, 1, c, 2 if c % 2 == 0 else 1]))
        out = c * int(rng.integers(1, 3)) if group == c else group * int(rng.integers(1, 6))
        kernel, dilation = int(rng.choice([1, 2, 3])), int(rng.integers(1, 3))
        if min(spatial) <= (kernel - 1) * dilation:
            kernel = 1
        before = [int(p) for p in rng.integers(0, 3, len(spatial))]
        after = [int(p) for p in rng.integers(0, 3, len(spatial))]
        real = self.quantize(self.name)[1]
        weights, scales = self.dequantized_weights([out, c // group, *[kernel] * len(spatial)], 0, c // group * kernel ** len(spatial))
        strides = [int(s) for s in rng.integers(1, 3, len(spatial))]
        self.name = self.add("Conv", [real, weights, *self.bias(out, scales)], group=group, pads=before + after, strides=strides,
                             dilations=[dilation] * len(spatial))
        extent = (kernel - 1) * dilation + 1
        self.shape = [n, out, *[(s + a + b - extent) // t + 1 for s, a, b, t in zip(spatial, before, after, strides)]]

    def transposed(self):
        rng, (n, c), spatial = self.rng, self.shape[:2], self.shape[2:]
        kernel, stride, out = int(rng.integers(2, 5)), 2, int(rng.integers(1, 7))
        pads = [int(p) * (min(spatial) > 1) for p in rng.integers(0, 2, 2 * len(spatial))]
        extra = int(rng.integers(0, 2))
        real = self.quantize(self.name)[1]
        weights, scales = self.dequantized_weights([c, out, *[kernel] * len(spatial)], 1, c * kernel)
        self.name = self.add("ConvTranspose", [real, weights, *self.bias(out, scales)], pads=pads, strides=[stride] * len(spatial),
                             output_padding=[extra] * len(spatial))
        half = len(spatial)
        self.shape = [n, out, *[(s - 1) * stride + kernel - pads[i] - pads[half + i] + extra for i, s in enumerate(spatial)]]

    def gemm(self):
        rows, k = self.shape
        n, transposed = int(self.rng.integers(1, 40)), int(self.rng.integers(2))
        real = self.quantize(self.name)[1]
        weights, scales = self.dequantized_weights([n, k] if transposed else [k, n], 0 if transposed else 1, k)
        self.name = self.add("Gemm", [real, weights, *self.bias(n, scales)], transB=transposed)
        self.shape = [rows, n]

    def matmul(self):
        k, n = self.shape[-1], int(self.rng.integers(1, 40))
        real = self.quantize(self.name)[1]
        weights, scales = self.dequantized_weights([k, n], 1, k)
        self.name = self.add("MatMul", [real, weights])
        bias = self.bias(n, scales)
        if bias:
            self.name = self.add("Add", [self.name, *bias])
        self.shape = [*self.shape[:-1], n]

    def product(self):
        k, n = self.shape[-1], int(self.rng.integers(1, 20))
        real = self.quantize(self.name)[1]
        other = self.quantize(self.input(*self.shape[:-2], k, n), 0.02 / np.sqrt(k), 0.04 / np.sqrt(k))[1]
        self.name = self.add("MatMul", [real, other])
        self.shape = [*self.shape[:-1], n]

    def follow(self):
        """What an integer kernel takes along."""
        choice = int(self.rng.integers(7))
        if choice < 4:
            self.name = self.add(["Relu", "Sigmoid", "HardSwish", "Tanh"][choice], [self.name])
        elif choice == 4:
            self.name = self.add("Clip", [self.name, self.constant(np.float32(0)), self.constant(np.float32(6))])
        elif choice == 5:
            scale, name = self.scale, self.name
            other = self.quantize(self.input(*self.shape))[1]
            self.name, self.scale = self.add("Add", [name, other] if self.rng.random() < 0.5 else [other, name]), scale

    def case(self, name, steps):
        """Ends in real values, integers, or both, which may differ by that many steps of at most 0.04."""
        ending = int(self.rng.integers(3))
        if ending == 0:
            outputs, slack = [self.name], [0.0 if steps == 1 else (steps - 1) * 0.04]
        else:
            integers, real = self.quantize(self.name)
            outputs = [integers] if ending == 1 else [integers, real]
            slack = [steps, steps * float(self.scale)][:ending]
        opset = int(self.rng.choice([14, 17, 19]))
        ops = " ".join(node.op_type for node in self.nodes if "quantize" not in node.op_type.lower())
        title = f"{name}: {ops} on {np.dtype(self.activations).name} by {np.dtype(self.weights).name}"
        return Case(title, model_of(self.nodes, self.inputs, outputs, self.constants, opset), list(self.inputs.values()), slack)


LAYERS = {"conv": lambda r: (int(r.integers(1, 3)), int(r.integers(1, 17)), int(r.integers(5, 12)), int(r.integers(5, 12))),
          "conv 1-D": lambda r: (2, int(r.integers(1, 9)), int(r.integers(5, 40))),
          "transposed": lambda r: (1, int(r.integers(1, 17)), int(r.integers(1, 8)), int(r.integers(2, 8))),
          "gemm": lambda r: (int(r.integers(1, 20)), int(r.integers(1, 100))),
          "matmul": lambda r: (*([], [2], [2, 3])[int(r.integers(3))], int(r.integers(1, 20)), int(r.integers(1, 100))),
          "product": lambda r: (*([], [2], [2, 3])[int(r.integers(3))], int(r.integers(1, 20)), int(r.integers(1, 70)))}


def layer_cases(seed):
    for number, (layer, shape) in enumerate(LAYERS.items()):
        for index in range(16):
            rng = np.random.default_rng([seed, 200 + number, index])
            graph = Quantized(rng, *shape(rng))
            getattr(graph, layer.split()[0])()
            graph.follow()
            yield graph.case(f"layer {layer} {index}", 1)


def chain_cases(seed):
    for index in range(40):
        rng = np.random.default_rng([seed, 300, index])
        pictures = bool(rng.random() < 0.6)
        graph = Quantized(rng, *LAYERS["conv" if pictures else "matmul"](rng))
        for _ in range(int(rng.integers(2, 5))):
            layer = str(rng.choice(["conv", "conv", "transposed"] if pictures and max(graph.shape) < 40 else ["matmul", "product"]))
            getattr(graph, layer)()
            graph.follow()
        # A value inside that lies next to a tie, one in some ten thousand, moves the sums behind it by its step, up to 0.04,
        # times a weight, up to 1.5 * 137 / 73 = 2.8: that is 5.6 of the smallest step that may follow, and one more for itself.
        yield graph.case(f"chain {index}", 7)


def cases(seed):
    yield from quantize_cases(np.random.default_rng([seed, 199]))
    yield from layer_cases(seed)
    yield from chain_cases(seed)
