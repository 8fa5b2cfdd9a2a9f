"""What `pomona run` left in its output folder, for those who look at it from the driver.

A folder on this machine is read with pyarrow and needs no Spark; any other goes through Spark,
which has the credentials already (`pomona.spark.results`). Either way vectors arrive in blocks, so
memory does not grow with the set, and a sample is drawn where the data is.
"""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from pomona._errors import ImageError
from pomona._native import load_image
from pomona._output import atomic_file

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Through = Callable[[Iterator["Vectors"]], Iterator["Vectors"]]

#: The folder in a set of features that tells which files are the set, and the name of what does.
STATE_FOLDER = "_pomona"
SET_FILE = re.compile(r"set-(\d+)\.json")

#: Rows of a block of vectors: 5 MiB of 1,280 features.
BLOCK_ROWS = 1024

#: Photos of a class that a sample has at least, where the class has as many.
LEAST_PER_CLASS = 3

_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")
_FILE = re.compile("file:/*")


class Vectors(NamedTuple):
    """Some photos with a vector each."""

    paths: list[str]
    #: Empty where a photo has none.
    labels: list[str]
    #: float32, of shape (photos, d).
    matrix: NDArray[np.float32]

    def take(self, rows: Iterable[int]) -> Vectors:
        """Keep these rows, in this order."""
        kept = [int(row) for row in rows]
        return Vectors(
            [self.paths[row] for row in kept], [self.labels[row] for row in kept], self.matrix[kept]
        )


class ClassCount(NamedTuple):
    """How many photos a class has, and how many of those cannot be read."""

    label: str
    photos: int
    errors: int


@dataclass(frozen=True)
class Sample:
    """Some photos of each class, in the order of labels and paths.

    Attributes
    ----------
    paths, labels
        Of n photos.
    features
        float32, of shape (n, d).
    pca
        float32, of shape (n, k): their principal components.
    """

    paths: list[str]
    labels: list[str]
    features: NDArray[np.float32]
    pca: NDArray[np.float32]


