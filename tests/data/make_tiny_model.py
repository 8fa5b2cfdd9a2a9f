"""Write `tiny.onnx`, the smallest network that keeps the model contract, for tests.

Usage: python tests/data/make_tiny_model.py

8x8 RGB in, 16 features out: one convolution with fixed random weights, a ReLU and a global average.
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


def tiny_model() -> onnx.ModelProto:
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
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
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
        "pomona.name": "tiny",
        "pomona.resize": "bicubic",
        "pomona.source": "random weights, tests/data/make_tiny_model.py",
        "pomona.license": "Apache-2.0",
    }
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    onnx.save(tiny_model(), Path(__file__).with_name("tiny.onnx"))
