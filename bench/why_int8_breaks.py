#!/usr/bin/env python3
"""Where INT8 breaks these models, layer by layer, and what each remedy mends. Writes the tables of docs/why_int8_breaks.md.

    make && tools/get_models.sh
    bench/why_int8_breaks.py [--write docs/why_int8_breaks.md] [--models nano,hard,vit_s,unet] [--pictures DIR]

Each model is quantized by `octavo quantize` in several ways on 32 pictures (16 seeds of noise for the UNet) and judged
on others; `octavo sensitivity` looks for the layers, `octavo check-fp16` for what FP16 breaks. Without --write the
tables go to standard output. Models that are not there are left out, which stderr says. With --write their tables in
the document stay as they are.
--pictures: a folder with calibration/, check/ and check/prompts.json; by default ../shared/images, or crops of samples/
as `octavo demo` makes them. --work DIR keeps what was measured, and a later run with it goes on from there.
Python's standard library is enough; the UNet's noise needs numpy.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELD_OUT = "astronaut.png"
HELD_OUT_BOXES = ((150, 8, 292, 200), (25, 150, 370, 511), (280, 345, 511, 511), (375, 5, 475, 290))
# All but the slow ones, in the order in which `quantize` tries them.
REMEDIES = ("defer-softmax", "search-ranges", "equalize", "smooth-norm", "migrate-depthwise", "migrate", "fold-signs",
            "shift-channels", "clip-weights", "correct-bias")
# Why a remedy can do nothing whatever the others do: it is not tried alone.
NOT_APPLICABLE = ("no Softmax", "no scale of a channel", "products of attention")
UNET_FLOAT = [word for i in (191, 192, 194, 195) for word in ("--keep-float", f"node_conv2d_{i}")]

PRESET, SYMMETRIC, PLAIN = ["--preset", "tensorrt8-implicit"], ["--target", "tensorrt", "--no-remedy", "all",
                                                               "--estimator", "minmax"], ["--no-remedy", "all"]


class Model:
    """One model: where it is, how it is fed and judged."""

    def __init__(self, title, path, inputs, task, score, samples, layers, extra=(), given=()):
        self.title, self.path, self.inputs, self.task, self.score = title, path, inputs, task, score
        self.calibrating, self.judging = samples  # how many; 0: all
        # The recipes whose layers are looked into, the best one last: how many samples judge, and whether the model with
        # all but each layer in INT8 is measured, too.
        self.layers = layers
        self.best = list(layers)[-1]
        self.extra = extra  # flags of the recipe that goes further than the remedies
        self.given = given  # remedies that are applied unjudged, where judging takes too long


MODELS = {
    "nano": Model("EfficientViT-SAM nano", "models/efficientvit-sam-nano-encoder.onnx", ["--preprocess", "sam"],
                  "segment", "mask IoU", (32, 0), {"preset": (8, True), "remedied": (8, True)}),
    "hard": Model("nano-hard", "models/efficientvit-sam-nano-hard-encoder.onnx", ["--preprocess", "sam"], "segment",
                  "mask IoU", (32, 0), {"preset": (4, False), "plain": (4, False), "remedied": (8, True)}),
    "vit_s": Model("ViT-S saliency", "vit_s_focus.onnx", ["--preprocess", "imagenet"], "heatmap", "map agreement",
                   (16, 15), {"preset": (2, False), "remedied": (2, False)}),
    "unet": Model("Terrain diffusion UNet", "terrain_unet.onnx", [], "tensor", "signal share",
                  (8, 8), {"plain": (2, False), "further": (2, False)},
                  extra=["--quantize-attention"] + UNET_FLOAT, given=("migrate", "clip-weights", "correct-bias")),
}


class OutOfTime(Exception):
    """Not even the recipes of a model could be measured."""


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """Runs the binary and remembers what it answered."""

    def __init__(self, octavo, work, threads, minutes=0):
        self.octavo, self.work, self.threads, self.minutes = octavo, work, threads, minutes
        self.environment = dict(os.environ, OMP_WAIT_POLICY="passive")
        self.environment.setdefault("OCTAVO_DATA_DIR", str(ROOT))
        self.started = time.monotonic()
        (work / "results").mkdir(parents=True, exist_ok=True)

    def run(self, what, *arguments, ok=(0,)):
        """The JSON that the command answers; None when time is up."""
        words = [str(word) for word in arguments]
        key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]
        answer = self.work / "results" / f"{key}.json"
        if not answer.exists():
            begin, part = time.monotonic(), answer.with_suffix(".part")
            if self.minutes and begin - self.started > 60 * self.minutes:
                say(f"time is up: {what} is left out")
                return None
            done = subprocess.run([self.octavo, *words, "--threads", str(self.threads), "--json", part],
                                  capture_output=True, text=True, env=self.environment, cwd=self.work)
            if done.returncode not in ok:
                raise SystemExit(f"{what}: octavo {' '.join(words)}: {done.stderr[-800:]}")
            part.rename(answer)
            now = time.monotonic()
            say(f"{(now - self.started) / 60:5.1f} min  {what}: {now - begin:.0f} s")
        return json.loads(answer.read_text())


class Sources:
    """Folders of samples and the prompts of pictures."""

    def __init__(self, bench, pictures):
        self.bench = bench
        if pictures is not None:
            self.calibration, self.check = pictures / "calibration", pictures / "check"
            self.prompts, self.origin = self.check / "prompts.json", "photographs"
        else:
            say("no folder of pictures: crops of samples/ calibrate, one picture judges")
            bench.run("crops", "demo", "-o", bench.work / "demo")
            self.calibration, self.check = bench.work / "demo/calibration", bench.work / "check"
            self.check.mkdir(exist_ok=True)
            shutil.copy(ROOT / "samples" / HELD_OUT, self.check)
            self.prompts, self.origin = bench.work / "prompts.json", "crops of samples/, judged on one picture"
            self.prompts.write_text(json.dumps({HELD_OUT: [{"box": box} for box in HELD_OUT_BOXES]}))

    def of(self, name):
        """(calibrating flags, folder that judges, flags of the task)"""
        model = MODELS[name]
        if name == "unet":
            check = self.noise("check", 0, model.judging)
            return ["--data", self.noise("calibration", 1000, model.calibrating)], check, []
        task = ["--task", model.task] + (["--prompts", self.prompts] if model.task == "segment" else [])
        return ["--data", self.calibration, "--count", model.calibrating] + model.inputs, self.check, task

    def noise(self, kind, first, count):
        """The first step of the UNet's schedule, sigma 80: its input is nothing but noise."""
        import numpy as np

        folder = self.bench.work / f"noise-{kind}"
        folder.mkdir(exist_ok=True)
        for seed in range(first, first + count):
            if not (folder / f"{seed:05}.npz").exists():
                noise = np.random.default_rng(seed).standard_normal((1, 1, 128, 128))
                np.savez(folder / f"{seed:05}.npz", noisy=(80 * noise).astype(np.float32),
                         sigma=np.array([80], np.float32), difficulty=np.array([0.5], np.float32))
        return folder


