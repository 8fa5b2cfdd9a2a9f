"""Reads the configuration of a Keras model, with its nested models, as one graph of layer calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pomona._errors import ModelError

if TYPE_CHECKING:
    from typing import Any, Dict, List, Tuple, Union

    from numpy.typing import NDArray

    Config = Dict[str, Any]
    LayerPath = Tuple[str, ...]
    """A layer's name, after the names of the models it is nested in."""

    Argument = Union["Call", NDArray[Any]]
    Outputs = List["Call"]
    Results = Dict[Tuple[str, int], Outputs]
    """What each call of each layer makes, by the layer's name and the call's number."""

INPUT_LAYER = "InputLayer"


def is_model(layer: Config) -> bool:
    """Tell whether a layer is a model that has layers itself."""
    return isinstance(layer["config"], list) or "layers" in layer["config"]


def layers_of(model: Config) -> list[Config]:
    """Return the configurations of a model's layers."""
    layers = model["config"]
    # Keras before 2.2.3 wrote a Sequential's layers without a dictionary around them.
    return list(layers if isinstance(layers, list) else layers["layers"])


def layer_name(layer: Config) -> str:
    """Return the name in a layer's configuration; empty if it has none."""
    config = layer["config"]
    named = config if isinstance(config, dict) and "name" in config else layer
    return str(named.get("name", ""))


@dataclass(eq=False)
class Call:
    """A use of a layer that is not itself a model."""

    path: LayerPath
    #: The layer's class and its own configuration.
    kind: str
    config: Config
    #: Results of other calls, and constants, in order.
    arguments: list[Argument]

    @property
    def name(self) -> str:
        """The path, as text."""
        return "/".join(self.path)

    @property
    def sources(self) -> list[Call]:
        """The calls whose results are arguments of this one."""
        return [argument for argument in self.arguments if isinstance(argument, Call)]


class _Reference(NamedTuple):
    """A tensor: the layer that makes it, which call of the layer, which result of the call."""

    layer: str
    call: int
    tensor: int


class ModelCalls:
    """All layer calls of a model, each after those it depends on.

    The model is ``class_name`` and ``config``, as Keras saves them. Raises a ModelError if it is
    not made of layers, as subclassed models are.
    """

    def __init__(self, model: Config) -> None:
        self.calls: list[Call] = []
        self._run(model, (), None)

    def consumers(self, call: Call) -> list[Call]:
        """Return the calls that take the result of a call."""
        return [other for other in self.calls if call in other.sources]

    def ancestors(self, call: Call) -> list[Call]:
        """Return a call and all calls it depends on, each after those it depends on."""
        needed = {call}
        for other in reversed(self.calls):
            if other in needed:
                needed.update(other.sources)
        return [other for other in self.calls if other in needed]

    def _run(self, model: Config, path: LayerPath, inputs: Outputs | None) -> Outputs:
        if not is_model(model):
            raise ModelError(
                f"the file holds a {model.get('class_name')!r}, which does not list its layers; "
                "expected a Functional or Sequential model (save its backbone on its own)"
            )
        is_functional = "input_layers" in model["config"]
        run = self._run_functional if is_functional else self._run_sequential
        return run(model, path, inputs)

    def _run_sequential(self, model: Config, path: LayerPath, inputs: Outputs | None) -> Outputs:
        layers = layers_of(model)
        if inputs is None and layers and layers[0]["class_name"] != INPUT_LAYER:
            # Keras 2 omits the input layer and gives its shape to the first layer.
            shape = _built_shape(model)
            inputs = [self._call({"class_name": INPUT_LAYER, "config": shape}, path, [])]
        current: Outputs = inputs or []
        for layer in layers:
            if layer["class_name"] == INPUT_LAYER and inputs is not None:
                continue
            current = self._apply(layer, path, list(current))
        return current

    def _run_functional(self, model: Config, path: LayerPath, inputs: Outputs | None) -> Outputs:
        config = model["config"]
        layers = {layer_name(layer): layer for layer in layers_of(model)}
        results: Results = {}
        for index, reference in enumerate(_references(config["input_layers"])):
            layer = layers[reference.layer]
            source = self._call(layer, path, []) if inputs is None else inputs[index]
            results[reference.layer, 0] = [source]

        waiting = [
            (name, number, node)
            for name, layer in layers.items()
            for number, node in enumerate(layer.get("inbound_nodes", []))
        ]
        while waiting:
            postponed = []
            for name, number, node in waiting:
                needed = _arguments(node)
                arguments = [a for a in (_value(results, n) for n in needed) if a is not None]
                if len(arguments) < len(needed):
                    postponed.append((name, number, node))
                else:
                    results[name, number] = self._apply(layers[name], path, arguments)
            if len(postponed) == len(waiting):
                raise ModelError(
                    f"layer {'/'.join((*path, postponed[0][0]))!r} is called with a tensor "
                    "that no other layer makes"
                )
            waiting = postponed
        outputs = [
            _result(results, reference) for reference in _references(config["output_layers"])
        ]
        return [output for output in outputs if output is not None]

    def _apply(self, layer: Config, path: LayerPath, arguments: list[Argument]) -> Outputs:
        if not is_model(layer):
            return [self._call(layer, path, arguments)]
        sources = [argument for argument in arguments if isinstance(argument, Call)]
        return self._run(layer, (*path, layer_name(layer)), sources)

    def _call(self, layer: Config, path: LayerPath, arguments: list[Argument]) -> Call:
        call = Call((*path, layer_name(layer)), layer["class_name"], layer["config"], arguments)
        self.calls.append(call)
        return call


