"""Reads what Keras writes: the layers' configuration and their variables, without Keras.

Three containers are in use, told apart by what is in them, never by their suffix:

========================================  ==================================================
HDF5 with ``layer_names``                 Keras 1 and 2, and Keras 3 for ``.h5``: variables by
                                          name, and the configuration if the whole model was saved
HDF5 with a tree of ``layers/*/vars``     ``save_weights("x.weights.h5")`` since Keras 2.12
zip of ``config.json`` and such a tree    ``save("x.keras")`` since Keras 2.12
========================================  ==================================================
"""

from __future__ import annotations

import io
import json
import pathlib
import re
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py  # type: ignore[import-untyped]
import numpy as np

from pomona._errors import ModelError

if TYPE_CHECKING:
    import os
    from typing import Any, Dict, Iterator, Sequence, Tuple

    from numpy.typing import NDArray

    Config = Dict[str, Any]
    LayerPath = Tuple[str, ...]
    """A layer's name, after the names of the models it is nested in."""

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

_TREE_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Names of the group that holds a model's layers: the first since Keras 2.16, the other before."""

# What a walk through a file meets where that has other parts, or parts of another kind, than Keras
# gives it; the last two are of archives that are encrypted or compressed in an unknown way, and of
# lists nested too deep.
_ODD = (AttributeError, IndexError, KeyError, TypeError, NotImplementedError, RuntimeError)

# Keras 2 calls a depthwise convolution's kernel by its long name, Keras 3 does not.
_SYNONYMS = {"depthwise_kernel": "kernel"}


