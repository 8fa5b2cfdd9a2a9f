"""Finds, pulls, converts, quantizes and describes models.

`home` and `resolve` need only the standard library, so that any machine can find a model.
`convert`, `pull`, `quantize` and `info` read and write ONNX and HDF5 files: they need the extra
``pomona[models]``. All are imported on first use.

Examples
--------
>>> import pomona.models
>>> pomona.models.home().is_absolute()
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazy_names
from pomona._optional import require

if TYPE_CHECKING:
    from pomona.models.converter import convert
    from pomona.models.inspection import info
    from pomona.models.int8.quantizer import quantize
    from pomona.models.sources import pull
    from pomona.models.store import home, resolve
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "convert": "converter",
            "home": "store",
            "info": "inspection",
            "pull": "sources",
            "quantize": "int8.quantizer",
            "resolve": "store",
        },
        lambda module, name: require(module, "models", f"{__name__}.{name}"),
    )

__all__ = ["convert", "home", "info", "pull", "quantize", "resolve"]