def only(names, remedies):
    """Flags that apply these remedies unjudged, and no others."""
    if not names:
        return PLAIN
    return [word for name in remedies for word in (("--remedy" if name in names else "--no-remedy"), name)]


class Study:
    """All that is measured of one model."""

    def __init__(self, bench, sources, name, path):
        self.bench, self.name, self.model, self.path = bench, name, MODELS[name], path
        self.data, self.check, self.task = sources.of(name)
        self.judging = ["--judging-samples", self.model.judging] if self.model.judging else []
        self.recipes = {"preset": self.quantize("TensorRT 8's way", PRESET),
                        "symmetric": self.quantize("symmetric", SYMMETRIC), "plain": self.quantize("plain", PLAIN)}
        extra = list(self.model.extra)
        best = self.quantize("with remedies", extra + (only(self.model.given, REMEDIES) if self.model.given else []))
        self.kept = [remedy["name"] for remedy in best["remedies"] if remedy["kept"]] if best else []
        if extra:  # the same remedies without what else it does
            self.recipes["remedied"] = self.quantize("remedies only", only(self.kept, REMEDIES))
        self.recipes[self.model.best] = best
        if not all(self.recipes.values()):
            raise OutOfTime("time is up")
        self.best = self.model.best
        self.half = bench.run(f"{name}, FP16", "check-fp16", path, *self.data, ok=(0, 1))
        self.layers = {key: self.sensitivity(key) for key in self.model.layers if key != self.best}
        self.ablate()
        self.layers[self.best] = self.sensitivity(self.best)

    def quantize(self, what, flags):
        out = self.bench.work / "models" / f"{self.name}-{hashlib.sha256(' '.join(flags).encode()).hexdigest()[:8]}.onnx"
        out.parent.mkdir(exist_ok=True)
        result = self.bench.run(f"{self.name}, {what}", "quantize", self.path, *self.data, "--check", self.check,
                                *self.judging, *self.task, *flags, "-o", out)
        return result and dict(result, recipe=f"{out}.recipe.json")

    def sensitivity(self, key):
        count, without = self.model.layers[key]
        return self.bench.run(f"{self.name}, layers of {key}", "sensitivity", self.path, *self.data, "--check", self.check,
                              *self.task, "--judging-samples", count, "--precisions", "int8", "--no-times",
                              *([] if without else ["--no-without"]), "--recipe", self.recipes[key]["recipe"])

    def ablate(self):
        extra = list(self.model.extra)
        self.base = self.quantize("further, plain", extra + PLAIN) if extra else self.recipes["plain"]
        self.ablation = []
        if self.base is None:
            return
        for remedy in self.recipes[self.best]["remedies"]:
            name = remedy["name"]
            row = {"name": name, "reason": remedy["reason"], "kept": remedy["kept"], "gain": remedy["gain_db"],
                   "alone": None, "without": None, "missing": False}
            if not remedy["reason"].startswith(NOT_APPLICABLE):
                alone = self.quantize(f"{name} alone", extra + only([name], REMEDIES))
                if alone and any(tried["kept"] for tried in alone["remedies"]):
                    row["alone"] = alone
                row["missing"] = alone is None
            if remedy["kept"]:
                row["without"] = self.quantize(f"all but {name}",
                                               extra + only([other for other in self.kept if other != name], REMEDIES))
            self.ablation.append(row)


