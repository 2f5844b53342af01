#!/usr/bin/env python3
"""What other runtimes make of Octavo's Q/DQ models, and Octavo of theirs. Writes docs/interop.md.

    tools/make_venv.sh --peers && tools/get_models.sh
    .venv/bin/python tools/make_peer_models.py
    .venv/bin/python bench/interop.py [--write docs/interop.md] [--pictures DIR] [--models nano,hard,vit_s,unet]

Each model is quantized by `octavo quantize` for ONNX Runtime and for OpenVINO on 16 samples and judged on 8 others, the
same arrays for every runtime: SQNR in dB of the outputs against the float model's, over all samples together.
--pictures: a folder with calibration/ and check/; by default ../shared/images, or crops of samples/.
"""
import argparse
import datetime
import json
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import openvino
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import make_peer_models as peers  # noqa: E402

OCTAVO = ROOT / "build/release/octavo"
MODELS = {
    "nano": ("models/efficientvit-sam-nano-encoder.onnx", lambda picture: peers.sam_input(picture, 256)),
    "hard": ("models/efficientvit-sam-nano-hard-encoder.onnx", lambda picture: peers.sam_input(picture, 256)),
    "vit_s": (".models/vit_s_focus.onnx", lambda picture: peers.imagenet_input(picture, 224)),
    "unet": (".models/terrain_unet.onnx", None),
}
TARGETS = ("onnxruntime", "openvino")
CALIBRATION, CHECK = 16, 8


def load_pictures(folder, count):
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png") and ".segments" not in path.name)
    return [Image.open(path).convert("RGB") for path in paths[:count]]


