"""Where a model comes from: find one, pull one, convert one, make it int8, look into one.

``home`` and ``resolve`` need only the standard library, so that a cluster's worker can use them.
``convert``, ``pull``, ``quantize`` and ``info`` read and write ONNX and HDF5 files; they need the
extra ``pomona[models]`` and are imported on first use.

Examples
--------
>>> import pomona.models
>>> pomona.models.home().is_absolute()
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pomona.models.store import home, resolve

if TYPE_CHECKING:
    from typing import Any

    from pomona.models.converter import convert
    from pomona.models.inspection import info
    from pomona.models.quantizer import quantize
    from pomona.models.sources import pull

__all__ = ["convert", "home", "info", "pull", "quantize", "resolve"]

_LAZY = {
    "convert": "converter",
    "info": "inspection",
    "pull": "sources",
    "quantize": "quantizer",
}
_EXTRA_MODULES = {"onnx", "h5py", "google"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
    except ImportError as error:
        if (error.name or "").split(".")[0] not in _EXTRA_MODULES:
            raise
        raise ImportError(
            f"pomona.models.{name} needs the package {error.name!r}: pip install 'pomona[models]'",
            name=error.name,
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
