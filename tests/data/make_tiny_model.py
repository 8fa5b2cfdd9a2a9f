"""Write the smallest networks that keep the model contract, for tests.

Usage: python tests/data/make_tiny_model.py

`tiny.onnx`: 8x8 RGB in, 16 features out by one convolution with fixed random weights, a ReLU and a
global average. `picky.onnx` is the same but for images with a value of 255 in them, on which it
fails: it looks their largest value up in a table that has no such row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 8
FEATURES = 16
OPSET = 13
IR_VERSION = 8


def tiny_model(*, picky: bool = False) -> onnx.ModelProto:
    """Build the model; the same bytes every time."""
    kernel = np.random.RandomState(0).uniform(-0.5, 0.5, (FEATURES, 3, 3, 3))
    constants = {
        "mean": np.float32(127.5),
        "scale": np.float32(127.5),
        "kernel": kernel.astype(np.float32),
        "bias": np.linspace(0, 1, FEATURES, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node(
            "Conv", ["scaled", "kernel", "bias"], ["maps"], strides=[2, 2], pads=[0, 0, 1, 1]
        ),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat" if picky else "features"]),
    ]
    if picky:
        constants["table"] = np.zeros((255, 1), np.float32)
        nodes += [
            helper.make_node("Cast", ["images"], ["integers"], to=TensorProto.INT32),
            helper.make_node("ReduceMax", ["integers"], ["largest"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Gather", ["table", "largest"], ["zeros"]),
            helper.make_node("Add", ["flat", "zeros"], ["features"]),
        ]
    name = "picky" if picky else "tiny"
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", FEATURES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="pomona",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    metadata = {
        "pomona.name": name,
        "pomona.resize": "bicubic",
        "pomona.source": "random weights, tests/data/make_tiny_model.py",
        "pomona.license": "Apache-2.0",
    }
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    folder = Path(__file__).parent
    onnx.save(tiny_model(), folder / "tiny.onnx")
    onnx.save(tiny_model(picky=True), folder / "picky.onnx")
