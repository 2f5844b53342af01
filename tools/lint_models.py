#!/usr/bin/env python3
"""What `octavo lint` finds in other tools' models and in Octavo's own, as the table of docs/lint.md.

    tools/make_venv.sh --peers && tools/get_models.sh && .venv/bin/python tools/make_peer_models.py
    tools/lint_models.py build/release/octavo [--pictures DIR]

Octavo's own are quantized anew for every target, calibrated on up to 16 pictures.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = ("tensorrt", "onnxruntime", "openvino")
KINDS = ("nncf", "u8u8", "u8s8", "s8s8", "u8u8c", "u8s8c", "s8s8c")
MODELS = {"nano": ("models/efficientvit-sam-nano-encoder.onnx", "sam"), "ViT-S": (".models/vit_s_focus.onnx", "imagenet")}


def findings(octavo, model, target):
    process = subprocess.run([octavo, "lint", model, "--target", target, "--fail-on", "never", "--json", "-"],
                             capture_output=True, check=True)
    return json.loads(process.stdout)["findings"]


def row(octavo, name, model):
    cells, rules = [], []
    for target in TARGETS:
        found = findings(octavo, model, target)
        levels = collections.Counter(finding["severity"] for finding in found)
        cells.append(" / ".join(str(levels[level]) for level in ("error", "warning", "note")))
        counts = collections.Counter(finding["rule"] for finding in found)
        rules.append(", ".join(f"{rule} {count}" for rule, count in counts.items()) or "–")
    print(f"| {name} | {' | '.join(cells)} | {' | '.join(rules)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octavo", type=pathlib.Path)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / ".models")
    parser.add_argument("--pictures", type=pathlib.Path, default=ROOT / "samples")
    options = parser.parse_args()
    octavo = options.octavo.resolve()
    print("| model | " + " | ".join(TARGETS) + " | " + " | ".join(f"rules for {target}" for target in TARGETS) + " |")
    print("|" + "---|" * 7)
    for name, stem in ("nano", "nano"), ("ViT-S", "vit_s"):
        for kind in KINDS:
            path = options.models / "peers" / f"{stem}-{kind}.onnx"
            if path.exists():
                row(octavo, f"{name} {kind}", path)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, (file, preprocess) in MODELS.items():
            model = ROOT / file if (ROOT / file).exists() else options.models / pathlib.Path(file).name
            if not model.exists():
                continue
            run = lambda *arguments: subprocess.run([octavo, *arguments], check=True, capture_output=True)
            run("calibrate", model, "--data", options.pictures, "--preprocess", preprocess, "--count", "16", "-o", folder / "stats")
            for target in TARGETS:
                for attention in ([], ["--quantize-attention"]):
                    run("quantize", model, "--stats", folder / "stats", "--target", target, "--no-remedy", "all", *attention,
                        "-o", folder / "q.onnx")
                    row(octavo, f"{name}, Octavo for {target}{' with attention' if attention else ''}", folder / "q.onnx")


if __name__ == "__main__":
    main()