class Variables:
    """The variables of the layers of one file."""

    def read(self, path: LayerPath, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return a layer's variables.

        Parameters
        ----------
        path : tuple of str
            Which layer.
        names : sequence of str
            The variables that a layer of its kind has, in Keras' order.

        Raises
        ------
        ModelError
            If the file does not hold them.
        """
        raise NotImplementedError


class NamedVariables(Variables):
    """Variables of HDF5 files with ``layer_names``: one group a top-level layer, one name each."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self.layers = _names(root, "layer_names")

    def read(self, path: LayerPath, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Return a layer's variables, found by their names."""
        if path[0] not in self.layers:
            raise ModelError(f"the file holds no variables of layer {path[0]!r}")
        found = {}
        for variable, name in self._variables(path[0]):
            scopes = variable.split(":")[0].split("/")
            if len(path) == 1 or scopes[-2:-1] == [path[-1]]:
                found[_SYNONYMS.get(scopes[-1], scopes[-1])] = name
        missing = [name for name in names if name not in found]
        if missing:
            raise ModelError(f"layer {'/'.join(path)!r} has no variable {', '.join(missing)}")
        return {name: _array(self._root[path[0]][found[name]]) for name in names}

    def in_order(self) -> list[tuple[str, list[NDArray[np.float64]]]]:
        """Return each layer that has variables, with them, in the order of the file."""
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
        """Return each variable's full name and the name of its data set."""
        stored = _names(self._root[layer], "weight_names")
        return [(name if "/" in name else f"{layer}/{name}", name) for name in stored]


class TreeVariables(Variables):
    """Variables of a tree of ``layers/<class>_<count>/vars/<index>``."""

    def __init__(self, root: Any, config: Config | None) -> None:
        self._root = root
        self._groups: dict[LayerPath, Any] = {}
        if config is not None:
            self._index((), config, root)

    def _index(self, path: LayerPath, model: Config, group: Any) -> None:
        """Find the group of each layer: by the name noted in it, else by class and count."""
        children = _container(group)
        if children is None:
            return
        by_name = {_noted_name(child): child for child in children.values()}
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
        """Return a layer's variables, which are stored in Keras' order."""
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
        """Return the container with at least ``count`` layers of a kind (``depthwise_conv2d``)."""
        waiting = [self._root]
        while waiting:
            children = _container(waiting.pop(0))
            if children is None:
                continue
            if f"{kind}_{count - 1}" in children:
                return children
            waiting.extend(children.values())
        return None


@dataclass(frozen=True)
class KerasFile:
    """An open file of Keras'.

    Attributes
    ----------
    config : dict or None
        The whole model's configuration; None if the file holds only weights.
    variables : Variables
        What its layers have learnt.
    """

    config: Config | None
    variables: Variables


@contextmanager
def open_keras_file(path: str | os.PathLike[str]) -> Iterator[KerasFile]:
    """Open a file that Keras wrote.

    Raises
    ------
    ModelError
        If it is not one or is damaged.
    """
    with pathlib.Path(path).open("rb") as file:
        magic = file.read(len(HDF5_MAGIC))
    try:
        if magic == HDF5_MAGIC:
            with h5py.File(path, "r") as root:
                yield _from_hdf5(root)
        elif magic.startswith(ZIP_MAGIC):
            with zipfile.ZipFile(path) as archive:
                config = json.loads(_member(archive, "config.json"))
                weights = io.BytesIO(_member(archive, "model.weights.h5"))
            with h5py.File(weights, "r") as root:
                yield KerasFile(config, TreeVariables(root, config))
        else:
            raise ModelError(
                f"the file begins with {magic!r}; expected a .h5 or .keras file that Keras wrote"
            )
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"the file is damaged or cut short: {error}") from error
    except _ODD as error:
        raise ModelError(
            f"the file is damaged or not as Keras writes it: {type(error).__name__}, {error}"
        ) from error


def _from_hdf5(root: Any) -> KerasFile:
    config = None
    if "model_config" in root.attrs:
        config = json.loads(_text(root.attrs["model_config"]))
    weights = root.get("model_weights", root)
    if _names(weights, "layer_names"):
        return KerasFile(config, NamedVariables(weights))
    if _container(root) is not None:
        return KerasFile(None, TreeVariables(root, None))
    raise ModelError(f"the HDF5 file holds {_listing(root)}; expected the layers of a Keras model")


def is_model(layer: Config) -> bool:
    """Tell whether a layer is a model with layers of its own."""
    return isinstance(layer["config"], list) or "layers" in layer["config"]


def layers_of(model: Config) -> list[Config]:
    """Return the configurations of a model's layers."""
    layers = model["config"]
    # Keras before 2.2.3 wrote a Sequential's layers without a dictionary around them.
    found = layers if isinstance(layers, list) else layers["layers"]
    return list(found)


def layer_name(layer: Config) -> str:
    """Return the name in a layer's configuration, empty if there is none."""
    config = layer["config"]
    named = config if isinstance(config, dict) and "name" in config else layer
    return str(named.get("name", ""))


def snake_case(class_name: str) -> str:
    """Return the name that Keras gives to the group of a layer of a class.

    Examples
    --------
    >>> snake_case("DepthwiseConv2D"), snake_case("ReLU")
    ('depthwise_conv2d', 're_lu')
    """
    name = re.sub(r"\W+", "", class_name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _names(group: Any, attribute: str) -> list[str]:
    """Read a list of names, which Keras cuts in numbered parts when it is too long for HDF5."""
    if attribute in group.attrs:
        return [_text(name) for name in group.attrs[attribute]]
    names: list[str] = []
    part = 0
    while f"{attribute}{part}" in group.attrs:
        names += [_text(name) for name in group.attrs[f"{attribute}{part}"]]
        part += 1
    return names


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise ModelError(
            f"the zip file holds {_listing(archive.namelist())}; expected a .keras file with {name}"
        )
    return archive.read(name)


def _container(group: Any) -> Any:
    if not hasattr(group, "keys"):
        return None
    for name in _TREE_CONTAINERS:
        if name in group:
            return group[name]
    return None


def _noted_name(group: Any) -> str | None:
    """Return the layer's name, which Keras notes beside its variables since 3.10."""
    if "vars" not in group or "name" not in group["vars"].attrs:
        return None
    return _text(group["vars"].attrs["name"])


def _array(dataset: Any) -> NDArray[np.float64]:
    return np.asarray(dataset[()], dtype=np.float64)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _listing(names: Any) -> str:
    first = [str(name) for name in names][:5]
    return (
        ", ".join(first) + (", …" if len(list(names)) > len(first) else "") if first else "nothing"
    )
