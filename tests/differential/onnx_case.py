"""Builds the small ONNX models that the differential test runs."""
import collections

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# A model, and one array per graph input, in the order of the inputs. `slack`: what quantizers may add to the tolerance of each
# output, in its units; integers without slack must be equal. `tolerances`: of each output, where the case knows better than
# run.tolerance.
Case = collections.namedtuple("Case", "name model inputs slack tolerances", defaults=((), ()))


def value_info(name, array):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def model_of(nodes, inputs, outputs, constants=(), opset=17):
    """`inputs` and `constants` map names to arrays; `outputs` are names. Output types come from onnx's inference."""
    graph = helper.make_graph(
        nodes, "case", [value_info(name, array) for name, array in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)],
                              ir_version=8 if opset < 20 else 10)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for output in model.graph.output:
        if output.type.tensor_type.elem_type == TensorProto.UNDEFINED:  # onnx cannot infer it
            output.type.tensor_type.elem_type = graph.input[0].type.tensor_type.elem_type
    return model


def single_node(name, op, operands, outputs=1, opset=17, constant=(), **attributes):
    """One node. `operands` are arrays, None where an optional input is absent; positions in `constant` are initializers."""
    names = ["" if operand is None else f"x{i}" for i, operand in enumerate(operands)]
    inputs = {n: np.asarray(a) for i, (n, a) in enumerate(zip(names, operands)) if n and i not in constant}
    constants = {n: np.asarray(a) for i, (n, a) in enumerate(zip(names, operands)) if n and i in constant}
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, name="node", **attributes)
    return Case(f"{op} {name}", model_of([node], inputs, results, constants, opset), list(inputs.values()))
