"""Finds photos in folder trees."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Mapping

if TYPE_CHECKING:
    from pomona._typing import PathLike

#: Extensions of the formats that Pomona decodes, in lower case.
IMAGE_EXTENSIONS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".jif",
    ".mpo",
    ".png",
    ".apng",
    ".webp",
    ".gif",
    ".bmp",
    ".dib",
    ".tif",
    ".tiff",
    ".heic",
    ".heif",
    ".hif",
    ".avif",
)

_RAW = "RAW photos"
_VIDEO = "videos"
#: Extensions of photos and videos that Pomona does not decode, and their formats.
_UNREAD_FORMATS = {
    **dict.fromkeys(
        (".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".kdc", ".mrw", ".nef"), _RAW
    ),
    **dict.fromkeys(
        (".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srw", ".x3f"), _RAW
    ),
    **dict.fromkeys((".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"), _VIDEO),
    **dict.fromkeys((".j2k", ".jp2", ".jpf", ".jpx"), "JPEG 2000"),
    **dict.fromkeys((".jxr", ".wdp"), "JPEG XR"),
    ".ico": "icons",
    ".jls": "JPEG-LS",
    ".jxl": "JPEG XL",
    ".pdf": "PDF",
    ".psd": "Photoshop",
    ".svg": "SVG",
}
#: Files that systems leave among photos, by their names in lower case.
_SYSTEM_FILES = {name.lower(): name for name in (".DS_Store", "desktop.ini", "Thumbs.db")}
# Kinds of files that are not named by an extension.
_APPLE_DOUBLE = "._*"
_EMR_FOLDER = "_$folder$"
_HIDDEN = "hidden"
_NO_EXTENSION = "without an extension"
_OTHERS = "with other extensions"
#: Photos that Spark's ``binaryFile`` hides: names that start with an underscore.
HIDDEN_BY_SPARK = "_*"
#: Links to folders that are searched under their own names.
LINKS = "links to folders"
#: Photos that Spark cannot have.
NOT_UTF8 = "names that are not UTF-8"
DANGLING = "broken links"
#: What to say about a kind.
_NOTES = {
    **{extension: f"{name}, not supported" for extension, name in _UNREAD_FORMATS.items()},
    HIDDEN_BY_SPARK: "photos that Spark's reader skips",
    LINKS: "which are searched under their own names",
    NOT_UTF8: "which Spark requires",
}
#: Kinds that a tally always counts separately.
_NAMED_KINDS = frozenset(
    (
        *_UNREAD_FORMATS,
        *_SYSTEM_FILES.values(),
        DANGLING,
        LINKS,
        NOT_UTF8,
        _APPLE_DOUBLE,
        _EMR_FOLDER,
        _HIDDEN,
        _NO_EXTENSION,
        _OTHERS,
    )
)
#: Other extensions that a tally counts separately, so that odd names do not fill the memory.
_EXTENSIONS_COUNTED = 20
#: A longer text after the last dot of a name is not an extension.
_EXTENSION_LENGTH = 10


def is_image(path: PathLike) -> bool:
    """Return whether a file is a photo, judging by its extension.

    Examples
    --------
    >>> is_image("Apple/0_100.JPG"), is_image("Apple/notes.txt"), is_image("jpg")
    (True, False, False)
    """
    return os.fspath(path).lower().endswith(IMAGE_EXTENSIONS)


def is_hidden(name: str) -> bool:
    """Return whether the name of a file or folder is hidden, so that no listing includes it."""
    return name.startswith(".")


def label_of(path: PathLike) -> str:
    """Return the label of a photo: the name of its folder, in Unicode's composed form (NFC).

    macOS may store the accents of a name as characters of their own (NFD). Both spellings look the
    same and are one label.

    Examples
    --------
    >>> label_of("Test/Apple Braeburn/3_100.jpg")
    'Apple Braeburn'
    """
    folder = Path(path).parent
    # The folder's name is not part of "photo.jpg" and "../photo.jpg".
    name = (folder.resolve() if folder.name in ("", "..") else folder).name
    return composed(name)


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", name)


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
    """Counts of what a listing of folders contains."""

    #: Photos, judging by their extensions.
    images: int = 0
    #: Files that are not photos, and hidden files and folders, by kind: an extension in lower case,
    #: ``.DS_Store``, ``._*``, ``hidden`` …
    left_out: dict[str, int] = field(default_factory=dict)
    #: Folders that could not be listed, with the reason.
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    #: Names of folders that are not in Unicode's composed form, which labels have.
    decomposed: set[str] = field(default_factory=set)

    def enter(self, folder: str) -> None:
        """Note the name of a folder that is searched."""
        if composed(folder) != folder:
            self.decomposed.add(folder)

    def leave_out(self, name: str) -> None:
        """Count a file that is not a photo, or a hidden file or folder, by its name."""
        self.count(_kind_of(name))

    def count(self, kind: str) -> None:
        """Count something that is left out, by its kind."""
        if kind not in self.left_out and kind not in _NAMED_KINDS:
            extensions = self.left_out.keys() - _NAMED_KINDS
            if len(extensions) >= _EXTENSIONS_COUNTED:
                kind = _OTHERS
        self.left_out[kind] = self.left_out.get(kind, 0) + 1


def _kind_of(name: str) -> str:
    """Return the kind of a file that is not a photo.

    Examples
    --------
    >>> [_kind_of(name) for name in ("notes.TXT", "README", "THUMBS.DB", "._1.jpg", ".cache")]
    ['.txt', 'without an extension', 'Thumbs.db', '._*', 'hidden']
    """
    lower = name.lower()
    if lower in _SYSTEM_FILES:
        return _SYSTEM_FILES[lower]
    if name.startswith("._"):
        return _APPLE_DOUBLE
    if name.startswith("."):
        return _HIDDEN
    if name.endswith(_EMR_FOLDER):
        return _EMR_FOLDER
    extension = one_line(utf8_text(Path(lower).suffix))
    if len(extension) < 2 or " " in extension or len(extension) > _EXTENSION_LENGTH:
        return _NO_EXTENSION
    return extension


def describe_left_out(left_out: Mapping[str, int]) -> str:
    """List the files that a listing left out, the most frequent kind first.

    Examples
    --------
    >>> describe_left_out({"Thumbs.db": 1, ".txt": 1_200, ".cr2": 40})
    '1,200 .txt, 40 .cr2 (RAW photos, not supported), 1 Thumbs.db'
    """
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(
        f"{number:,} {kind} ({_NOTES[kind]})" if kind in _NOTES else f"{number:,} {kind}"
        for kind, number in kinds
    )


def find_images(*roots: PathLike, tally: Tally | None = None) -> Iterator[str]:
    """Find the photos in folders, in the order of their paths.

    Folders are listed one at a time, so memory holds the names in one folder and in its parents.
    Every real folder is searched once. A link to a folder inside the roots is skipped, because the
    folder is searched under its own name; other links to folders are followed. Names that start
    with a dot are skipped: thumbnails, checkpoints, and the ``._photo.jpg`` files that macOS leaves
    in archives. Every file with the extension of a photo is yielded, even if it cannot be read as
    one (a dangling link, a pipe), so that the reader can report it.

    The roots are folders or files; a file given as a root is yielded whatever its extension. Every
    path starts with its root, and `tally` is updated with counts. An unset shell variable gives an
    empty root, which is a ValueError.
    """
    tally = Tally() if tally is None else tally
    if "" in map(os.fsdecode, roots):
        raise ValueError("the path of the photos is empty: name a folder, or . for the current one")
    paths = [os.fsdecode(root) for root in roots]
    folders = [os.path.realpath(path) for path in paths if Path(path).is_dir()]
    search = _Search(tally, folders)
    for path in paths:
        Path(path).lstat()
        if Path(path).is_dir():
            yield from search.walk(path.rstrip("/"))
        else:
            tally.images += 1
            yield path


class _Search:
    """A search for photos under real folders, the roots."""

    def __init__(self, tally: Tally, roots: list[str]) -> None:
        self._tally = tally
        self._roots = roots
        self._seen: set[tuple[int, int]] = set()

    def walk(self, root: str) -> Iterator[str]:
        # An explicit stack, because folders may be nested deeper than Python's recursion limit.
        stack = [(root, iter(self._listing(root)))]
        while stack:
            folder, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                continue
            path = f"{folder}/{name}".rstrip("/")
            if is_hidden(name):
                self._tally.leave_out(name.rstrip("/"))
            elif name.endswith("/"):
                self._tally.enter(name[:-1])
                stack.append((path, iter(self._listing(path))))
            elif is_image(path):
                self._tally.images += 1
                yield path
            else:
                self._tally.leave_out(name)

    def _listing(self, folder: str) -> list[str]:
        """List a folder. Sub-folders end in a slash, so that sorting names sorts whole paths."""
        try:
            with os.scandir(folder or "/") as entries:
                status = Path(folder or "/").stat()
                if (status.st_dev, status.st_ino) in self._seen:
                    return []
                self._seen.add((status.st_dev, status.st_ino))
                names = []
                for entry in entries:
                    if not _is_folder(entry):
                        names.append(entry.name)
                    elif self._is_alias(entry):
                        self._tally.count(LINKS)
                    else:
                        names.append(f"{entry.name}/")
                return sorted(names)
        except OSError as error:
            self._tally.unreadable.append((folder, error.strerror or str(error)))
            return []

    def _is_alias(self, entry: os.DirEntry[str]) -> bool:
        """Whether a folder is a link to one that is searched under its own name."""
        if not entry.is_symlink() or is_hidden(entry.name):
            return False
        real = os.path.realpath(entry.path)
        for root in self._roots:
            # The relative path of a folder elsewhere starts with "..", which counts as hidden.
            below = os.path.relpath(real, root)
            if below == "." or not any(is_hidden(name) for name in below.split("/")):
                return True
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False