def db(value):
    return "NaN" if value is None or value <= -900 else "∞" if value >= 900 else f"{value:.1f}"


def gain(value, base):
    return f"{round(value - base, 1) + 0.0:+.1f}"


def table(head, align, rows):
    rule = {"l": "---", "r": "--:"}
    lines = [head, [rule[letter] for letter in align], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def human(value):
    return "NaN" if value is None else f"{value:.3f}"


def recipes_table(study):
    names = {"preset": "`--preset tensorrt8-implicit`", "symmetric": "`--target tensorrt --no-remedy all --estimator minmax`",
             "plain": "`--no-remedy all`", "remedied": "remedies, as `quantize` does by itself",
             "further": "`--quantize-attention`, four convolutions in float"}
    if study.model.given:
        names["remedied"] = ", ".join(f"`{name}`" for name in study.model.given)
        names["further"] = "the same, `--quantize-attention`, four convolutions in float"
    scored = study.task != []
    rows = []
    for key, result in study.recipes.items():
        verdict = result.get("verdict") or {}
        task = [human(verdict["score"]), human(verdict["p5"])] if scored else []
        rows.append([names[key], db(result["score"]),
                     db(min(output["min_sqnr_db"] for output in result["outputs"])), *task,
                     f"{100 * result['int8_macs_share']:.1f} %"])
    head = ["how", "SQNR dB", "worst sample", *([study.model.score, "5th percentile"] if scored else []), "MACs in INT8"]
    return table(head, "l" + "r" * (len(head) - 1), rows)


def noise_of(layer):
    sqnr = layer["alone"][0]["sqnr_db"]
    return None if sqnr is None or sqnr <= -900 else 10 ** (-sqnr / 10)


def layers_table(study, key):
    report = study.layers[key]
    layers, whole = report["layers"], report["all_int8"]
    total = sum(noise_of(layer) or 0 for layer in layers)
    macs = sum(layer["macs"] for layer in layers)
    by_noise = sorted(layers, key=lambda layer: -(noise_of(layer) if noise_of(layer) is not None else 1e9))[:7]
    known = layers if study.model.layers[key][1] else []
    by_gain = sorted(known, key=lambda layer: -layer["without_sqnr_db"])[:3]
    chosen = by_noise + [layer for layer in by_gain if layer not in by_noise]
    scored = study.task != []
    rows = []
    for layer in chosen:
        alone = layer["alone"][0]
        noise = noise_of(layer)
        rows.append([f"`{layer['node']}`", layer["op"], f"{100 * layer['macs'] / macs:.2f} %", db(alone["local_sqnr_db"]),
                     db(alone["sqnr_db"]), *([human(alone["score"])] if scored else []),
                     "–" if noise is None else f"{100 * noise / total:.0f} %",
                     *([gain(layer["without_sqnr_db"], whole["sqnr_db"])] if known else []),
                     layer["reason"] or "–"])
    head = ["layer", "op", "MACs", "its own output, dB", "alone in INT8, dB", *([study.model.score] if scored else []),
            "share of noise", *(["all but it, dB gained"] if known else []), "why"]
    score = f"{study.model.score} {human(whole['score'])}, " if scored else ""
    title = {"preset": "As TensorRT 8 does it", "plain": "Plain", "remedied": "With remedies",
             "further": "With remedies and four convolutions in float"}[key]
    return (f"{title}: {len(layers)} layers and operations in INT8; all of them together {score}{db(whole['sqnr_db'])} dB "
            f"({study.model.layers[key][0]} samples).\n\n"
            + table(head, "ll" + "r" * (len(head) - 3) + "l", rows))


def ablation_table(study):
    base, full = study.base, study.recipes[study.best]
    rows = []
    for row in study.ablation:
        alone, without = row["alone"], row["without"]
        rows.append([f"`{row['name']}`", f"{db(alone['score'])} ({gain(alone['score'], base['score'])})" if alone else
                     "not measured" if row["missing"] else "–",
                     f"{db(without['score'])} ({gain(without['score'], full['score'])})" if without else
                     "not measured" if row["kept"] else "–",
                     ("kept" if row["kept"] else "dropped") + (f" ({gain(row['gain'], 0)})" if row["gain"] else "") + ": "
                     + row["reason"]])
    head = ["remedy", f"alone over plain ({db(base['score'])})", f"all kept ({db(full['score'])}) but it",
            "`quantize` by itself (gain where it judges)"]
    return table(head, "lrrl", rows)


def divisors_table(study):
    """The steps that the preset gives to linear attention's sums."""
    largest = {finding["tensor"]: finding["magnitude"] for finding in study.half["findings"]}
    blocks = {tensor.rsplit("/", 1)[0] for tensor in largest}
    rows = []
    for entry in json.loads(pathlib.Path(study.recipes["preset"]["recipe"]).read_text())["activations"]:
        block, _, name = entry["tensor"].rpartition("/")
        if block in blocks and re.fullmatch(r"(MatMul_1|Slice_1|Slice_2)_output_0|Reshape_3_output_0", name):
            readers = ", ".join(sorted({reader.rpartition("/")[2] for reader in entry["consumers"]}))
            seen = largest.get(entry["tensor"])
            rows.append([f"`{entry['tensor']}`", readers, f"{entry['scale']:.4g}", f"{127 * entry['scale']:.4g}",
                         f"{seen:.4g}" if seen else "–"])
    return table(["tensor", "read by", "one step", "largest that fits", "largest seen"], "llrrr", rows)


def fp16_table(study):
    half = study.half
    rows = []
    for finding in sorted(half["findings"], key=lambda finding: finding["headroom"])[:4]:
        rows.append([finding["risk"], f"`{finding['tensor']}`", finding["pattern"] or "–", f"{finding['magnitude']:.3g}",
                     f"{finding['headroom']:.2g}×",
                     f"rescale by 2^{finding['octaves']}" if finding["remedy"] == "rescale" else finding["remedy"]])
    output = half["outputs"][0]
    fp16 = output["fp16"]
    bad = fp16["nonfinite"] / fp16["values"]
    text = f"{100 * bad:.0f} % of the output is NaN or infinite" if bad else f"{db(fp16['sqnr_db'])} dB"
    remedied = output["remedied"]
    text = (f"{study.model.title}: {len(half['findings'])} risks; in FP16 {text}"
            + (f", with the remedies {db(remedied['sqnr_db'])} dB" if remedied else "")
            + f"; {len(half['float32_nodes'])} nodes stay in float32.")
    if not rows:
        return text
    return text + "\n\n" + table(["risk", "tensor", "part of", "magnitude", "headroom", "remedy"], "lllrrl", rows)


def tables_of(study):
    name = study.name
    found = {f"{name} recipes": recipes_table(study)}
    if study.ablation:
        found[f"{name} ablation"] = ablation_table(study)
    if study.half:
        found[f"{name} fp16"] = fp16_table(study)
        if study.task[1:2] == ["segment"]:
            found[f"{name} divisors"] = divisors_table(study)
    for key, report in study.layers.items():
        if report:
            found[f"{name} layers {key}"] = layers_table(study, key)
    return found


def write_tables(path, tables):
    text = path.read_text()
    for name, content in tables.items():
        pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.S)
        if not pattern.search(text):
            say(f"{path} has no place for '{name}'")
        text = pattern.sub(lambda match: match[1] + content + "\n" + match[2], text)
    path.write_text(text)


