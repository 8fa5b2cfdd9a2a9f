"""Which files are photos, and where in a folder tree they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    PathLike = str | os.PathLike[str]

#: Endings of the formats that decode; compared in lower case.
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
    """Tell by a file's name whether it is a photo.

    Examples
    --------
    >>> is_image("Apple/0_100.JPG"), is_image("Apple/notes.txt"), is_image("jpg")
    (True, False, False)
    """
    return os.fspath(path).lower().endswith(IMAGE_EXTENSIONS)


def label_of(path: PathLike) -> str:
    """Give the label of a photo: the name of the folder it is in.

    Examples
    --------
    >>> label_of("Test/Apple Braeburn/3_100.jpg")
    'Apple Braeburn'
    """
    folder = Path(path).parent
    # "photo.jpg" and "../photo.jpg" do not name their folder.
    return (folder.resolve() if folder.name in ("", "..") else folder).name


def utf8_text(name: str) -> str:
    r"""Make a file name valid Unicode: bytes that are not UTF-8 become ``\xNN``.

    Parquet holds only valid UTF-8, and a name that stays readable and different from its
    neighbours is worth more than a question mark.

    Examples
    --------
    >>> print(utf8_text(os.fsdecode(b"caf\xe9.jpg")))
    caf\xe9.jpg
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    r"""Make text fit for one line of a terminal: control characters become escapes.

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
    """What a walk met, besides the photos it yielded."""

    #: Photos, going by their names.
    images: int = 0
    #: Files that are no photos, and hidden files and folders.
    others: int = 0
    #: Folders that could not be listed, with the reason.
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def find_images(*roots: PathLike, tally: Tally | None = None) -> Iterator[str]:
    """Find the photos in folders, in the order of their paths.

    Folders are listed one at a time, so memory holds the names of one folder and of those above
    it. Links to folders are followed, and each real folder is read once, which ends loops. Names
    that start with a dot are skipped: thumbnails, checkpoints, and the ``._photo.jpg`` that macOS
    leaves in archives. Whatever has a photo's name is yielded, also what cannot be read as one
    (a dangling link, a pipe, a folder): whoever reads it gets to report it.

    Parameters
    ----------
    *roots
        Folders or files. A file named here is yielded whatever its name.
    tally
        Counts what was met.

    Yields
    ------
    str
        A path that starts with the root as it was given.

    Raises
    ------
    OSError
        A root does not exist or cannot be reached.
    ValueError
        A root is empty text, such as a shell makes of a variable that is not set.
    """
    tally = Tally() if tally is None else tally
    if "" in map(os.fsdecode, roots):
        raise ValueError("an empty path to photos: name a folder, or . for this one")
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
    # A stack of listings, not recursion: folders may be nested deeper than Python's calls.
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
    """List a folder, sub-folders ending in a slash so that sorting names sorts whole paths."""
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
    except OSError:  # a link that leads to itself
        return False
