"""Finds, pulls, converts, quantizes and describes models.

`home` and `resolve` need only the standard library, so that any machine can find a model.
`convert`, `pull`, `quantize` and `info` read and write ONNX and HDF5 files: they need the extra
``pomona[models]`` and are imported on first use.

Examples
--------
>>> import pomona.models
>>> pomona.models.home().is_absolute()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._optional import require
from pomona.models.store import home, resolve

if TYPE_CHECKING:
    from typing import Any

    from pomona.models.converter import convert
    from pomona.models.inspection import info
    from pomona.models.int8.quantizer import quantize
    from pomona.models.sources import pull

__all__ = ["convert", "home", "info", "pull", "quantize", "resolve"]

_LAZY = {
    "convert": "converter",
    "info": "inspection",
    "pull": "sources",
    "quantize": "int8.quantizer",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    function = f"{__name__}.{name}"
    return getattr(require(f"{__name__}.{_LAZY[name]}", "models", function), name)


def __dir__() -> list[str]:
    return sorted(__all__)