def pictures_for(folder):
    """Calibration and check pictures; without a folder, crops of the samples and the picture held out."""
    if folder is not None:
        return load_pictures(folder / "calibration", CALIBRATION), load_pictures(folder / "check", CHECK)
    held_out = Image.open(ROOT / "samples" / peers.HELD_OUT).convert("RGB")
    width, height = held_out.size
    check = [held_out.crop((x, y, x + width * 2 // 3, y + height * 2 // 3))
             for x in (0, width // 3) for y in (0, height // 3)]
    return peers.crops(ROOT / "samples", 6)[:CALIBRATION], [held_out] + check


def diffusion_samples(random, count):
    sigmas = [80.0, 20.0, 5.0, 0.5]
    return [{"noisy": (np.hypot(sigma, 0.5) * random.standard_normal((1, 1, 128, 128))).astype(np.float32),
             "sigma": np.array([sigma], np.float32), "difficulty": np.array([0.5], np.float32)}
            for sigma in (sigmas[i % len(sigmas)] for i in range(count))]


def samples_of(name, pictures):
    """(calibration, check): lists of inputs by name."""
    path, prepare = MODELS[name]
    if prepare is None:
        random = np.random.default_rng(0)
        return diffusion_samples(random, CALIBRATION), diffusion_samples(random, CHECK)
    input_name = onnx.load(ROOT / path, load_external_data=False).graph.input[0].name
    return tuple([{input_name: prepare(picture)} for picture in group] for group in pictures)


def write_samples(folder, samples):
    folder.mkdir(parents=True)
    for i, sample in enumerate(samples):
        np.savez(folder / f"{i:03}.npz", **sample)


def run_onnxruntime(path, samples, optimized=True):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [session.run(None, sample) for sample in samples]


def run_openvino(path, samples):
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [[result.copy() for result in compiled(sample).values()] for sample in samples]


def run_octavo(path, samples, folder):
    outputs = []
    names = ["".join(c if c.isalnum() or c in ".-_" else "_" for c in output.name)
             for output in onnx.load(path, load_external_data=False).graph.output]
    for i, sample in enumerate(samples):
        np.savez(folder / "sample.npz", **sample)
        subprocess.run([OCTAVO, "run", path, "--input", folder / "sample.npz", "-o", folder], check=True, capture_output=True)
        outputs.append([np.load(folder / f"{name}.npy") for name in names])
    return outputs


def sqnr_db(reference, outputs):
    """The worst output's, over all samples together."""
    worst = np.inf
    for k in range(len(reference[0])):
        signal = sum((r[k].astype(np.float64) ** 2).sum() for r in reference)
        noise = sum(((r[k].astype(np.float64) - o[k]) ** 2).sum() for r, o in zip(reference, outputs))
        worst = min(worst, 10 * np.log10(signal / noise) if noise > 0 else np.inf)
    return worst


def ours_elsewhere(name, pictures, folder):
    path = ROOT / MODELS[name][0]
    calibration, check = samples_of(name, pictures)
    write_samples(folder / name / "calibration", calibration)
    write_samples(folder / name / "check", check)
    reference = run_onnxruntime(path, check)
    rows = []
    for target in TARGETS:
        quantized, report = folder / f"{name}-{target}.onnx", folder / "report.json"
        subprocess.run([OCTAVO, "quantize", path, "--data", folder / name / "calibration", "--eval-data",
                        folder / name / "check", "--target", target, "--no-remedy", "all", "-o", quantized, "--json",
                        report], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        onnx.checker.check_model(str(quantized), full_check=True)
        report = json.loads(report.read_text())
        rows.append({"model": name, "target": target, "share": report["int8_macs_share"], "octavo": report["score"],
                     "onnxruntime": sqnr_db(reference, run_onnxruntime(quantized, check)),
                     "openvino": sqnr_db(reference, run_openvino(quantized, check))})
        print(rows[-1], file=sys.stderr)
    return rows


def theirs_here(path, pictures, folder):
    name = path.name.split("-")[0]
    _, check = samples_of(name, pictures)
    reference = run_onnxruntime(ROOT / MODELS[name][0], check)
    theirs, plain = run_onnxruntime(path, check), run_onnxruntime(path, check, optimized=False)
    ours = run_octavo(path, check, folder)
    inspected = subprocess.run([OCTAVO, "inspect", path, "--json", "-"], check=True, capture_output=True)
    row = {"file": path.stem, "share": json.loads(inspected.stdout)["plan"]["int8_macs_share"],
           "between": sqnr_db(theirs, ours), "itself": sqnr_db(theirs, plain), "theirs": sqnr_db(reference, theirs),
           "ours": sqnr_db(reference, ours)}
    print(row, file=sys.stderr)
    return row


def within(row, runtime):
    return "yes" if abs(row[runtime] - row["octavo"]) <= 1 else "**no**"


TEXT = """# Interoperability

Measured by `bench/interop.py` on {date}, {machine}; ONNX Runtime {ort}, OpenVINO {openvino} (float32 hint). The script says how to repeat it. SQNR in dB over {check} samples that were not calibrated on ({source}); the worst output's.

## Octavo's Q/DQ models elsewhere

`octavo quantize --target T --no-remedy all`: the table is about arithmetic, and a bad model must be equally bad everywhere. Each model passes `onnx.checker`'s full check. "Octavo" is the score that `octavo quantize` printed; the columns after a runtime say whether it is within 1 dB of that.

| model | target | INT8 share of MACs | Octavo | ONNX Runtime | within 1 dB | OpenVINO | within 1 dB |
|---|---|---|---|---|---|---|---|
{ours}

## Other tools' models in Octavo

Made by `tools/make_peer_models.py`. "Between": Octavo's outputs against ONNX Runtime's, of the same file. "Itself": ONNX Runtime without graph optimizations against ONNX Runtime with them.

| file | INT8 share of MACs | between | itself | ONNX Runtime against float | Octavo against float |
|---|---|---|---|---|---|
{theirs}

Where the arithmetic differs: ONNX Runtime's fused integer kernels round the accumulator times one combined scale, and round the bias to a multiple of it, where Octavo adds the bias in float; what it does not fuse it computes in float on dequantized values. Each of these moves a value only when it lies next to a tie. But a quantizer turns the difference that is left into whole steps, layer after layer, and two runs end as far apart as the quantization noise itself allows. So "between" follows "against float": files in which only products with constant weights are quantized (`…c`) agree to 30 dB and more, and ONNX Runtime's default, which quantizes elementwise operations and the products of linear attention too, agrees with itself, optimized and not, hardly better than with Octavo: compare the two columns.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--peers", type=pathlib.Path, default=ROOT / ".models/peers")
    args = parser.parse_args()
    shared = ROOT.parent / "shared/images"
    folder = args.pictures or (shared if shared.is_dir() else None)
    pictures = pictures_for(folder)
    names = [name for name in args.models.split(",") if (ROOT / MODELS[name][0]).exists()]
    for name in set(args.models.split(",")) - set(names):
        print(f"{name}: left out, {MODELS[name][0]} is not there (tools/get_models.sh)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        ours = [row for name in names for row in ours_elsewhere(name, pictures, work)]
        files = [path for path in sorted(args.peers.glob("*.onnx")) if path.name.split("-")[0] in names]
        theirs = [theirs_here(path, pictures, work) for path in files]
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
               platform.machine())
    text = TEXT.format(
        date=datetime.date.today(), machine=cpu, ort=ort.__version__, openvino=openvino.__version__.split("-")[0],
        check=len(pictures[1]), source="photographs; noise of four strengths for the UNet" if folder else "crops of a sample",
        ours="\n".join(f"| {r['model']} | {r['target']} | {r['share']:.3f} | {r['octavo']:.2f} | {r['onnxruntime']:.2f} | "
                       f"{within(r, 'onnxruntime')} | {r['openvino']:.2f} | {within(r, 'openvino')} |" for r in ours),
        theirs="\n".join(f"| {r['file']} | {r['share']:.3f} | {r['between']:.1f} | {r['itself']:.1f} | {r['theirs']:.1f} | "
                         f"{r['ours']:.1f} |" for r in theirs))
    print(text)
    if args.write:
        args.write.write_text(text)


if __name__ == "__main__":
    main()
