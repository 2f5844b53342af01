#!/usr/bin/env python3
"""Quantizes models with other tools, for the tests and tables that run what those tools make.

    tools/make_peer_models.py                        the nano encoder and ViT-S, every kind, into .models/peers
    tools/make_peer_models.py --models nano --kinds u8s8,s8s8 --out DIR
    tools/make_peer_models.py --models l0 --kinds nncfir  what bench/peers.py --precision int8 compares with

Files are named MODEL-KIND.onnx (.xml). Kinds:
    u8u8 u8s8 s8s8           ONNX Runtime's quantize_static, QDQ: type of activations, then of weights; min-max;
                             weights per output channel
    u8u8t u8s8t s8s8t        the same with one scale per weight tensor
    u8u8c u8s8c s8s8c        quantize_static told to quantize contractions with constant weights only
    nncf                     nncf.quantize of the ONNX model (needs the packages of tools/make_venv.sh --peers)
    nncfir                   nncf.quantize of the model as OpenVINO reads it, saved as OpenVINO's own files (.xml, .bin):
                             OpenVINO runs these faster

Calibrated on crops of the pictures in samples/, all but astronaut.png, which is left for judging. With --describe a
file ops.txt beside the models lists what stands around the Q/DQ nodes of each.
"""
import argparse
import collections
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELD_OUT = "astronaut.png"
KINDS = ("u8u8", "u8s8", "s8s8", "u8u8t", "u8s8t", "s8s8t", "u8u8c", "u8s8c", "s8s8c", "nncf", "nncfir")


def sam_input(picture, side: int) -> np.ndarray:
    """Longer side to `side`, ImageNet's mean and deviation, zeros at the right and at the bottom."""
    from PIL import Image

    mean, std = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
    scale = side / max(picture.size)
    pixels = np.asarray(picture.resize([int(length * scale + 0.5) for length in picture.size], Image.Resampling.BILINEAR),
                        np.float32)
    out = np.zeros((side, side, 3), np.float32)
    out[: pixels.shape[0], : pixels.shape[1]] = (pixels - mean) / std
    return np.ascontiguousarray(out.transpose(2, 0, 1)[None])


def imagenet_input(picture, side: int) -> np.ndarray:
    """Shorter side to side * 256 / 224, the middle cut out, ImageNet's mean and deviation."""
    from PIL import Image

    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    scale = round(side * 256 / 224) / min(picture.size)
    resized = picture.resize([int(length * scale + 0.5) for length in picture.size], Image.Resampling.BILINEAR)
    left, top = ((length - side) // 2 for length in resized.size)
    pixels = np.asarray(resized.crop((left, top, left + side, top + side)), np.float32) / 255
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None])


# name: (file; picture -> input)
MODELS = {
    "nano": ("models/efficientvit-sam-nano-encoder.onnx", lambda picture: sam_input(picture, 256)),
    "vit_s": (".models/vit_s_focus.onnx", lambda picture: imagenet_input(picture, 224)),
    "l0": (".models/l0.onnx", lambda picture: sam_input(picture, 512)),
    "xl0": (".models/xl0.onnx", lambda picture: sam_input(picture, 1024)),
}
DEFAULT_MODELS = "nano,vit_s"


def crops(folder: pathlib.Path, per_picture: int) -> list:
    """The whole of each picture and crops of 0.5 to 0.9 of its sides, the same on every call."""
    from PIL import Image

    random = np.random.default_rng(0)
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".png", ".jpg") or path.name == HELD_OUT:
            continue
        picture = Image.open(path).convert("RGB")
        found.append(picture)
        for _ in range(per_picture - 1):
            width, height = (int(length * random.uniform(0.5, 0.9)) for length in picture.size)
            left, top = random.integers(0, picture.width - width + 1), random.integers(0, picture.height - height + 1)
            found.append(picture.crop((int(left), int(top), int(left) + width, int(top) + height)))
    return found


def model_file(name: str):
    path = ROOT / MODELS[name][0]
    return path if path.exists() else None


def quantize_with_onnxruntime(source: pathlib.Path, target: pathlib.Path, kind: str, samples: list) -> None:
    from onnxruntime import quantization as q

    class Samples(q.CalibrationDataReader):
        def __init__(self):
            self.left = iter(samples)

        def get_next(self):
            return next(self.left, None)

    # By default elementwise ops and products of two activations are quantized too.
    model = onnx.load(source, load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    products = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] not in constants]
    contractions = kind.endswith("c")
    types = {"u8": q.QuantType.QUInt8, "s8": q.QuantType.QInt8}
    q.quantize_static(str(source), str(target), Samples(), quant_format=q.QuantFormat.QDQ,
                      per_channel=not kind.endswith("t"), activation_type=types[kind[:2]], weight_type=types[kind[2:4]],
                      calibrate_method=q.CalibrationMethod.MinMax,
                      op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul"] if contractions else None,
                      nodes_to_exclude=products if contractions else None)


