"""Atomic writing of files and folders."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Iterator

if TYPE_CHECKING:
    from pomona._typing import PathLike


@contextmanager
def atomic_file(path: PathLike) -> Iterator[BinaryIO]:
    """Write a file under a temporary name, and rename it when it is complete.

    A reader of `path` sees either the old file or the complete new one. If the block raises, the
    temporary file is removed and `path` is unchanged. After a power failure or SIGKILL, a hidden
    ``.pomona-….partial`` file may remain in the folder. If `path` is a symbolic link, the file it
    points to is replaced.

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
    partial = _partial(target)
    try:
        with partial.open("xb") as file:
            yield file
        publish(partial, target)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        # Errors of a file object have no name, and the temporary one means nothing to the user.
        if isinstance(error, OSError) and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise


def publish(partial: PathLike, path: PathLike) -> None:
    """Give a complete, closed file its final name in the same folder, durably.

    An existing file of that name is replaced.
    """
    target = check_writable(path)
    _sync(Path(partial))
    Path(partial).replace(target)
    # Some network and FUSE file systems cannot sync a folder. The rename is atomic even there.
    with suppress(OSError):
        _sync(target.parent)


@contextmanager
def atomic_folder(path: PathLike) -> Iterator[Path]:
    """Write a folder under a temporary name, and rename it when it is complete.

    An existing folder of that name is replaced. If the block raises, the temporary folder is
    removed and `path` is unchanged.
    """
    target = Path(path)
    partial = _partial(target)
    try:
        partial.mkdir()
        yield partial
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_writable(path: PathLike) -> Path:
    """Check that `path` can be created or replaced, before work is spent on its content.

    Replacing anything but a regular file, such as a folder or ``/dev/null``, would be a mistake.
    Returns the absolute path, with symbolic links resolved.
    """
    if not os.fspath(path):
        raise ValueError("the name of the file to write is empty")
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "folder does not exist", str(target.parent))
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "folder is not writable", str(target.parent))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder; give the name of a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a device or a pipe; give the name of a file", str(path))
    return target


def is_partial(name: str) -> bool:
    """Return whether a name is that of an unfinished file or folder, left by a process killed."""
    return name.startswith(".pomona-") and name.endswith(".partial")


def _partial(target: Path) -> Path:
    # Not derived from the target's name, which may already have the maximum length.
    return target.with_name(f".pomona-{uuid.uuid4().hex}.partial")


def _sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
