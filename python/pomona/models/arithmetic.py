"""How much a model computes: the multiply-adds of its convolutions and matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable

import numpy as np

if TYPE_CHECKING:
    import onnx

#: Where a model file notes its multiply-adds an image, so that telling them needs no onnx.
MULTIPLY_ADDS = "pomona.multiply_adds"

#: The operators that multiply and add, and which input holds the weights.
_WEIGHTS = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
_MATRIX_PRODUCTS = {"Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"}


def multiply_adds(model: onnx.ModelProto) -> int | None:
    """Count the multiply-adds that a model takes for an image.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; float32 or quantised, which makes no difference to the number.

    Returns
    -------
    int or None
        The multiply-adds of all convolutions and matrix products; None where a shape is unknown,
        as behind operators that are not ONNX's own.
    """
    shapes = _shapes(model)
    count = 0
    for node in model.graph.node:
        if node.op_type not in _WEIGHTS:
            continue
        first = shapes.get(node.input[0])
        weights = shapes.get(node.input[_WEIGHTS[node.op_type]])
        output = shapes.get(node.output[0])
        if first is None or weights is None or output is None:
            return None
        if node.op_type in _MATRIX_PRODUCTS:
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            count += _product(output) * first[0 if transposed else -1]
        else:
            # Each value that comes out, or goes in where the convolution is transposed, meets
            # the kernels of its group.
            values = first if node.op_type == "ConvTranspose" else output
            count += _product(values) * _product(weights[1:])
    return count


def _product(sizes: Iterable[int]) -> int:
    return int(np.prod(list(sizes)))


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Tell the shapes for one image; tensors whose shape is not known are left out."""
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        if not kind.HasField("shape"):
            continue
        sizes = [size.dim_value if size.HasField("dim_value") else 0 for size in kind.shape.dim]
        if all(sizes[1:]):  # the first is the number of images
            shapes[value.name] = [size or 1 for size in sizes]
    return shapes
