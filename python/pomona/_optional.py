"""Imports modules that only an extra of Pomona installs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


def require(module: str, extra: str, needed_for: str, *, advice: str = "") -> Any:
    """Import a module, or say which extra of Pomona installs what is missing.

    Parameters
    ----------
    module : str
        The module's full name, such as ``"pyarrow.parquet"``. It may also be a module of Pomona
        that imports an optional package.
    extra : str
        The extra that installs it, such as ``"report"``.
    needed_for : str
        Subject of the message, in the singular: ``"the report"`` gives "the report needs
        matplotlib: pip install 'pomona[report]'".
    advice : str
        Ends the message, after a comma: ``"on every node"``.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    ImportError
        If a package is missing. ``name`` is the missing module. An import that fails inside Pomona
        itself is a fault, and its own error passes unchanged.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        if missing.partition(".")[0] == "pomona":
            raise
        ending = f", {advice}" if advice else ""
        raise ImportError(
            f"{needed_for} needs {missing}: pip install 'pomona[{extra}]'{ending}", name=missing
        ) from error
