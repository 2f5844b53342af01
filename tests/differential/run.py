#!/usr/bin/env python3
"""Runs small models in ONNX Runtime and in Octavo and compares every output.

run.py OCTAVO [--cases movement,compute] [--seed N] [--count N] [--engine octavo|reference] [--only TEXT]

Each module <name>_cases.py has cases(seed), which yields onnx_case.Case(name, model, inputs).
--cases random_graph --seed 7 --count 1000 is a longer hunt.
Exit code 0 when all pass, 1 otherwise. A case that ONNX Runtime refuses is skipped.
"""
import argparse
import concurrent.futures
import importlib
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

FOLDER = pathlib.Path(__file__).resolve().parent
CONTRACTIONS = {"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"}
REDUCTIONS = {"Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "GroupNormalization",
              "AveragePool", "GlobalAveragePool", "LpPool", "GlobalLpPool", "LpNormalization", "MeanVarianceNormalization", "LRN",
              "CumSum", "STFT", "Det", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}


class Skipped(Exception):
    pass


def run_onnxruntime(case):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, dict(zip((i.name for i in case.model.graph.input), case.inputs)))
    except Exception as error:  # its exception classes are many, and not public
        raise Skipped(str(error).splitlines()[0]) from error


def run_octavo(binary, engine, case, folder):
    model = folder / "model.onnx"
    onnx.save(case.model, model)
    command = [binary, "run", str(model), "-o", str(folder / "out"), "--engine", engine, "--threads", "2"]
    for value, array in zip(case.model.graph.input, case.inputs):
        path = folder / f"in_{value.name}.npy"
        np.save(path, array)
        command += ["--input", f"{value.name}={path}"]
    process = subprocess.run(command, capture_output=True, timeout=120)
    if process.returncode != 0:
        raise AssertionError(f"exit code {process.returncode}: {process.stderr.decode(errors='replace').strip()}")
    names = (re.sub(r"[^A-Za-z0-9._-]", "_", output.name) for output in case.model.graph.output)
    return [np.load(folder / "out" / f"{name}.npy") for name in names]


def accumulation_depth(case):
    """The number of rounded additions behind an output element, summed over the model's nodes."""
    sizes = {value.name: array.size for value, array in zip(case.model.graph.input, case.inputs)}
    dims = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*case.model.graph.input, *case.model.graph.value_info, *case.model.graph.output)}
    dims.update({t.name: list(t.dims) for t in case.model.graph.initializer})
    depth = 0
    for node in case.model.graph.node:
        shapes = [dims.get(name, []) for name in node.input]
        if node.op_type in ("Conv", "ConvTranspose"):
            depth += int(np.prod(shapes[1][1:])) if node.op_type == "Conv" else int(np.prod(shapes[1]) / shapes[1][1])
        elif node.op_type in CONTRACTIONS | REDUCTIONS or node.op_type.startswith("Reduce"):
            depth += max([int(np.prod(s)) for s in shapes[:1]] + [sizes.get(node.input[0], 0)])
        elif node.op_type == "DFT":
            # Where the length is no power of two, ONNX Runtime makes it three transforms of up to four times the length.
            depth += 12 * max(shapes[0], default=1)
        elif node.op_type == "Resize":
            # 16 taps of a cubic; and ONNX Runtime's float32 source positions are off by up to size * 2^-24 of a step, which
            # moves the value by as much of the difference between two neighbours.
            depth += 16 + 2 * max(shapes[0], default=1)
        else:
            depth += 1
    return depth


def largest_term(case):
    """The largest summand that a single contraction or reduction can have; its sum may be much smaller."""
    if len(case.model.graph.node) != 1:
        return 0.0
    arrays = [*case.inputs, *map(onnx.numpy_helper.to_array, case.model.graph.initializer)]
    op = case.model.graph.node[0].op_type
    sizes = [float(np.abs(a).max()) for a in arrays if a.dtype.kind == "f" and a.size and np.isfinite(a).all()]
    return float(np.prod(sizes)) if op in CONTRACTIONS else max(sizes, default=0.0) if op in REDUCTIONS | {"ReduceSum"} else 0.0


