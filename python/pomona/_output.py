"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Iterator

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]


@contextmanager
def atomic_file(path: PathLike) -> Iterator[BinaryIO]:
    """Write a file under a temporary name and give it its own name when it is complete.

    Whoever opens `path` finds the old file or the whole new one. When the block raises, the
    temporary file is removed and `path` is as it was; after a power cut or SIGKILL a hidden
    ``.pomona-….partial`` may remain beside it.

    Parameters
    ----------
    path
        The file to write. A symbolic link is followed, so the link stays.

    Yields
    ------
    BinaryIO
        The file, open for writing.

    Raises
    ------
    OSError
        The folder cannot be written, the disk is full, or `path` is a folder, a device or a pipe.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with atomic_file(Path(folder.name, "summary.json")) as file:
    ...     _ = file.write(b"{}")
    >>> os.listdir(folder.name)
    ['summary.json']
    >>> folder.cleanup()
    """
    target = check_writable(path)
    # A name of its own, not the target's with an ending: that may be as long as names can be.
    partial = target.with_name(f".pomona-{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        publish(partial, target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        # Writing through a handle fails without a name, and nobody knows the temporary one.
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise


def publish(partial: PathLike, path: PathLike) -> None:
    """Give a complete file its final name, durably.

    Parameters
    ----------
    partial
        The complete file, closed, in the same folder as `path`.
    path
        Its final name; a file of that name is replaced.

    Raises
    ------
    OSError
        The file could not be written to disk or renamed.
    """
    target = check_writable(path)
    _sync(Path(partial))
    Path(partial).replace(target)
    # Some network and FUSE file systems cannot sync a folder; the rename is still atomic there.
    with suppress(OSError):
        _sync(target.parent)


def check_writable(path: PathLike) -> Path:
    """Check that `path` names a file to create or to replace, before work is spent on it.

    Returns
    -------
    Path
        The file itself: absolute, symbolic links followed.

    Raises
    ------
    OSError
        There is no such folder, it cannot be written, or the path names something that is not a
        regular file: replacing ``/dev/null`` or a folder is never what was meant.
    ValueError
        The path is empty text.
    """
    if not os.fspath(path):
        raise ValueError("the name of the file to write is empty")
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(target.parent))
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "the folder cannot be written to", str(target.parent))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; name a file in it", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a device or a pipe; name a file to write", str(path))
    return target


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's list of names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
