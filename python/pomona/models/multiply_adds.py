"""Counts the multiply-adds of a model's convolutions and matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

#: Metadata key for the multiply-adds per image, which can then be read without onnx.
MULTIPLY_ADDS = "pomona.multiply_adds"

_CONVOLUTIONS = ("Conv", "ConvInteger", "ConvTranspose", "QLinearConv")
_MATRIX_PRODUCTS = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")


def multiply_adds(model: onnx.ModelProto) -> int | None:
    """Count the multiply-adds of all convolutions and matrix products for one image.

    A model's float32 and int8 versions have the same count. None if a shape is unknown, for example
    after an operator that ONNX does not define.
    """
    import numpy as np

    from pomona.models.graph import attribute, inferred_shapes

    # The first size is the batch, of one image here.
    shapes = {
        name: [size or 1 for size in shape]
        for name, shape in inferred_shapes(model).items()
        if all(shape[1:])
    }
    count = 0
    for node in model.graph.node:
        if node.op_type not in (*_CONVOLUTIONS, *_MATRIX_PRODUCTS):
            continue
        first = shapes.get(node.input[0])
        # QLinear operators take the scale and zero point of the first input before the weights.
        weights = shapes.get(node.input[3 if node.op_type.startswith("QLinear") else 1])
        output = shapes.get(node.output[0])
        if first is None or weights is None or output is None:
            return None
        if node.op_type in _MATRIX_PRODUCTS:
            factor = first[0 if attribute(node, "transA", 0) else -1]
            count += int(np.prod(output)) * factor
        else:
            # Each output value, or each input value of a transposed convolution, is multiplied
            # with the kernels of its group.
            values = first if node.op_type == "ConvTranspose" else output
            count += int(np.prod(values)) * int(np.prod(weights[1:]))
    return count
