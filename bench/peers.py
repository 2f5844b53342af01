#!/usr/bin/env python3
"""Octavo, OpenVINO and ONNX Runtime on the same model and input, timed in turns.

Every engine lives in a process of its own for the whole run. In each round each of them, one after the other and
in an order that rotates, runs a few iterations while the others wait: whatever else the machine does hits all
alike, and the ratio of the medians means something even where the milliseconds do not. Before anything is timed
the outputs are compared with ONNX Runtime's FP32 ones, as SQNR in dB.

    make bench                                     all models that are there, FP32, 2 threads
    bench/peers.py --models nano,l0 --rounds 9
    bench/peers.py --precision bf16 --json -       (ONNX Runtime has no BF16: it stays at FP32)
    bench/peers.py --precision fp32,bf16,int8 --write docs/performance.md

INT8: Octavo runs what `octavo quantize` made of the model (made here where .models/int8 has none: remedies, products of
attention too), OpenVINO what NNCF made (tools/make_peer_models.py --kinds nncfir --models nano,l0,vit_s), or FP32 in BF16 where there is
no such file; SQNR is that of either against ONNX Runtime's FP32 outputs.

Large models: tools/get_models.sh.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


def picture(size: int, keep_aspect: bool) -> np.ndarray:
    """A sample picture as (1, 3, size, size), with ImageNet's mean and deviation."""
    from PIL import Image

    image = Image.open(ROOT / "samples" / "coffee.png").convert("RGB")
    scale = size / max(image.size)
    shape = [int(side * scale + 0.5) for side in image.size] if keep_aspect else [size, size]
    pixels = np.asarray(image.resize(shape, Image.Resampling.BILINEAR), np.float32)
    out = np.zeros((size, size, 3), np.float32)
    out[: pixels.shape[0], : pixels.shape[1]] = (pixels - MEAN) / STD
    return np.ascontiguousarray(out.transpose(2, 0, 1)[None])


def diffusion_step() -> dict:
    """The first step of a sample: pure noise at the largest noise level."""
    noise = np.random.default_rng(0).standard_normal((1, 1, 128, 128)).astype(np.float32)
    return {"noisy": 80 * noise, "sigma": np.array([80], np.float32), "difficulty": np.array([0.5], np.float32)}


# name: (file, inputs, what it is)
MODELS = {
    "nano": ("models/efficientvit-sam-nano-encoder.onnx", lambda: {"input_image": picture(256, True)}, "nano encoder, 256²"),
    "l0": (".models/l0.onnx", lambda: {"input_image": picture(512, True)}, "EfficientViT-SAM L0 encoder, 512²"),
    "l2": (".models/l2.onnx", lambda: {"input_image": picture(512, True)}, "EfficientViT-SAM L2 encoder, 512²"),
    "xl0": (".models/xl0.onnx", lambda: {"input_image": picture(1024, True)}, "EfficientViT-SAM XL0 encoder, 1024²"),
    "vit_s": (".models/vit_s_focus.onnx", lambda: {"input_image": picture(224, False)}, "ViT-S/14 saliency, 224²"),
    "unet": (".models/terrain_unet.onnx", diffusion_step, "terrain diffusion UNet, 128²"),
}
DEFAULT_MODELS = "nano,l0,vit_s,unet"


def serve_iterations(run) -> None:
    """The worker's side: a count comes in on a line, the times of that many runs go out on one."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps({"ms": times}), flush=True)


def serve_peer(engine: str, model: str, folder: str, threads: int, precision: str) -> None:
    inputs = dict(np.load(f"{folder}/inputs.npz"))
    if engine == "onnxruntime":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Threads that spin after their run would steal time from the engine whose turn is next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        run = lambda: session.run(names, inputs)
    else:
        import openvino as ov

        core = ov.Core()
        graph = core.read_model(model)
        graph.reshape({name: list(value.shape) for name, value in inputs.items()})
        names = [output.get_any_name() for output in graph.outputs]
        hint = "bf16" if precision == "bf16" else "f32"
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                     "INFERENCE_PRECISION_HINT": hint})
        request = compiled.create_infer_request()
        tensors = {name: ov.Tensor(value) for name, value in inputs.items()}

        def run():
            request.infer(tensors, share_inputs=True)
            return [request.get_output_tensor(i).data for i in range(len(names))]

    np.savez(f"{folder}/{engine}.npz", **{str(i): value for i, value in enumerate(run())})
    for _ in range(3):
        run()
    serve_iterations(run)


class Worker:
    """One engine, waiting in its own process until it is its turn."""

    def __init__(self, command: list, threads: int):
        environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)
        self.times = []
        self.read()

    def read(self) -> dict:
        # The protocol is JSON, a line each; what libraries chat on stdout is read past.
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{' '.join(self.process.args)} ended with {self.process.wait()}")

    def iterate(self, count: int) -> None:
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        self.times += self.read()["ms"]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def sqnr_db(reference: list, outputs: list) -> float:
    """The worst output's signal to noise ratio."""
    ratios = []
    for a, b in zip(reference, outputs):
        a, b = a.astype(np.float64), b.astype(np.float64)
        noise = ((a - b) ** 2).sum()
        ratios.append(10 * np.log10((a**2).sum() / noise) if noise > 0 else np.inf)
    return float(min(ratios))


