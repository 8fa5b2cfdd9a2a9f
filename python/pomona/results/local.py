"""Results on this machine, read with pyarrow."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator, Sequence, TypeVar

from pomona._images import is_image
from pomona._missing import not_found
from pomona._output import atomic_file, atomic_folder
from pomona._parquet import open_parquet, parquet
from pomona.results.base import ClassCount, Results, draw
from pomona.results.features_file import metadata_of, summary_of
from pomona.results.format import STATE_FOLDER, finished_set
from pomona.results.pixels import pixel_statistics
from pomona.results.thumbnails import thumbnail
from pomona.results.vectors import BLOCK_ROWS, blocks_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from pomona._typing import PathLike
    from pomona.results.pixels import PixelStatistics
    from pomona.results.vectors import Through, Vectors

T = TypeVar("T")

#: The key of a summary with the state of the file of features that a PCA was fitted to.
_STATE = "features_file"
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]+:")
_FILE = re.compile("file:/*")


class LocalResults(Results):
    """Results on this machine.

    What belongs to a file ``fruits.parquet`` (PCA, classifiers, report …) is in the folder
    ``fruits-results`` beside it, which is made when something is written.

    Parameters
    ----------
    path
        A folder that `pomona run` or `pomona featurize` wrote, or a Parquet file that `pomona
        featurize` wrote: a path or a ``file:`` URI.

    Attributes
    ----------
    source
        The folder or file that was opened.
    home
        The folder of everything but a file of features. `uri` is the same.

    Raises
    ------
    FileNotFoundError
        The path does not exist, or the folder holds no finished results.
    ValueError
        The path is not on this machine, or the file is not one that `pomona featurize` wrote.
    ImportError
        pyarrow is missing.

    Examples
    --------
    >>> results = LocalResults("fruits.parquet")  # doctest: +SKIP
    >>> results.uri, results.summary["photos"]  # doctest: +SKIP
    ('fruits-results', 295)
    """

    def __init__(self, path: PathLike) -> None:
        source = local_path(os.fspath(path))
        if source is None:
            raise ValueError(f"{path} is not on this machine; reading it needs Spark")
        if not source.exists():
            raise not_found(source)
        parquet("reading Parquet")
        self.source = source
        self._file = None if source.is_dir() else source
        self._folder: Path | None = None
        self.home = source if self._file is None else home_of(source)
        super().__init__(os.fspath(path) if self._file is None else str(self.home))

    def read_summary(self) -> dict[str, Any]:
        """Read the summary of a folder, or make that of a file, with its PCA if it has one."""
        if self._file is None:
            summary = self.read_json("summary.json")
            if summary is not None and _STATE in summary:
                file = self.home.parent / summary[_STATE]["name"]
                raise FileNotFoundError(
                    f"{self.home} holds what was made of the features in {file}: give that file"
                )
            if summary is None and _has_photos(self.home):
                raise FileNotFoundError(
                    f"{self.home} is a folder of photos, not of results: compute their features "
                    f"first, with pomona featurize {self.home} -o {self.home.name}.parquet"
                )
            return super().read_summary() if summary is None else dict(summary)
        if (self.home / "features").exists():
            raise FileExistsError(
                f"{self.home}, the folder for the results of {self._file}, holds other results: "
                "rename one of the two"
            )
        # No seconds are known, and not whether all photos were new.
        made = {
            **asdict(summary_of(self._file, self.home.absolute())),
            "featurized": None,
            "images_per_second": None,
            _STATE: _state(self._file),
        }
        saved = self.read_json("summary.json")
        return saved if saved is not None and saved.get(_STATE) == made[_STATE] else made

    @contextmanager
    def replaced_folder(self, name: str) -> Iterator[Path]:
        """Write a folder anew; it replaces the one of that name when the block has ended."""
        self.home.mkdir(parents=True, exist_ok=True)
        with atomic_folder(self.home / name) as folder:
            yield folder

    def read_json(self, name: str) -> Any | None:
        """Read a JSON file."""
        try:
            return json.loads((self.home / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def read(self, name: str) -> bytes | None:
        """Read a file."""
        try:
            return (self.home / name).read_bytes()
        except FileNotFoundError:
            return None

    def folders(self, name: str) -> list[str]:
        """List subfolders."""
        with suppress(FileNotFoundError):
            return sorted(each.name for each in (self.home / name).iterdir() if each.is_dir())
        return []

    def write(self, name: str, content: bytes) -> None:
        """Write a temporary file and rename it."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Hadoop keeps a checksum beside each file, and refuses content that it does not fit.
        with suppress(FileNotFoundError):
            path.with_name(f".{path.name}.crc").unlink()
        with atomic_file(path) as file:
            file.write(content)

    def delete(self, name: str) -> None:
        """Unlink a file."""
        with suppress(FileNotFoundError):
            (self.home / name).unlink()

    def columns(self) -> list[str]:
        """Read the schema of the first file."""
        path = self._files("features")[0]
        with path.open("rb") as file:
            return list(open_parquet(file, path).schema_arrow.names)

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
        """Read the Parquet files one after another, and only row groups with wanted photos."""
        wanted = None if paths is None else set(paths)
        blocks = (
            block
            for batch in self._batches(column, ["path", "label", column], wanted)
            for block in blocks_of(
                _texts(batch.column("path")),
                _texts(batch.column("label")),
                batch.column(column),
                wanted,
            )
        )
        return blocks if through is None else through(blocks)

    def photo(self, path: str) -> bytes:
        """Read a local file; a relative path starts where `pomona featurize` was called."""
        file = local_path(path)
        if file is None:
            raise OSError(f"{path} is not on this machine, unlike these results")
        if not file.is_absolute() and (self.folder / file).exists():
            file = self.folder / file
        return file.read_bytes()

    @property
    def folder(self) -> Path:
        """The folder in which relative paths of photos start."""
        if self._folder is None:
            metadata = metadata_of(self._files("features")[0]) if self.engine == "local" else {}
            self._folder = Path(json.loads(metadata.get("pomona.folder", '"."')))
        return self._folder

    def paths_of(self, photo: str) -> list[str]:
        """Return the spellings under which these results may have a photo."""
        if self.engine == "spark":
            return super().paths_of(photo)
        path = Path(photo).absolute()
        relative = os.path.relpath(str(path), str(self.folder))
        return [photo, str(path), relative, f"./{relative}"]

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

    def _batches(
        self, name: str, columns: list[str], wanted: set[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        for path in self._files(name):
            with path.open("rb") as file:
                opened = open_parquet(file, path)
                groups = [
                    group
                    for group in range(opened.num_row_groups)
                    if wanted is None
                    or not wanted.isdisjoint(
                        opened.read_row_group(group, columns=["path"]).column("path").to_pylist()
                    )
                ]
                yield from opened.iter_batches(BLOCK_ROWS, row_groups=groups, columns=columns)

    def _files(self, name: str) -> list[Path]:
        """List the Parquet files of a table; of a feature set, those of the finished set."""
        if name == "features" and self._file is not None:
            return [self._file]
        folder = self.home / name
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
            verb = "featurize" if self.engine == "local" else "run"
            verb = "pca" if name == "pca" else verb
            raise FileNotFoundError(f"{folder} holds no finished table: repeat `pomona {verb}`")
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


def home_of(file: Path) -> Path:
    """Return the folder for what is made of a file of features.

    Examples
    --------
    >>> str(home_of(Path("data/fruits.parquet")))
    'data/fruits-results'
    """
    return file.with_name(f"{file.stem}-results")


def _state(file: Path) -> dict[str, Any]:
    """Describe a file of features, so that a PCA of its former content is noticed."""
    status = file.stat()
    return {"name": file.name, "bytes": status.st_size, "modified": status.st_mtime_ns}


def _has_photos(folder: Path) -> bool:
    """Tell a folder of photos, or of folders of photos, from unfinished results."""
    files = chain(folder.glob("*"), folder.glob("*/*"))
    return not (folder / "features").exists() and any(map(is_image, files))
