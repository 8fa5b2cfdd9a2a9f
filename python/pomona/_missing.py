"""Paths that do not exist, refused before any work and with the name that was probably meant."""

from __future__ import annotations

import errno
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Iterable

from pomona._suggest import closest

if TYPE_CHECKING:
    from pomona._typing import PathLike

#: Names of a folder that are compared with a missing one.
_COMPARED = 10_000


def not_found(path: PathLike) -> FileNotFoundError:
    """Make the error of a path that does not exist.

    Examples
    --------
    >>> not_found("/tmpp/photos").strerror
    'No such file or directory; did you mean /tmp?'
    """
    text = os.fsdecode(path)
    message = os.strerror(errno.ENOENT)
    near = _near(Path(text))
    if near:
        message += f"; did you mean {near}?"
    return FileNotFoundError(errno.ENOENT, message, text)


def check_exist(paths: Iterable[PathLike]) -> None:
    """Raise FileNotFoundError for the first local path that does not exist."""
    for path in paths:
        # An empty path has an error of its own.
        if os.fspath(path) and not os.path.lexists(path):
            raise not_found(path)


def _near(path: Path) -> str | None:
    """Find a name like the first missing part of a path, in the folder that should have it."""
    for missing in (path, *path.parents):
        folder = missing.parent
        if folder.is_dir():
            try:
                with os.scandir(folder) as entries:
                    names = [entry.name for entry in islice(entries, _COMPARED)]
            except OSError:
                return None
            near = closest(missing.name, names)
            return None if near is None else str(folder / near)
    return None
