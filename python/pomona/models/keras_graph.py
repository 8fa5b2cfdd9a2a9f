"""Unfolds the configuration of a Keras model: nested models become one graph of layer calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pomona._errors import ModelError
from pomona.models.keras_file import is_model, layer_name, layers_of

if TYPE_CHECKING:
    from typing import Any, List, Union

    from numpy.typing import NDArray

    from pomona.models.keras_file import Config, LayerPath

    Argument = Union["Call", NDArray[Any]]
    Outputs = List["Call"]

INPUT_LAYER = "InputLayer"


@dataclass(eq=False)
class Call:
    """One use of a layer that is not a model itself.

    Attributes
    ----------
    path : tuple of str
        The layer's name, after the names of the models it is nested in.
    kind : str
        The layer's class.
    config : dict
        The layer's own configuration.
    arguments : list of Call or numpy.ndarray
        What it is called with, in order: results of other calls, and constants.
    """

    path: LayerPath
    kind: str
    config: Config
    arguments: list[Argument] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The path, as text."""
        return "/".join(self.path)

    @property
    def sources(self) -> list[Call]:
        """The calls whose results this one takes."""
        return [argument for argument in self.arguments if isinstance(argument, Call)]


@dataclass(frozen=True)
class _Reference:
    """A tensor by the layer that makes it: which of its calls, which of that call's results."""

    layer: str
    call: int
    tensor: int


class ModelCalls:
    """All layer calls of a model, each after those it depends on.

    Parameters
    ----------
    model : dict
        ``class_name`` and ``config``, as Keras saves them.

    Raises
    ------
    ModelError
        If the model is not made of layers, as subclassed models are.
    """

    def __init__(self, model: Config) -> None:
        self.calls: list[Call] = []
        self._run(model, (), None)

    def consumers(self, call: Call) -> list[Call]:
        """Return the calls that take the result of one."""
        return [other for other in self.calls if call in other.sources]

    def ancestors(self, call: Call) -> list[Call]:
        """Return the calls that one depends on and itself, each after those it depends on."""
        needed = {id(call)}
        for other in reversed(self.calls):
            if id(other) in needed:
                needed.update(id(source) for source in other.sources)
        return [other for other in self.calls if id(other) in needed]

    def _run(self, model: Config, path: LayerPath, inputs: Outputs | None) -> Outputs:
        if not is_model(model):
            raise ModelError(
                f"the file holds a {model.get('class_name')!r}, which does not list its layers; "
                "expected a Functional or Sequential model (save its backbone on its own)"
            )
        if isinstance(model["config"], list) or "input_layers" not in model["config"]:
            return self._run_sequential(model, path, inputs)
        return self._run_functional(model, path, inputs)

    def _run_sequential(self, model: Config, path: LayerPath, inputs: Outputs | None) -> Outputs:
        layers = layers_of(model)
        if inputs is None and layers and layers[0]["class_name"] != INPUT_LAYER:
            # Keras 2 leaves the input layer out and gives its shape to the first layer.
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
        results: dict[str, list[tuple[int, Outputs]]] = {name: [] for name in layers}
        given = _references(config["input_layers"])
        for index, reference in enumerate(given):
            layer = layers[reference.layer]
            made = [self._call(layer, path, [])] if inputs is None else [inputs[index]]
            results[reference.layer].append((0, made))

        waiting = [
            (name, number, node)
            for name, layer in layers.items()
            for number, node in enumerate(layer.get("inbound_nodes", []))
        ]
        while waiting:
            postponed = []
            for name, number, node in waiting:
                arguments = _arguments(node)
                needed = [argument for argument in arguments if isinstance(argument, _Reference)]
                if any(_result(results, reference) is None for reference in needed):
                    postponed.append((name, number, node))
                    continue
                values = [self._value(results, argument) for argument in arguments]
                results[name].append((number, self._apply(layers[name], path, values)))
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

    def _value(
        self, results: dict[str, list[tuple[int, Outputs]]], argument: _Reference | NDArray[Any]
    ) -> Argument:
        if not isinstance(argument, _Reference):
            return argument
        value = _result(results, argument)
        if value is None:
            raise ModelError(f"layer {argument.layer!r} has no call {argument.call}")
        return value

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


def _result(results: dict[str, list[tuple[int, Outputs]]], reference: _Reference) -> Call | None:
    made = results.get(reference.layer, [])
    for number, outputs in made:
        if number == reference.call and reference.tensor < len(outputs):
            return outputs[reference.tensor]
    # Keras 2 counts the calls of a nested model from 1: 0 is the one that built it.
    for number, outputs in made:
        if number == reference.call - 1 and reference.tensor < len(outputs):
            return outputs[reference.tensor]
    return None


def _references(listed: Any) -> list[_Reference]:
    """Read ``input_layers`` or ``output_layers``: one reference, a list or a dictionary of them."""
    if isinstance(listed, dict):
        listed = list(listed.values())
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [_Reference(entry[0], entry[1], entry[2]) for entry in listed]


def _arguments(node: Any) -> list[_Reference | NDArray[Any]]:
    """Read what one call is given: tensors and numbers, in order.

    Keras 3 writes ``{"args": …, "kwargs": …}``; Keras 2 writes ``[layer, call, tensor, kwargs]``,
    once for each tensor or, for operations such as ``x / 2``, by itself.
    """
    if isinstance(node, dict):
        return _flatten([node.get("args", []), node.get("kwargs", {})])
    entries = [node] if node and isinstance(node[0], str) else node
    found: list[_Reference | NDArray[Any]] = []
    for entry in entries:
        if entry[0] == "_CONSTANT_VALUE":
            found.append(np.asarray(entry[2], dtype=np.float64))
        else:
            found.append(_Reference(entry[0], entry[1], entry[2]))
        for value in (entry[3] if len(entry) > 3 else {}).values():
            if isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
                found.append(_Reference(value[0], value[1], value[2]))
            else:
                found.extend(_flatten(value))
    return found


def _flatten(value: Any) -> list[_Reference | NDArray[Any]]:
    """Collect the tensors and numbers of nested arguments; flags, names and None are not data."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return []
    if isinstance(value, (int, float)):
        return [np.asarray(value, dtype=np.float64)]
    if isinstance(value, list):
        if value and all(_is_number(item) for item in value):
            return [np.asarray(value, dtype=np.float64)]
        return [found for item in value for found in _flatten(item)]
    if isinstance(value, dict):
        kind = value.get("class_name")
        if kind == "__keras_tensor__":
            return [_Reference(*value["config"]["keras_history"])]
        if kind in ("__tensor__", "__numpy__"):
            return [np.asarray(value["config"]["value"], dtype=np.float64)]
        return [found for item in value.values() for found in _flatten(item)]
    return []


def _is_number(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_number(item) for item in value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
