"""Opens the files that Keras saves, without Keras.

There are three formats. The content of a file decides between them, never its suffix:

========================================  ==================================================
HDF5 with ``layer_names``                 Keras 1 and 2, and Keras 3 for ``.h5``: named
                                          variables, and the configuration of a whole model
HDF5 with a tree of ``layers/*/vars``     ``save_weights("x.weights.h5")`` since Keras 2.12
zip of ``config.json`` and such a tree    ``save("x.keras")`` since Keras 2.12
========================================  ==================================================
"""

from __future__ import annotations

import io
import json
import pathlib
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py  # type: ignore[import-untyped]

from pomona._errors import ModelError
from pomona.models.keras.variables import (
    NamedVariables,
    TreeVariables,
    layers_group,
    names_in,
    text_of,
)

if TYPE_CHECKING:
    from typing import Any, Iterator

    from pomona._typing import PathLike
    from pomona.models.keras.config import Config
    from pomona.models.keras.variables import Variables

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
ZIP_MAGIC = b"PK\x03\x04"

# The errors of reading a file whose parts are missing or of another type than Keras writes. The
# last two come from archives that are encrypted or compressed in an unknown way, and from lists
# that are nested too deep.
_MALFORMED = (AttributeError, IndexError, KeyError, TypeError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class KerasFile:
    """An open Keras file."""

    #: The configuration of the model; None if the file holds only weights.
    config: Config | None
    #: The variables of its layers.
    variables: Variables


@contextmanager
def open_keras_file(path: PathLike) -> Iterator[KerasFile]:
    """Open a file that Keras wrote; raises a ModelError for damaged and other files."""
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
    except _MALFORMED as error:
        raise ModelError(
            f"the file is damaged or not as Keras writes it: {type(error).__name__}, {error}"
        ) from error


def _from_hdf5(root: Any) -> KerasFile:
    config = None
    if "model_config" in root.attrs:
        config = json.loads(text_of(root.attrs["model_config"]))
    weights = root.get("model_weights", root)
    if names_in(weights, "layer_names"):
        return KerasFile(config, NamedVariables(weights))
    if layers_group(root) is not None:
        return KerasFile(None, TreeVariables(root, None))
    raise ModelError(f"the HDF5 file holds {_listing(root)}; expected the layers of a Keras model")


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        raise ModelError(
            f"the zip file holds {_listing(archive.namelist())}; expected a .keras file with {name}"
        )
    return archive.read(name)


def _listing(names: Any) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:5] + ["…"] * (len(names) > 5)) or "nothing"
