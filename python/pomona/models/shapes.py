"""Infers the shape of a tensor where a network computes shapes itself.

Exporters write ``x.view(x.size(0), -1)`` as the operators Shape, Gather, Unsqueeze, Concat and
Reshape. ONNX's shape inference stops at these. With a batch of a known size all of them have known
results, so each is replaced by its result until none is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pomona._errors import ModelError
from pomona.models.graph import attribute, inferred_shapes, replace

if TYPE_CHECKING:
    from typing import Any, Mapping

    from numpy.typing import NDArray

    from pomona.models.graph import Shape

_STANDARD = ("", "ai.onnx")
_MICROSOFT = "com.microsoft"
#: ONNX Runtime's own operators that it is known to run, and the operators of ONNX whose results
#: have the same shape, with the attributes that decide about it. Identity stands for all that keep
#: the shape of their first input.
_SAME_SHAPE = {
    "BiasGelu": ("Identity", ()),
    "FastGelu": ("Identity", ()),
    "FusedConv": ("Conv", ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")),
    "FusedGemm": ("Gemm", ("transA", "transB")),
    "Gelu": ("Identity", ()),
    "QuickGelu": ("Identity", ()),
    "SkipLayerNormalization": ("Identity", ()),
}
#: Operators on shapes, which are computed for their results.
_FOLDED = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Gather", "Identity",
    "Mul", "Range", "ReduceProd", "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
}  # fmt: skip
#: Weights are larger than this, and shapes smaller.
_MOST_NUMBERS = 64


def check_domains(model: onnx.ModelProto) -> None:
    """Raise a ModelError that names an operator which neither ONNX nor ONNX Runtime has."""
    own = {function.domain for function in model.functions}
    known = own.union(_STANDARD, ("ai.onnx.ml", _MICROSOFT))
    for node in model.graph.node:
        if node.domain not in known:
            raise ModelError(
                f"the tensor depends on {_described(node)}, which neither ONNX nor Pomona's ONNX "
                "Runtime has: export the network without custom operators, or choose a tensor "
                "before it"
            )


def with_batch(model: onnx.ModelProto, output: str, batch: int) -> onnx.ValueInfoProto:
    """Return type and shape of a tensor for a batch of a size; the graph's first input has it.

    Raises one of ONNX's errors if the network does not take such a batch.
    """
    trial = _trial(model, output, batch)
    inferred = onnx.shape_inference.infer_shapes(trial, strict_mode=True, data_prop=True)
    value: onnx.ValueInfoProto = inferred.graph.output[0]
    return value


def _trial(model: onnx.ModelProto, output: str, batch: int) -> onnx.ModelProto:
    """Return a copy of a model for one batch size, without weights and operators on shapes."""
    trial = onnx.ModelProto()
    trial.CopyFrom(model)
    graph = trial.graph
    graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    replace(graph.output, [onnx.ValueInfoProto(name=output)])
    _without_weights(graph)
    for node in graph.node:
        if node.domain == _MICROSOFT and node.op_type in _SAME_SHAPE:
            _replace_operator(node)
    while _fold(trial):
        pass
    return trial


def unknown(model: onnx.ModelProto, output: str) -> str:
    """Say which operator hides the shape of a tensor, and what to do."""
    trial = _trial(model, output, 2)
    shapes = inferred_shapes(trial)
    hiding = [
        node
        for node in trial.graph.node
        if any(name and None in shapes.get(name, [None]) for name in node.output)
    ]
    if not hiding:
        return ": simplify the file first (pip install onnxsim), or choose another tensor"
    described = f", because of {_described(hiding[0])}"
    if hiding[0].domain == _MICROSOFT:
        return (
            f"{described}, as ONNX Runtime's optimizer writes it: convert the file from before "
            "that optimization, or choose a tensor before it"
        )
    return (
        f"{described}: simplify the file first (pip install onnxsim), or choose a tensor before it"
    )


def _described(node: onnx.NodeProto) -> str:
    domain = "" if node.domain in _STANDARD else f" of the domain {node.domain}"
    return f"the operator {node.op_type}{domain} ({node.name or node.output[0]!r})"


def _without_weights(graph: onnx.GraphProto) -> None:
    """Turn weights into inputs: their shapes are enough, and copies of the model become small."""
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) > _MOST_NUMBERS]
    names = {tensor.name for tensor in large}
    graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in large
    )
    replace(graph.initializer, [item for item in graph.initializer if item.name not in names])


def _replace_operator(node: onnx.NodeProto) -> None:
    operator, attributes = _SAME_SHAPE[node.op_type]
    node.op_type, node.domain = operator, ""
    replace(node.attribute, [item for item in node.attribute if item.name in attributes])
    # The other inputs of these are biases, and their other outputs statistics.
    inputs = 1 if operator == "Identity" else 3
    del node.input[inputs:], node.output[1:]


def _fold(model: onnx.ModelProto) -> bool:
    """Replace the operators on shapes whose results are known; tell whether there were any."""
    graph = model.graph
    shapes = inferred_shapes(model)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept, folded = [], []
    for node in graph.node:
        result = _result(model, node, shapes, values)
        if result is None:
            kept.append(node)
        else:
            values[node.output[0]] = result
            folded.append(numpy_helper.from_array(result, node.output[0]))
    replace(graph.node, kept)
    graph.initializer.extend(folded)
    return bool(folded)


def _result(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    shapes: Mapping[str, Shape],
    values: Mapping[str, NDArray[Any]],
) -> NDArray[Any] | None:
    if node.domain not in _STANDARD:
        return None
    if node.op_type == "Shape":
        shape = shapes.get(node.input[0])
        if shape is None or None in shape:
            return None
        end = attribute(node, "end", len(shape))
        return np.asarray(shape[attribute(node, "start", 0) : end], np.int64)
    names = [name for name in node.input if name]
    if node.op_type not in _FOLDED or not all(name in values for name in names):
        return None
    types = [helper.np_dtype_to_tensor_dtype(values[name].dtype) for name in names]
    inputs = [helper.make_tensor_value_info(*pair, None) for pair in zip(names, types)]
    output = helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None)
    single = helper.make_model(
        helper.make_graph([node], "operator", inputs, [output]), opset_imports=model.opset_import
    )
    outputs: Any = ReferenceEvaluator(single).run(None, {name: values[name] for name in names})
    return np.asarray(outputs[0])
