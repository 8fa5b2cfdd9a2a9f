"""Finds photos in folder trees."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from pomona._typing import PathLike

#: Extensions of the formats that Pomona decodes, in lower case.
IMAGE_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
)


def is_image(path: PathLike) -> bool:
    """Return whether a file is a photo, judging by its extension.

    Examples
    --------
    >>> is_image("Apple/0_100.JPG"), is_image("Apple/notes.txt"), is_image("jpg")
    (True, False, False)
    """
    return os.fspath(path).lower().endswith(IMAGE_EXTENSIONS)


def label_of(path: PathLike) -> str:
    """Return the label of a photo: the name of its folder.

    Examples
    --------
    >>> label_of("Test/Apple Braeburn/3_100.jpg")
    'Apple Braeburn'
    """
    folder = Path(path).parent
    # The folder's name is not part of "photo.jpg" and "../photo.jpg".
    return (folder.resolve() if folder.name in ("", "..") else folder).name


def utf8_text(name: str) -> str:
    r"""Make a file name valid Unicode: bytes that are not UTF-8 become ``\xNN``.

    Parquet stores only valid UTF-8. Escapes keep names readable and distinct, which replacement
    characters would not.

    Examples
    --------
    >>> print(utf8_text(os.fsdecode(b"caf\xe9.jpg")))
    caf\xe9.jpg
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    r"""Fit text into one line of a terminal: control characters become escapes.

    Examples
    --------
    >>> print(one_line("two\nlines.jpg"))
    two\nlines.jpg
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


@dataclass
class Tally:
    """Counts of what a walk over folders found."""

    #: Photos, judging by their extensions.
    images: int = 0
    #: Files that are not photos, and hidden files and folders.
    others: int = 0
    #: Folders that could not be listed, with the reason.
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find_images(*roots: PathLike, tally: Tally | None = None) -> Iterator[str]:
    """Find the photos in folders, in the order of their paths.

    Folders are listed one at a time, so memory holds the names in one folder and in its parents.
    Links to folders are followed, and every real folder is read once, so that loops end. Names that
    start with a dot are skipped: thumbnails, checkpoints, and the ``._photo.jpg`` files that macOS
    leaves in archives. Everything with the extension of a photo is yielded, even if it cannot be
    read as one (a dangling link, a pipe, a folder), so that the reader can report it.

    The roots are folders or files; a file given as a root is yielded whatever its extension. Every
    path starts with its root, and `tally` is updated with counts. An unset shell variable gives an
    empty root, which is a ValueError.
    """
    tally = Tally() if tally is None else tally
    if "" in map(os.fsdecode, roots):
        raise ValueError("the path of the photos is empty: name a folder, or . for the current one")
    seen: set[tuple[int, int]] = set()
    for root in roots:
        path = os.fsdecode(root)
        Path(path).lstat()
        if Path(path).is_dir():
            yield from _walk(path.rstrip("/"), seen, tally)
        else:
            tally.images += 1
            yield path


def _walk(root: str, seen: set[tuple[int, int]], tally: Tally) -> Iterator[str]:
    # An explicit stack, because folders may be nested deeper than Python's recursion limit.
    stack = [(root, iter(_listing(root, seen, tally)))]
    while stack:
        folder, names = stack[-1]
        name = next(names, None)
        if name is None:
            stack.pop()
            continue
        path = f"{folder}/{name}".rstrip("/")
        is_folder = name.endswith("/")
        if name.startswith("."):
            tally.others += 1
            continue
        if is_image(path):
            tally.images += 1
            yield path
        elif not is_folder:
            tally.others += 1
        if is_folder:
            stack.append((path, iter(_listing(path, seen, tally))))


def _listing(folder: str, seen: set[tuple[int, int]], tally: Tally) -> list[str]:
    """List a folder. Sub-folders end in a slash, so that sorting names sorts whole paths."""
    try:
        with os.scandir(folder or "/") as entries:
            status = Path(folder or "/").stat()
            if (status.st_dev, status.st_ino) in seen:
                return []
            seen.add((status.st_dev, status.st_ino))
            return sorted(
                f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries
            )
    except OSError as error:
        tally.unreadable.append((folder, error.strerror or str(error)))
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False