class Results(ABC):
    """The output folder of a finished run.

    Attributes
    ----------
    uri
        Where.
    summary
        The content of its ``summary.json``.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        summary = self.read_json("summary.json")
        if summary is None:
            raise FileNotFoundError(
                f"{uri} holds no finished run, which would have a summary.json: name the --output "
                "of `pomona run`, or run it again to finish it"
            )
        self.summary: dict[str, Any] = summary

    @abstractmethod
    def read_json(self, name: str) -> Any | None:
        """Read a file of JSON in the folder; None if it is not there, or was cut short."""

    @abstractmethod
    def folders(self, name: str) -> list[str]:
        """Name the folders in a folder of this one, sorted; none if that is not there."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file in the folder, whole or not at all, making the folders above it."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file in the folder; fine if it is not there."""

    @abstractmethod
    def classes(self) -> list[ClassCount]:
        """Count the photos of each class, sorted by label."""

    @abstractmethod
    def broken(self, limit: int) -> list[tuple[str, str, str]]:
        """Give path, label and reason of photos that cannot be read: the first by path."""

    @abstractmethod
    def choose(self, quotas: dict[str, int], seed: int) -> list[str]:
        """Choose readable photos, for each label its number: those with the lowest `draw`."""

    @abstractmethod
    def vectors(
        self, column: str, *, paths: Sequence[str] | None = None, through: Through | None = None
    ) -> Iterator[Vectors]:
        """Read vectors in blocks of at most `BLOCK_ROWS`.

        Photos without a vector, or with a number in it that is not finite, are left out.

        Parameters
        ----------
        column
            ``features`` or ``pca``.
        paths
            Read those of these photos only.
        through
            What to do with the blocks where the data is, part by part; for Spark it can be pickled.
        """

    @abstractmethod
    def photo(self, path: str) -> bytes:
        """Read a photo's file.

        Raises
        ------
        OSError
            It cannot be read.
        """

    @abstractmethod
    def thumbnails(self, paths: Sequence[str], side: int) -> dict[str, NDArray[np.uint8] | str]:
        """Read photos and make them small, as `thumbnail` does."""

    def sample(self, size: int, seed: int = 0) -> Sample:
        """Draw a stratified sample.

        Each class has its share of `size`, and `LEAST_PER_CLASS` at least. The same seed draws the
        same photos from a local copy as from the original, and most of the same after photos were
        added.
        """
        readable = [(each.label, each.photos - each.errors) for each in self.classes()]
        quotas = shares([number for _, number in readable], size)
        chosen = self.choose({label: n for (label, _), n in zip(readable, quotas) if n}, seed)
        features = _by_path(self.vectors("features", paths=chosen))
        pca = _by_path(self.vectors("pca", paths=chosen))
        rows = sorted((features[path][0], path) for path in features if path in pca)
        if not rows:
            raise ValueError(
                f"{self.uri} has no photo with both features and components: run it again with "
                "`pomona run`"
            )
        return Sample(
            paths=[path for _, path in rows],
            labels=[label for label, _ in rows],
            features=np.stack([features[path][1] for _, path in rows]),
            pca=np.stack([pca[path][1] for _, path in rows]),
        )


class LocalResults(Results):
    """An output folder on this machine.

    Parameters
    ----------
    folder
        A path or a ``file:`` URI.
    """

    def __init__(self, folder: str) -> None:
        path = local_path(folder)
        if path is None:
            raise ValueError(f"{folder} is not on this machine: it takes Spark to read it")
        self._home = path
        _require_pyarrow()
        super().__init__(folder)

    def read_json(self, name: str) -> Any | None:
        """Read it with the standard library."""
        try:
            return json.loads((self._home / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def folders(self, name: str) -> list[str]:
        """List it."""
        folder = self._home / name
        return (
            sorted(each.name for each in folder.iterdir() if each.is_dir())
            if (folder.is_dir())
            else []
        )

    def write(self, name: str, content: bytes) -> None:
        """Write it beside its place and move it there."""
        path = self._home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)

    def delete(self, name: str) -> None:
        """Unlink it."""
        with suppress(FileNotFoundError):
            (self._home / name).unlink()

    def classes(self) -> list[ClassCount]:
        """Count in one pass over labels and errors."""
        counts: dict[str, list[int]] = {}
        for batch in self._batches("features", ["label", "error"]):
            errors = batch.column("error").is_valid().to_pylist()
            for label, failed in zip(_texts(batch.column("label")), errors):
                of_class = counts.setdefault(label, [0, 0])
                of_class[0] += 1
                of_class[1] += failed
        return [ClassCount(label, *counts[label]) for label in sorted(counts)]

    def broken(self, limit: int) -> list[tuple[str, str, str]]:
        """Read labels and errors."""
        found: list[tuple[str, str, str]] = []
        for batch in self._batches("features", ["path", "label", "error"]):
            failed = batch.filter(batch.column("error").is_valid())
            columns = [_texts(failed.column(name)) for name in ("path", "label", "error")]
            found = sorted([*found, *zip(*columns)])[:limit]
        return found

    def choose(self, quotas: dict[str, int], seed: int) -> list[str]:
        """Rank in memory."""
        paths: dict[str, list[str]] = {label: [] for label in quotas}
        for batch in self._batches("features", ["path", "label", "error"]):
            whole = batch.filter(batch.column("error").is_null())
            for path, label in zip(_texts(whole.column("path")), _texts(whole.column("label"))):
                if label in paths:
                    paths[label].append(path)
        chosen = []
        for label, quota in quotas.items():
            chosen += sorted(paths[label], key=lambda path: draw(path, seed))[:quota]
        return chosen

    def vectors(
        self, column: str, *, paths: Sequence[str] | None = None, through: Through | None = None
    ) -> Iterator[Vectors]:
        """Read the Parquet files one after another."""
        wanted = None if paths is None else set(paths)
        blocks = (
            block
            for batch in self._batches(column, ["path", "label", column])
            for block in blocks_of(
                _texts(batch.column("path")),
                _texts(batch.column("label")),
                batch.column(column),
                wanted,
            )
        )
        return blocks if through is None else through(blocks)

    def photo(self, path: str) -> bytes:
        """Open it."""
        file = local_path(path)
        if file is None:
            raise OSError(f"{path} is not on this machine, where its features are")
        return file.read_bytes()

    def thumbnails(self, paths: Sequence[str], side: int) -> dict[str, NDArray[np.uint8] | str]:
        """Decode here, one after another."""
        return {path: self._thumbnail(path, side) for path in paths}

    def _thumbnail(self, path: str, side: int) -> NDArray[np.uint8] | str:
        try:
            return thumbnail(self.photo(path), side)
        except OSError as error:
            return error.strerror or str(error)

    def _batches(self, name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        for path in self._files(name):
            with path.open("rb") as file:
                yield from pq.ParquetFile(file).iter_batches(BLOCK_ROWS, columns=columns)

    def _files(self, name: str) -> list[Path]:
        """List the files of a table; of a set of features, those that count."""
        folder = self._home / name
        state = folder / STATE_FOLDER
        descriptions = state.iterdir() if state.is_dir() else []
        sets = sorted(path for path in descriptions if SET_FILE.fullmatch(path.name))
        if sets:
            return [
                folder / each for each in json.loads(sets[-1].read_text(encoding="utf-8"))["files"]
            ]
        files = sorted(path for path in folder.glob("*.parquet") if path.name[0] not in "_.")
        if not files:
            raise FileNotFoundError(f"{folder} holds no Parquet files: run `pomona run` again")
        return files


def local_path(uri: str) -> Path | None:
    """Turn a path, or a URI of Spark's, into a path of this machine; None if it is elsewhere.

    Examples
    --------
    >>> str(local_path("file:///photos/a b.jpg")), str(local_path("out")), local_path("s3://b/out")
    ('/photos/a b.jpg', 'out', None)
    """
    if _FILE.match(uri):
        return Path(_FILE.sub("/", uri, count=1))
    return None if _SCHEME.match(uri) else Path(uri)


def class_order(label: str) -> tuple[str, str]:
    """Order classes as people do, with `sorted`: the same on the page as in the pictures.

    Examples
    --------
    >>> sorted(["Cocos", "apple", "Apple"], key=class_order)
    ['Apple', 'apple', 'Cocos']
    """
    return label.casefold(), label


def draw(path: str, seed: int) -> str:
    """Give a photo its lot, which decides whether it is in a sample; Spark computes the same."""
    return hashlib.sha256(f"{seed} {path}".encode("utf-8", "surrogatepass")).hexdigest()


def shares(counts: Sequence[int], size: int) -> list[int]:
    """Divide a sample among classes: `LEAST_PER_CLASS` each where possible, the rest by size.

    Examples
    --------
    >>> shares([1000, 100, 2], 100), shares([5, 5], 100)
    ([87, 11, 2], [5, 5])
    """
    if sum(counts) <= size:
        return list(counts)
    least = min(LEAST_PER_CLASS, size // len(counts))
    taken = [min(count, least) for count in counts]
    left = size - sum(taken)
    rest = [count - own for count, own in zip(counts, taken)]
    exact = [left * each / sum(rest) for each in rest]
    order = sorted(range(len(counts)), key=lambda index: exact[index] % 1, reverse=True)
    over = left - sum(int(each) for each in exact)
    return [own + int(exact[index]) + (index in order[:over]) for index, own in enumerate(taken)]


def thumbnail(content: bytes, side: int, *, enlarge: bool = False) -> NDArray[np.uint8] | str:
    """Decode a photo to at most `side` pixels a side, keeping its proportions.

    Parameters
    ----------
    content
        An encoded photo.
    side
        Pixels of the longer side.
    enlarge
        Make smaller photos larger, so that all are of this size.

    Returns
    -------
    numpy.ndarray or str
        uint8 of shape (height, width, 3), or why it cannot be decoded.
    """
    try:
        pixels = load_image(content)
        height, width = pixels.shape[:2]
        scale = side / max(height, width)
        if scale == 1 or (scale > 1 and not enlarge):
            return pixels
        return load_image(
            content, size=(max(1, round(height * scale)), max(1, round(width * scale)))
        )
    except ImageError as error:
        return error.reason


def blocks_of(
    paths: list[str], labels: list[str], lists: pa.ListArray, wanted: set[str] | None = None
) -> Iterator[Vectors]:
    """Make blocks of a batch's rows that have a vector, without a Python object per number."""
    keep = lists.is_valid().to_numpy(zero_copy_only=False)
    if wanted is not None:
        keep &= np.fromiter((path in wanted for path in paths), bool, len(paths))
    rows = np.flatnonzero(keep)
    if not rows.size:
        return
    import pyarrow as pa

    numbers = lists.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False)
    if numbers.size % rows.size:
        raise ValueError("features of different lengths: are they from two models?")
    matrix = numbers.astype(np.float32, copy=False).reshape(rows.size, -1)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        rows, matrix = rows[finite], matrix[finite]
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        yield Vectors(
            [paths[row] for row in part],
            [labels[row] for row in part],
            matrix[start : start + BLOCK_ROWS],
        )


def _by_path(blocks: Iterable[Vectors]) -> dict[str, tuple[str, NDArray[np.float32]]]:
    rows = chain.from_iterable(zip(*block) for block in blocks)
    return {path: (label, vector) for path, label, vector in rows}


def _texts(column: pa.Array) -> list[str]:
    return [text or "" for text in column.to_pylist()]


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "reading Parquet needs pyarrow: pip install 'pomona[spark]'", name="pyarrow"
        ) from error
