"""Reads the variables of Keras layers from the two layouts that Keras gives an HDF5 file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from pomona._errors import ModelError
from pomona.models.keras.config import is_model, layer_name, layers_of

if TYPE_CHECKING:
    from typing import Any, Sequence, Union

    from numpy.typing import NDArray

    from pomona.models.keras.config import Config, LayerPath

    Variables = Union["NamedVariables", "TreeVariables"]
    """The variables of the layers of one file."""

#: Names of the group that holds a model's layers: the first since Keras 2.16, the other before.
_LAYERS_GROUPS = ("layers", "_layer_checkpoint_dependencies")

# Keras 2 uses the long name for the kernel of a depthwise convolution, Keras 3 the short one.
_SYNONYMS = {"depthwise_kernel": "kernel"}


class NamedVariables:
    """Named variables of an HDF5 file with ``layer_names``: one group per top-level layer."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self.layers = names_in(root, "layer_names")

    def read(self, path: LayerPath, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return a layer's variables, by their names.

        The path is the layer's name after the names of the models it is nested in; `names` are the
        variables of its class in Keras' order.
        """
        if path[0] not in self.layers:
            raise ModelError(f"the file holds no variables of layer {path[0]!r}")
        datasets = {}
        for variable, name in self._variables(path[0]):
            scopes = variable.split(":")[0].split("/")
            if len(path) == 1 or scopes[-2:-1] == [path[-1]]:
                datasets[_SYNONYMS.get(scopes[-1], scopes[-1])] = name
        missing = [name for name in names if name not in datasets]
        if missing:
            raise ModelError(f"layer {'/'.join(path)!r} has no variable {', '.join(missing)}")
        return {name: _array(self._root[path[0]][datasets[name]]) for name in names}

    def in_order(self) -> list[tuple[str, list[NDArray[np.float64]]]]:
        """Return the layers that have variables, and these, in the order of the file."""
        layers = []
        for layer in self.layers:
            arrays = [_array(self._root[layer][name]) for _, name in self._variables(layer)]
            if arrays:
                layers.append((layer, arrays))
        return layers

    def holder_of(self, layer: str) -> str | None:
        """Return the top-level layer that has the variables of a nested layer."""
        for top in self.layers:
            if any(f"/{layer}/" in f"/{variable}" for variable, _ in self._variables(top)):
                return top
        return None

    def _variables(self, layer: str) -> list[tuple[str, str]]:
        """Return the full name of each variable and the name of its dataset."""
        stored = names_in(self._root[layer], "weight_names")
        return [(name if "/" in name else f"{layer}/{name}", name) for name in stored]


class TreeVariables:
    """Variables of a tree of ``layers/<class>_<count>/vars/<index>``."""

    def __init__(self, root: Any, config: Config | None) -> None:
        self._root = root
        self._groups: dict[LayerPath, Any] = {}
        if config is not None:
            self._index((), config, root)

    def _index(self, path: LayerPath, model: Config, group: Any) -> None:
        """Find the group of each layer: by the name stored in it, else by class and count."""
        children = layers_group(group)
        if children is None:
            return
        by_name = {_stored_name(child): child for child in children.values()}
        counts: dict[str, int] = {}
        for layer in layers_of(model):
            slug = snake_case(layer["class_name"])
            count = counts.get(slug, 0)
            counts[slug] = count + 1
            name = layer_name(layer)
            child = by_name.get(name)
            if child is None:
                child = children.get(f"{slug}_{count}" if count else slug)
            if child is None:
                continue
            layer_path = (*path, name)
            self._groups[layer_path] = child
            if is_model(layer):
                self._index(layer_path, layer, child)

    def read(self, path: LayerPath, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return a layer's variables, which the file holds in Keras' order; see NamedVariables."""
        group = self._groups.get(path)
        if group is None or "vars" not in group:
            raise ModelError(f"the file holds no variables of layer {'/'.join(path)!r}")
        stored = group["vars"]
        if len(stored) < len(names):
            raise ModelError(
                f"layer {'/'.join(path)!r} has {len(stored)} variable(s), "
                f"expected {', '.join(names)}"
            )
        return {name: _array(stored[str(index)]) for index, name in enumerate(names)}

    def backbone(self, kind: str, count: int) -> Any:
        """Return the layers of the model with ``count`` layers of a kind (``depthwise_conv2d``)."""
        waiting = [self._root]
        while waiting:
            children = layers_group(waiting.pop(0))
            if children is None:
                continue
            if f"{kind}_{count - 1}" in children:
                return children
            waiting.extend(children.values())
        return None


def snake_case(class_name: str) -> str:
    """Return the name of the group that Keras creates for a layer of a class.

    Examples
    --------
    >>> snake_case("DepthwiseConv2D"), snake_case("ReLU")
    ('depthwise_conv2d', 're_lu')
    """
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def names_in(group: Any, attribute: str) -> list[str]:
    """Read a list of names, which Keras splits into numbered parts if it is too long for HDF5."""
    if attribute in group.attrs:
        return [text_of(name) for name in group.attrs[attribute]]
    names: list[str] = []
    part = 0
    while f"{attribute}{part}" in group.attrs:
        names += [text_of(name) for name in group.attrs[f"{attribute}{part}"]]
        part += 1
    return names


def layers_group(group: Any) -> Any:
    """Return the group that holds the layers of a model; None if there is none."""
    if not hasattr(group, "keys"):
        return None
    for name in _LAYERS_GROUPS:
        if name in group:
            return group[name]
    return None


def text_of(value: Any) -> str:
    """Return an HDF5 attribute as text."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _stored_name(group: Any) -> str | None:
    """Return the layer's name, which Keras stores with its variables since 3.10."""
    if "vars" not in group or "name" not in group["vars"].attrs:
        return None
    return text_of(group["vars"].attrs["name"])


def _array(dataset: Any) -> NDArray[np.float64]:
    return np.asarray(dataset[()], dtype=np.float64)
