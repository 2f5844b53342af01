"""ONNX's backend node tests through the engine and through the reference.

node_tests_test.py [--engine octavo|reference] [--only TEXT] [--list failed|unsupported] [--by-op]

The cases are the onnx package's own. Fails when an answer is wrong or the process ends, when Octavo refuses a case without
saying that it is unsupported, or when fewer than 90 % of the cases in scope pass. In scope is what has only tensors of
numbers and no control flow, recurrence or training.
"""
import argparse
import collections
import os
import pathlib
import subprocess
import sys

import onnx
import onnx.backend.test

DATA = pathlib.Path(onnx.backend.test.__file__).parent / "data" / "node"
ONNX_VERSION = "1.16"
WANTED_SHARE = 0.90
# Answers that are not ours, nor ONNX Runtime's (1.32), which agrees with us in all of them (tests/differential has these
# cases too): not judged.
DISPUTED = {
    "test_qlinearmatmul_2D_int8_float16": "the data wraps where the standard saturates",
    "test_qlinearmatmul_2D_int8_float32": "the data wraps where the standard saturates",
    "test_qlinearmatmul_3D_int8_float16": "the data wraps where the standard saturates",
    "test_qlinearmatmul_3D_int8_float32": "the data wraps where the standard saturates",
    "test_cast_FLOAT_to_BFLOAT16": "the data cuts bits off where Cast rounds",
    "test_castlike_FLOAT_to_BFLOAT16": "the data cuts bits off where Cast rounds",
    "test_castlike_FLOAT_to_BFLOAT16_expanded": "the data cuts bits off where Cast rounds",
    "test_resize_downsample_scales_cubic_align_corners": "corners of an output of 3.2 elements, not of 3",
    "test_resize_downsample_scales_linear_align_corners": "corners of an output of 2.4 elements, not of 2",
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True":
        "what ceil_mode reaches beyond the padding counts as padding",
}
OUT_OF_SCOPE_OPS = {"If", "Loop", "Scan", "RNN", "LSTM", "GRU"}


def out_of_scope(model):
    """Why a case is out of scope, or ''."""
    for value in (*model.graph.input, *model.graph.output):
        if not value.type.HasField("tensor_type"):
            return "sequences and optionals"
        if value.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            return "strings"
    for node in model.graph.node:
        if node.op_type in OUT_OF_SCOPE_OPS:
            return "control flow and recurrence"
        if node.op_type.startswith(("Sequence", "Optional")):
            return "sequences and optionals"
        if node.domain == "ai.onnx.preview.training" or any(a.name == "training_mode" and a.i for a in node.attribute):
            return "training"
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            return "training"
    return ""


def run_cases(engine, folders):
    """{folder: (result, text)}; a process that ends early failed the case it was at, and goes on after it."""
    results = {}
    rest = [str(folder) for folder in folders]
    while rest:
        process = subprocess.run([os.environ["OCTAVO_NODE_CASES"], engine, *rest], capture_output=True, text=True,
                                 errors="replace")
        started = None
        for line in process.stdout.splitlines():
            kind, folder, *columns = line.split("\t", 3)
            if kind == "start":
                started = folder
            elif kind == "result":
                results[folder] = tuple(columns)
        if process.returncode == 0:
            break
        if started is None or started in results:
            raise RuntimeError(f"octavo_node_cases ended with {process.returncode}: {process.stderr[-2000:]}")
        results[started] = ("failed", f"the process ended with {process.returncode}: {process.stderr[-500:].strip()}")
        rest = rest[rest.index(started) + 1:]
    return results


def ops_of(model):
    return sorted({f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.node})


def summary(results):
    counts = collections.Counter(result for result, _ in results)
    return ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "unsupported", "disputed"))


def judge(engine, flags):
    folders = sorted(folder for folder in DATA.iterdir() if flags.only in folder.name)
    models = {str(folder): onnx.load(folder / "model.onnx") for folder in folders}
    results = run_cases(engine, folders)
    for folder, (result, text) in results.items():
        if pathlib.Path(folder).name in DISPUTED and result == "failed":
            results[folder] = ("disputed", text)
    in_scope = [folder for folder in models if not out_of_scope(models[folder])]
    print(f"{engine}: all {len(models)}: {summary(results.values())}")
    print(f"{engine}: in scope {len(in_scope)}: {summary(results[f] for f in in_scope)}")
    by_op = collections.Counter()
    for folder, (result, text) in results.items():
        if result == "failed" or result == flags.list and folder in in_scope:
            print(f"{result} {pathlib.Path(folder).name}: {text}")
        if result != "passed" and folder in in_scope:
            by_op.update(ops_of(models[folder]) if "not supported: " not in text else [text.split("not supported: ")[1].split(" (")[0]])
    if flags.by_op:
        for op, count in by_op.most_common():
            print(f"  {count:4d} {op}")
    passed = sum(results[folder][0] == "passed" for folder in in_scope)
    failed = any(result == "failed" for result, _ in results.values())
    if not flags.only and passed < WANTED_SHARE * len(in_scope):
        print(f"{engine}: {passed} of {len(in_scope)} cases in scope pass, less than {WANTED_SHARE:.0%}")
        return False
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("octavo", "reference"), help="default: both")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--list", choices=("failed", "unsupported"), default="failed", help="print these cases")
    parser.add_argument("--by-op", action="store_true", help="count by op what does not pass")
    flags = parser.parse_args()
    if not onnx.__version__.startswith(ONNX_VERSION):
        print(f"SKIP: the cases are those of onnx {ONNX_VERSION}, this is {onnx.__version__}")
        sys.exit(77)
    engines = [flags.engine] if flags.engine else ["octavo", "reference"]
    sys.exit(0 if all([judge(engine, flags) for engine in engines]) else 1)


if __name__ == "__main__":
    main()