def _built_shape(model: Config) -> Config:
    config = model["config"]
    first = layers_of(model)[0]["config"]
    shape = None if isinstance(config, list) else config.get("build_input_shape")
    if shape is None and isinstance(first, dict):
        shape = first.get("batch_input_shape")
    return {"name": "input", "batch_shape": shape}


def _value(results: Results, argument: _Reference | NDArray[Any]) -> Argument | None:
    return _result(results, argument) if isinstance(argument, _Reference) else argument


def _result(results: Results, reference: _Reference) -> Call | None:
    """Return the call that makes a tensor; None if it has not been made yet."""
    # Keras 2 counts the calls of a nested model from 1: call 0 built it.
    for number in (reference.call, reference.call - 1):
        outputs = results.get((reference.layer, number), [])
        if reference.tensor < len(outputs):
            return outputs[reference.tensor]
    return None


def _references(listed: Any) -> list[_Reference]:
    """Read ``input_layers`` or ``output_layers``: a reference, or a list or dictionary of them."""
    if isinstance(listed, dict):
        listed = list(listed.values())
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [_Reference(*entry[:3]) for entry in listed]


def _arguments(node: Any) -> list[_Reference | NDArray[Any]]:
    """Read the arguments of a call: tensors and numbers, in order.

    Keras 3 writes ``{"args": …, "kwargs": …}``. Keras 2 writes a list with
    ``[layer, call, tensor, kwargs]`` for each tensor, or only one of these for operations such as
    ``x / 2``.
    """
    if isinstance(node, dict):
        return _flatten([node.get("args", []), node.get("kwargs", {})])
    entries = [node] if node and isinstance(node[0], str) else node
    arguments: list[_Reference | NDArray[Any]] = []
    for entry in entries:
        if entry[0] == "_CONSTANT_VALUE":
            arguments.append(np.asarray(entry[2], dtype=np.float64))
        else:
            arguments.append(_Reference(*entry[:3]))
        for value in (entry[3] if len(entry) > 3 else {}).values():
            if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
                arguments.append(_Reference(*value))
            else:
                arguments.extend(_flatten(value))
    return arguments


def _flatten(value: Any) -> list[_Reference | NDArray[Any]]:
    """Collect the tensors and numbers of nested arguments, without flags, names and None."""
    if _is_number(value):
        return [np.asarray(value, dtype=np.float64)]
    if isinstance(value, list):
        return [argument for item in value for argument in _flatten(item)]
    if isinstance(value, dict):
        kind = value.get("class_name")
        if kind == "__keras_tensor__":
            return [_Reference(*value["config"]["keras_history"])]
        if kind in ("__tensor__", "__numpy__"):
            return [np.asarray(value["config"]["value"], dtype=np.float64)]
        return [argument for item in value.values() for argument in _flatten(item)]
    return []


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number or a nested list of numbers."""
    if isinstance(value, list):
        return bool(value) and all(_is_number(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
