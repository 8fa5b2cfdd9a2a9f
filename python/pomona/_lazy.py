"""Public names that a package imports on first use (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable, Collection, Mapping


def _load(module: str, _name: str) -> Any:
    return importlib.import_module(module)


def lazy_names(
    package: str,
    modules: Mapping[str, str],
    load: Callable[[str, str], Any] = _load,
    submodules: Collection[str] = (),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` of a package whose public names are lazy.

    `modules` has the submodule that defines each public name. A package passes its own `load`,
    which takes the full name of a submodule and the public name, to explain a missing dependency.
    `submodules` are public names themselves: an attribute imports them.
    """

    def getattr_(name: str) -> Any:
        if name in submodules:
            try:
                return _load(f"{package}.{name}", name)
            except ImportError as error:
                # So that `help` and Tab, which ask for all names, pass over what is not installed.
                raise AttributeError(str(error)) from error
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(load(f"{package}.{modules[name]}", name), name)
        # Python calls ``__getattr__`` only for names that the package does not have yet.
        setattr(sys.modules[package], name, value)
        return value

    return getattr_, lambda: sorted([*modules, *submodules])