def quantize_with_nncf(source: pathlib.Path, target: pathlib.Path, samples: list) -> None:
    import nncf

    quantized = nncf.quantize(onnx.load(source), nncf.Dataset(samples), subset_size=len(samples),
                              model_type=nncf.ModelType.TRANSFORMER)
    onnx.save(quantized, target)


def quantize_with_openvino(source: pathlib.Path, target: pathlib.Path, samples: list) -> None:
    import nncf
    import openvino as ov

    model = ov.Core().read_model(source)
    model.reshape({name: list(value.shape) for name, value in samples[0].items()})
    # Without model_type its preset "performance": symmetric activations, faster.
    ov.save_model(nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples)), target, compress_to_fp16=False)


def make(name: str, kind: str, target: pathlib.Path, pictures_each: int = 4) -> None:
    source, to_input = model_file(name), MODELS[name][1]
    input_name = onnx.load(source, load_external_data=False).graph.input[0].name
    samples = [{input_name: to_input(picture)} for picture in crops(ROOT / "samples", pictures_each)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = pathlib.Path(folder) / target.name
        if kind == "nncf":
            quantize_with_nncf(source, part, samples)
        elif kind == "nncfir":
            quantize_with_openvino(source, part, samples)
            part.with_suffix(".bin").rename(target.with_suffix(".bin"))
        else:
            quantize_with_onnxruntime(source, part, kind, samples)
        part.rename(target)


def describe(path: pathlib.Path) -> str:
    """What the Q/DQ nodes of a model stand between: enough to know which patterns an engine meets."""
    model = onnx.load(path)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    made_by = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            initializers[node.output[0]] = node.attribute[0].t
    readers = collections.defaultdict(list)
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            readers[name].append((node.op_type, index))

    def zero_point(node):
        if len(node.input) < 3 or not node.input[2]:
            return "no zero point"
        tensor = initializers.get(node.input[2])
        if tensor is None:
            return "zero point not constant"
        values = numpy_helper.to_array(tensor)
        return f"{values.dtype} zp {'0' if not values.any() else '!=0'}{' [C]' if values.size > 1 else ''}"

    def axis(node):
        rank = len(initializers[node.input[1]].dims) if node.input[1] in initializers else -1
        return f" axis {next((a.i for a in node.attribute if a.name == 'axis'), 1)}" if rank == 1 else ""

    counts = collections.Counter()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        short = "Q" if node.op_type == "QuantizeLinear" else "DQ"
        constant = node.input[0] in initializers
        producer = "constant" if constant else made_by[node.input[0]].op_type if node.input[0] in made_by else "graph input"
        if constant:
            dims = initializers[node.input[0]].dims
            producer += f" rank {len(dims)}"
        where = sorted({f"{op}.{index}" for op, index in readers[node.output[0]]}) or ["graph output"]
        counts[f"{producer} -> {short} ({zero_point(node)}{axis(node)}) -> {', '.join(where)}"] += 1
    ops = collections.Counter(node.op_type for node in model.graph.node)
    opset = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in model.opset_import)
    lines = [f"== {path.name}: opset {opset}, {path.stat().st_size} bytes",
             "   ops: " + ", ".join(f"{op} {count}" for op, count in ops.most_common())]
    return "\n".join(lines + [f"   {count:4} x {text}" for text, count in counts.most_common()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT_MODELS, help=f"of {','.join(MODELS)} (default: {DEFAULT_MODELS})")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".models/peers")
    parser.add_argument("--force", action="store_true", help="make files that are there again")
    parser.add_argument("--describe", action="store_true", help="write ops.txt")
    args = parser.parse_args()
    for name in args.models.split(","):
        if model_file(name) is None:
            print(f"{name}: left out, {MODELS[name][0]} is not there (tools/get_models.sh)", file=sys.stderr)
            continue
        for kind in args.kinds.split(","):
            target = args.out / f"{name}-{kind}{'.xml' if kind == 'nncfir' else '.onnx'}"
            if target.exists() and not args.force:
                continue
            print(target, file=sys.stderr)
            try:
                make(name, kind, target)
            except ImportError as error:
                print(f"{target.name}: left out, {error} (tools/make_venv.sh --peers)", file=sys.stderr)
    if args.describe:
        files = sorted(args.out.glob("*.onnx"))
        (args.out / "ops.txt").write_text("\n\n".join(describe(path) for path in files) + "\n")


if __name__ == "__main__":
    main()