def tolerance(case, expected):
    """Absolute tolerance of an output.

    Both sides round: each of `depth` float32 additions by at most half an ulp, 2^-24, of a partial sum. For random data
    the partial sums are no larger than the larger of the largest output and the largest term, times sqrt(depth), and
    their roundings add up as a random walk: sqrt(depth) * sqrt(depth) = depth. ONNX Runtime's vector approximations of
    exp, tanh and erf are good to about 16 ulp. A float16 output adds its own rounding of 2^-11, once per node.
    """
    finite = np.abs(expected[np.isfinite(expected)]).astype(np.float64)
    largest = max(float(finite.max()) if finite.size else 0.0, largest_term(case), 1e-3)
    # float64 models are held to float32's tolerance: some of ONNX Runtime's kernels are no better inside.
    relative = 2.0**-24 * (16 * len(case.model.graph.node) + accumulation_depth(case))
    if any(i.dtype == np.float16 for i in case.inputs):
        relative += 2.0**-11 * 2 * len(case.model.graph.node)
    return relative * largest


def compare(case, index, expected, actual):
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        raise AssertionError(f"output {index} is {actual.dtype} {actual.shape}, not {expected.dtype} {expected.shape}")
    slack = case.slack[index] if case.slack else 0
    with np.errstate(invalid="ignore"):
        if expected.dtype.kind == "f" or slack:
            difference = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        else:
            difference = (actual != expected).astype(np.float64)  # float64 cannot tell all of int64 apart
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected)) if expected.dtype.kind == "f" else actual == expected
    allowed = 0.0
    if expected.dtype.kind == "f":
        allowed = case.tolerances[index] if case.tolerances else tolerance(case, expected)
    wrong = np.argwhere(~same & ~(difference <= allowed + slack))
    if len(wrong):
        at = tuple(wrong[0])
        raise AssertionError(f"output {index}{list(map(int, at))} is {actual[at]!r}, not {expected[at]!r}: {len(wrong)} of "
                             f"{expected.size} differ by more than {allowed + slack:.2e}, at most by {np.nanmax(difference):.2e}")
    # Slack is for the rare value next to a tie, not for a bias.
    slack_needed = int(np.count_nonzero(~same & ~(difference <= allowed)))
    if slack_needed > 1 + expected.size // 20:
        raise AssertionError(f"output {index}: {slack_needed} of {expected.size} round the other way")


def check(binary, engine, case):
    expected = run_onnxruntime(case)
    with tempfile.TemporaryDirectory(prefix="octavo-differential-") as folder:
        actual = run_octavo(binary, engine, case, pathlib.Path(folder))
    for index, (want, got) in enumerate(zip(expected, actual)):
        compare(case, index, want, got)


def outcome(binary, engine, case):
    try:
        check(binary, engine, case)
        return "passed", ""
    except Skipped as reason:
        return "skipped", str(reason)
    except Exception as error:  # a crash or a file that is missing is a failure of this case, not of the run
        return "failed", f"{type(error).__name__}: {error}"


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("octavo")
    parser.add_argument("--cases", help="comma-separated; default: every *_cases.py")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, help="of random graphs")
    parser.add_argument("--engine", choices=("octavo", "reference"), default="octavo")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    flags = parser.parse_args(arguments)
    sys.path.insert(0, str(FOLDER))
    names = flags.cases.split(",") if flags.cases else sorted(p.stem[:-len("_cases")] for p in FOLDER.glob("*_cases.py"))
    cases = []
    for name in names:
        counted = {"count": flags.count} if name == "random_graph" and flags.count else {}
        made = importlib.import_module(name + "_cases").cases(flags.seed, **counted)
        cases += [case for case in made if flags.only in case.name]
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for case, (result, text) in zip(cases, pool.map(lambda c: outcome(flags.octavo, flags.engine, c), cases)):
            counts[result] += 1
            if result == "failed":
                print(f"FAILED {case.name} (--seed {flags.seed} --engine {flags.engine}): {text}")
            elif result == "skipped":
                print(f"skipped {case.name}: {text}")
    print(", ".join(f"{count} {result}" for result, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