# How `octavo quantize` is asked for the models of --precision int8, beside --quantize-attention.
QUANTIZE = {
    "nano": ["--preprocess", "sam"],
    "l0": ["--preprocess", "sam"],
    "l2": ["--preprocess", "sam"],
    "xl0": ["--preprocess", "sam"],
    "vit_s": ["--preprocess", "imagenet"],
    # One step's worth of noise calibrates; the last block at full resolution stays in float (docs/remedies.md).
    "unet": [*(part for name in ("equalize", "smooth-norm", "migrate-depthwise") for part in ("--no-remedy", name)),
             *(part for node in (191, 192, 194, 195) for part in ("--keep-float", f"node_conv2d_{node}"))],
}


def quantized_model(name: str, args) -> pathlib.Path:
    """What `octavo quantize` makes of the model, from the pictures in samples/ or --data, once."""
    target = ROOT / f".models/int8/{name}.onnx"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as noise:
        data = args.data
        if name == "unet":
            for seed in range(16):
                sample = np.random.default_rng(1000 + seed).standard_normal((1, 1, 128, 128)).astype(np.float32)
                np.savez(f"{noise}/{seed}.npz", **diffusion_step() | {"noisy": 80 * sample})
            data = noise
        print(f"{target.relative_to(ROOT)} ...", file=sys.stderr)
        subprocess.run([args.octavo, "quantize", ROOT / MODELS[name][0], "--data", data, "--count", "16",
                        "--quantize-attention", *QUANTIZE[name], "-o", target], check=True, stdout=subprocess.DEVNULL)
    return target


def octavo_outputs(octavo: pathlib.Path, model: pathlib.Path, folder: pathlib.Path, inputs: dict, precision: str,
                   args) -> list:
    import onnx

    flags = [part for name in inputs for part in ("--input", f"{name}={folder / name}.npy")]
    out = folder / "octavo"
    subprocess.run([octavo, "run", model, *flags, "--threads", str(args.threads), "--precision", precision, "-o", out],
                   check=True, stdout=subprocess.DEVNULL)
    names = [output.name for output in onnx.load(model, load_external_data=False).graph.output]
    safe = ["".join(c if c.isalnum() or c in "._-" else "_" for c in name) for name in names]
    return [np.load(out / f"{name}.npy") for name in safe]


def judge(outputs: dict, folder: pathlib.Path) -> dict:
    loaded = {engine: list(np.load(folder / f"{engine}.npz").values()) for engine in ("onnxruntime", "openvino")}
    loaded["octavo"] = outputs
    return {engine: sqnr_db(loaded["onnxruntime"], values) for engine, values in loaded.items()}


def bench_model(name: str, precision: str, args) -> dict:
    file, make_inputs, title = MODELS[name]
    model, inputs = ROOT / file, make_inputs()
    ours, theirs, our_precision, their_precision = model, model, precision, precision
    if precision == "int8":
        ours, our_precision = quantized_model(name, args), "fp32"
        theirs = ROOT / f".models/peers/{name}-nncfir.xml"
        if not theirs.exists():
            theirs, their_precision = model, "bf16"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        np.savez(folder / "inputs.npz", **inputs)
        for key, value in inputs.items():
            np.save(folder / f"{key}.npy", value)
        peer = [sys.executable, __file__, "--serve"]
        tail = [folder, args.threads]
        flags = [part for key in inputs for part in ("--input", f"{key}={folder / key}.npy")]
        workers = {
            "octavo": Worker([args.octavo, "bench", ours, "--threads", args.threads, "--precision", our_precision, *flags,
                              "--on-stdin"], args.threads),
            "openvino": Worker([*peer, "openvino", theirs, *tail, their_precision], args.threads),
            "onnxruntime": Worker([*peer, "onnxruntime", model, *tail, "fp32"], args.threads),
        }
        if precision == "int8":  # what INT8 saves
            workers["octavo_fp32"] = Worker([args.octavo, "bench", model, "--threads", args.threads, *flags, "--on-stdin"],
                                            args.threads)
        quality = judge(octavo_outputs(args.octavo, ours, folder, inputs, our_precision, args), folder)
        order = list(workers)
        for round_index in range(args.rounds):
            first = round_index % len(order)
            for engine in order[first:] + order[:first]:
                workers[engine].iterate(args.iterations)
                time.sleep(0.02)  # OpenMP's threads spin for a few milliseconds after the last of their work
        for worker in workers.values():
            worker.close()
    result = {"model": name, "title": title, "precision": precision, "peer_precision": their_precision, "engines": {}}
    for engine, worker in workers.items():
        result["engines"][engine] = {
            "median_ms": round(float(np.median(worker.times)), 2),
            "p10_ms": round(float(np.percentile(worker.times, 10)), 2),
            "p90_ms": round(float(np.percentile(worker.times, 90)), 2),
            "sqnr_db": None if engine in ("onnxruntime", "octavo_fp32") else round(quality[engine], 1),
        }
    octavo_ms = result["engines"]["octavo"]["median_ms"]
    for peer_name in workers.keys() - {"octavo"}:
        result[f"ratio_to_{peer_name}"] = round(octavo_ms / result["engines"][peer_name]["median_ms"], 3)
    return result