def find(name, folder):
    path = MODELS[name].path
    return ROOT / path if path.startswith("models/") else folder / path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path, help="the document whose tables are rewritten")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--pictures", type=pathlib.Path)
    parser.add_argument("--large", type=pathlib.Path, default=ROOT / ".models", help="folder of ViT-S and the UNet")
    parser.add_argument("--octavo", type=pathlib.Path, default=ROOT / "build/release/octavo")
    parser.add_argument("--work", type=pathlib.Path, help="folder that keeps what was measured")
    parser.add_argument("--threads", type=int, default=0, help="0: every core")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing new after as many; 0: no limit")
    args = parser.parse_args()
    if not args.octavo.exists():
        raise SystemExit(f"{args.octavo} is not there: run make, or name it by --octavo")
    shared = ROOT.parent / "shared/images"
    pictures = args.pictures or (shared if shared.is_dir() else None)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(args.octavo.resolve(), (args.work or pathlib.Path(temporary)).resolve(), args.threads, args.minutes)
        sources = Sources(bench, pictures and pictures.resolve())
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                   platform.machine())
        tables = {"origin": f"Measured on {datetime.date.today()}, {cpu}; {sources.origin}."}
        for name in args.models.split(","):
            if name not in MODELS:
                raise SystemExit(f"no model is called '{name}': {', '.join(MODELS)}")
            path = find(name, args.large)
            if not path.exists():
                say(f"{name}: left out, {path} is not there (tools/get_models.sh)")
                continue
            try:
                tables.update(tables_of(Study(bench, sources, name, path.resolve())))
            except (ImportError, OutOfTime) as error:
                say(f"{name}: left out, {error}")
        if args.write:
            write_tables(args.write, tables)
        else:
            for name, content in tables.items():
                print(f"## {name}\n\n{content}\n")


if __name__ == "__main__":
    main()
