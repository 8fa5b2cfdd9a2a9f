"""An output folder on this machine, read with pyarrow."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence, TypeVar

from pomona._optional import require
from pomona._output import atomic_file
from pomona.results.base import ClassCount, Results, draw
from pomona.results.format import STATE_FOLDER, finished_set
from pomona.results.pixels import pixel_statistics
from pomona.results.thumbnails import thumbnail
from pomona.results.vectors import BLOCK_ROWS, blocks_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from pomona.results.pixels import PixelStatistics
    from pomona.results.vectors import Through, Vectors

T = TypeVar("T")

_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")
_FILE = re.compile("file:/*")


class LocalResults(Results):
    """The output folder of a finished run on this machine.

    Parameters
    ----------
    folder
        A path or a ``file:`` URI.

    Raises
    ------
    FileNotFoundError
        The folder holds no finished run.
    ValueError
        The folder is not on this machine.
    ImportError
        pyarrow is missing.
    """

    def __init__(self, folder: str) -> None:
        path = local_path(folder)
        if path is None:
            raise ValueError(f"{folder} is not on this machine; reading it needs Spark")
        self._home = path
        _parquet()
        super().__init__(folder)

    def read_json(self, name: str) -> Any | None:
        """Read a JSON file."""
        try:
            return json.loads((self._home / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def folders(self, name: str) -> list[str]:
        """List subfolders."""
        with suppress(FileNotFoundError):
            return sorted(each.name for each in (self._home / name).iterdir() if each.is_dir())
        return []

    def write(self, name: str, content: bytes) -> None:
        """Write a temporary file and rename it."""
        path = self._home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write(content)

    def delete(self, name: str) -> None:
        """Unlink a file."""
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

    def first_with(self, column: str, limit: int) -> list[tuple[str, str, Any]]:
        """Keep the first `limit` rows with a value."""
        first: list[tuple[str, str, Any]] = []
        for batch in self._batches("features", ["path", "label", column]):
            if column not in batch.schema.names:
                continue
            kept = batch.filter(batch.column(column).is_valid())
            paths, labels = _texts(kept.column("path")), _texts(kept.column("label"))
            first = sorted([*first, *zip(paths, labels, kept.column(column).to_pylist())])[:limit]
        return first

    def choose(self, quotas: dict[str, int], seed: int) -> list[str]:
        """Rank the paths of each label in memory."""
        paths: dict[str, list[str]] = {label: [] for label in quotas}
        for batch in self._batches("features", ["path", "label", "error"]):
            readable = batch.filter(batch.column("error").is_null())
            for path, label in zip(*(_texts(readable.column(name)) for name in ("path", "label"))):
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
        """Read a local file."""
        file = local_path(path)
        if file is None:
            raise OSError(f"{path} is not on this machine, unlike these results")
        return file.read_bytes()

    def thumbnails(self, paths: Sequence[str], side: int) -> dict[str, NDArray[np.uint8] | str]:
        """Decode the photos on all cores."""
        return self._read_each(paths, partial(thumbnail, side=side, decode=self.decode))

    def pixels(self, paths: Sequence[str]) -> dict[str, PixelStatistics | str]:
        """Decode the photos on all cores."""
        return self._read_each(paths, partial(pixel_statistics, decode=self.decode))

    def _read_each(
        self, paths: Sequence[str], use: Callable[[bytes], T | str]
    ) -> dict[str, T | str]:
        """Apply a function to the content of each photo; a reason where it cannot be read."""

        def one(path: str) -> T | str:
            try:
                return use(self.photo(path))
            except OSError as error:
                return error.strerror or str(error)

        # Decoding does not hold the GIL.
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return dict(zip(paths, pool.map(one, paths)))

    def _batches(self, name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for path in self._files(name):
            with path.open("rb") as file:
                yield from _parquet().ParquetFile(file).iter_batches(BLOCK_ROWS, columns=columns)

    def _files(self, name: str) -> list[Path]:
        """List the Parquet files of a table; of a feature set, those of the finished set."""
        folder = self._home / name
        state = folder / STATE_FOLDER
        if state.is_dir():
            names = [path.name for path in state.iterdir()]
            finished = finished_set(
                names, lambda each: self.read_json(f"{name}/{STATE_FOLDER}/{each}")
            )
            files = [folder / each for each in finished.files] if finished else []
        else:
            files = sorted(path for path in folder.glob("*.parquet") if path.name[0] not in "_.")
        if not files:
            raise FileNotFoundError(f"{folder} holds no finished table: repeat `pomona run`")
        return files


def local_path(uri: str) -> Path | None:
    """Convert a path or URI, as Spark writes it, to a local path; None if it is not local.

    Examples
    --------
    >>> str(local_path("file:///photos/a b.jpg")), str(local_path("out")), local_path("s3://b/out")
    ('/photos/a b.jpg', 'out', None)
    """
    if _FILE.match(uri):
        return Path(_FILE.sub("/", uri, count=1))
    return None if _SCHEME.match(uri) else Path(uri)


def _texts(column: pa.Array) -> list[str]:
    return [text or "" for text in column.to_pylist()]


def _parquet() -> Any:
    return require("pyarrow.parquet", "spark", "reading Parquet")