def table(results: list, precision: str) -> str:
    int8 = precision == "int8"
    lines = [
        f"| model | Octavo {precision.upper()} | OpenVINO {precision.upper()} | ONNX Runtime FP32 | Octavo / OpenVINO | "
        + ("Octavo INT8 / FP32 |" if int8 else "Octavo / ONNX Runtime |") + " SQNR, Octavo | SQNR, OpenVINO |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        engines = result["engines"]
        times = [f"{engines[engine]['median_ms']:.1f} ms" for engine in ("octavo", "openvino", "onnxruntime")]
        if int8 and result["peer_precision"] != "int8":
            times[1] += f" ({result['peer_precision'].upper()})"
        second = result["ratio_to_octavo_fp32" if int8 else "ratio_to_onnxruntime"]
        lines.append(f"| {result['title']} | {' | '.join(times)} | {result['ratio_to_openvino']:.2f} | {second:.2f} | "
                     f"{engines['octavo']['sqnr_db']:.1f} dB | {engines['openvino']['sqnr_db']:.1f} dB |")
    return "\n".join(lines)


def describe_machine() -> str:
    names = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} CPUs"


def versions() -> str:
    import onnxruntime
    import openvino

    return f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {openvino.__version__.split('-')[0]}"


def page(tables: dict, args) -> str:
    parts = [f"""# Performance

Made by `make bench BENCH_ARGUMENTS="--precision {args.precision} --write docs/performance.md"` on {datetime.date.today()}: \
{describe_machine()}; {args.threads} threads; {versions()}.
{args.rounds} rounds of {args.iterations} iterations, the engines in turns, each in a process of its own; medians. SQNR is \
that of the worst output against ONNX Runtime's FP32 outputs on the same input. A ratio below 1 means that Octavo is faster.
[limits.md](limits.md) says how near to the machine's limit the INT8 models run, where the rest of their time goes, and \
what AVX2 alone gives.
"""]
    for precision, results in tables.items():
        parts.append(f"## {precision.upper()}\n\n{table(results, precision)}\n")
        if precision == "int8":
            parts.append("Octavo runs its own quantized models, OpenVINO those of NNCF, or BF16 where it is named: of the "
                         "UNet NNCF makes no usable INT8.\n")
    return "\n".join(parts)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        engine, model, folder, threads, precision = sys.argv[2:]
        return serve_peer(engine, model, folder, int(threads), precision)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT_MODELS, help=f"of {','.join(MODELS)} (default: {DEFAULT_MODELS})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="fp32", help="of Octavo and OpenVINO: fp32, bf16, int8, or several with commas")
    parser.add_argument("--data", default=ROOT / "samples", help="int8: pictures to calibrate on (default: samples/)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--iterations", type=int, default=5, help="per engine and round")
    parser.add_argument("--octavo", type=pathlib.Path, default=ROOT / "build/release/octavo")
    parser.add_argument("--json", metavar="FILE", help="- is stdout, in place of the table")
    parser.add_argument("--write", metavar="FILE", help="the table as a page of the documentation")
    args = parser.parse_args()
    unknown = set(args.models.split(",")) - set(MODELS)
    if unknown:
        parser.error(f"unknown models: {', '.join(sorted(unknown))}")

    precisions = args.precision.split(",")
    if not set(precisions) <= {"fp32", "bf16", "int8"}:
        parser.error("--precision is fp32, bf16, int8, or several with commas")
    tables = {precision: [] for precision in precisions}
    for precision in precisions:
        for name in args.models.split(","):
            if not (ROOT / MODELS[name][0]).exists():
                print(f"{name}: left out, {MODELS[name][0]} is not there (tools/get_models.sh)", file=sys.stderr)
                continue
            print(f"{name} {precision} ...", file=sys.stderr)
            tables[precision].append(bench_model(name, precision, args))
    if args.json:
        results = [result for results in tables.values() for result in results]
        text = json.dumps({"threads": args.threads, "machine": describe_machine(), "results": results}, indent=2)
        if args.json == "-":
            print(text)
        else:
            pathlib.Path(args.json).write_text(text + "\n")
    if args.json != "-":
        for precision, results in tables.items():
            print(table(results, precision))
    if args.write:
        pathlib.Path(args.write).write_text(page(tables, args), encoding="utf-8")


if __name__ == "__main__":
    main()
