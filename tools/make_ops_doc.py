#!/usr/bin/env python3
"""Writes docs/ops.md from the op table and the onnx package's list of ops.

make_ops_doc.py OCTAVO [--check]    --check: compare only; exit code 1 when the file is not up to date
"""
import pathlib
import re
import subprocess
import sys

import onnx

PATH = pathlib.Path(__file__).resolve().parents[1] / "docs" / "ops.md"
LAST_OPSET = 21

TEXT = """# Ops

Made by `tools/make_ops_doc.py build/release/octavo`; a test fails when it is not up to date. Edit the op table
(`src/graph/op_table.cc`) and its notes (`src/graph/op_notes.cc`) instead.

Every op below runs in the engine and in the reference, on any strides; what the standard's backend node tests ask of them
is what `tests/node_cases` checks. Types: "floats" are float32, float64, float16 and bfloat16 (16 bits are computed in
float32 or wider); "integers" are int8 to int64 and uint8 to uint64; "any" adds bool. INT8: quantization can narrow what the
op multiplies.

"Shape by value": the shape of the output depends on values of inputs, not only on their shapes. Where those values are
constants, or follow from shapes, they are known before the model runs. Where they come from the model's inputs, a plan is
made for their values: what depends on such inputs alone is computed while planning, by the plain kernels, and the next
run with other values plans again. `octavo run` and `Session::Run` do that by themselves; `bench`, `inspect` and
`Session::Prepare` for shapes, which have no values, say which node asks for them.

## Supported

{supported}
## Not supported

Ops of ai.onnx up to opset {opset} that are refused, with one error that lists them and their nodes:

{others}

Neither are functions of a model, sparse tensors, strings, complex numbers, float8 and int4, and domains other than ai.onnx.
`Constant` is taken where it holds numbers.
"""


def main():
    octavo = sys.argv[1]
    supported = subprocess.run([octavo, "ops", "--markdown"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"^\| (\w+) \|", supported, re.MULTILINE)) | {"op", "Constant"}
    # Deprecated ops that later opsets dropped are not of interest.
    others = sorted({s.name for s in onnx.defs.get_all_schemas_with_history()
                     if s.domain == "" and s.since_version <= LAST_OPSET and not s.deprecated} - names)
    text = TEXT.format(supported=supported, others=", ".join(others) + ".", opset=LAST_OPSET)
    if "--check" not in sys.argv[2:]:
        PATH.write_text(text)
    elif PATH.read_text() != text:
        print(f"{PATH} is not what tools/make_ops_doc.py makes: run it")
        sys.exit(1)


if __name__ == "__main__":
    main()
