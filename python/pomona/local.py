"""A folder of photos to a Parquet file of features, on one machine and without Spark."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from pomona._errors import ERROR_COLUMNS, ImageError
from pomona._images import IMAGE_EXTENSIONS, Tally, find_images, label_of, one_line, utf8_text
from pomona._output import atomic_file, check_writable
from pomona._progress import Progress

if TYPE_CHECKING:
    from typing import BinaryIO

    import pyarrow as pa
    from numpy.typing import NDArray

    from pomona import Featurizer
    from pomona._errors import ErrorKind

    PathLike = str | os.PathLike[str]

#: Photos handed to the model at once: enough that a thread rarely waits for the last of them.
CHUNK_ROWS = 256
#: The first chunk is as small as this and the next twice as large, so that the line moves soon.
FIRST_CHUNK_ROWS = 16
#: Encoded bytes handed to the model at once. Three chunks exist at most: one being read, one
#: waiting, one in the model.
CHUNK_BYTES = 16 << 20
#: Features collected in memory before a row group is written.
ROW_GROUP_BYTES = 32 << 20
#: The largest file that is read: the memory that a decoded photo of the default `max_pixels` takes.
MAX_FILE_BYTES = 512 << 20
#: Errors that a summary tells in full; the file has them all.
LISTED_ERRORS = 5


class NoImagesError(ValueError):
    """No photo was found where photos were looked for."""


@dataclass
class Summary:
    """What a run of `featurize_folder` did."""

    #: The file that was written.
    output: str
    #: Its size.
    output_bytes: int = 0
    #: Rows written: photos featurised and photos that failed.
    images: int = 0
    #: Photos whose row has an error instead of features.
    errors: int = 0
    #: The first failures: (path, reason).
    first_errors: list[tuple[str, str]] = field(default_factory=list)
    #: Names of the folders that photos were in.
    labels: set[str] = field(default_factory=set)
    #: Files passed over because their names are not those of photos.
    others: int = 0
    #: Folders that could not be listed: (path, reason).
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    #: Width of the features.
    dim: int = 0
    #: From the call to the finished file.
    seconds: float = 0.0

    def add(self, photos: Sequence[_Photo], errors: Sequence[ImageError | None]) -> int:
        """Count rows and return how many of them failed."""
        self.images += len(photos)
        self.labels.update(photo.label for photo in photos)
        failed = [(photo.path, error.reason) for photo, error in zip(photos, errors) if error]
        self.errors += len(failed)
        self.first_errors += failed[: LISTED_ERRORS - len(self.first_errors)]
        return len(failed)

    @property
    def images_per_second(self) -> float:
        """Photos a second, reading, starting the model and writing included."""
        return self.images / self.seconds if self.seconds > 0 else 0.0


def featurize_folder(
    images: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    model: PathLike = "mobilenet_v2",
    threads: int = 1,
    apply_exif: bool = False,
    allow_trailing: bool = False,
    max_pixels: int | None = None,
    overwrite: bool = False,
) -> Summary:
    """Write the features of every photo under `images` to one Parquet file.

    The file has one row a photo, in the order of the paths: ``path`` (string), ``label`` (string,
    the folder's name), ``features`` (list<float32>, null where the photo failed) and ``error``,
    ``error_kind`` and ``error_version`` (string, null where it did not): the reason, the kind that
    `pomona.ImageError` has, and the version that decided it. Its key-value metadata names the
    model, the model's sha256 and the version of pomona. It appears under its name only when it is
    complete.

    Memory stays bounded however many photos there are and however large their files: photos are
    read ahead of the model in chunks, and rows are written in groups.

    Parameters
    ----------
    images
        A folder, a photo, or several of them. Folders are searched to the bottom.
    output
        The Parquet file to write.
    model
        A model's name or the path of its file.
    threads
        Threads that decode photos and run the model.
    apply_exif, allow_trailing, max_pixels
        How photos are decoded, as for `pomona.Featurizer`; None keeps its limit.
    overwrite
        Replace `output` if it exists.

    Returns
    -------
    Summary
        What was read, what failed and how long it took. A broken photo is a row with an error,
        never an exception.

    Raises
    ------
    NoImagesError
        There is no photo under `images`.
    ModelError
        The model is not there or breaks the contract.
    FileExistsError
        `output` exists and `overwrite` is false.
    ValueError
        `images` or `output` is a URI or empty text.
    OSError
        `images` does not exist, or `output` cannot be written.
    ImportError
        pyarrow is not installed.

    Examples
    --------
    >>> summary = featurize_folder("fruits", "fruits.parquet", threads=2)  # doctest: +SKIP
    >>> print(summary.images, summary.errors)  # doctest: +SKIP
    295 0
    """
    started = monotonic()
    _require_pyarrow()
    from pomona import Featurizer

    roots = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    for path in map(os.fsdecode, [*roots, output]):
        if "://" in path and not Path(path).exists() and not Path(path).parent.exists():
            raise ValueError(
                f"{path} is a URI, and this reads and writes files of this machine: `pomona run` "
                "takes URIs"
            )
    if check_writable(output).exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST, "exists already; overwrite=True replaces it", str(output)
        )
    limits: dict[str, Any] = {} if max_pixels is None else {"max_pixels": max_pixels}
    featurizer = Featurizer(
        model, threads=threads, apply_exif=apply_exif, allow_trailing=allow_trailing, **limits
    )
    # Walked once to count and once to read, because the names of millions of photos take memory.
    tally = Tally()
    for _ in find_images(*roots, tally=tally):
        pass
    if not tally.images:
        raise NoImagesError(_nothing_found(roots, tally))

    summary = Summary(
        output=str(output), others=tally.others, unreadable=tally.unreadable, dim=featurizer.dim
    )
    with atomic_file(output) as file:
        with _row_groups(file, _metadata(featurizer, apply_exif)) as write, Progress(
            "Featurizing", total=tally.images
        ) as progress, _read_ahead(find_images(*roots)) as chunks:
            for photos in chunks:
                features, failures = featurizer.try_featurize([photo.content for photo in photos])
                errors = [photo.error or failure for photo, failure in zip(photos, failures)]
                write(_table(photos, features, errors))
                progress.update(len(photos), errors=summary.add(photos, errors))
        summary.output_bytes = file.tell()
    summary.seconds = monotonic() - started
    return summary


def _nothing_found(roots: Sequence[PathLike], tally: Tally) -> str:
    where = ", ".join(one_line(os.fsdecode(root)) for root in roots)
    endings = " ".join(ending[1:] for ending in IMAGE_EXTENSIONS)
    message = f"no photos in {where}: looked for files ending in {endings}"
    message += f"; other files there: {tally.others:,}"
    for path, reason in tally.unreadable[:LISTED_ERRORS]:
        message += f"; {one_line(path)} cannot be listed: {reason}"
    return message


class _Photo(NamedTuple):
    path: str
    label: str
    content: bytes | None
    error: ImageError | None


def _read_photo(path: str) -> _Photo:
    """Read a file that may be gone, forbidden, endless or no file at all."""
    content = error = None
    try:
        content = _read_file(path)
    except OSError as failure:
        kind: ErrorKind = "gone" if isinstance(failure, FileNotFoundError) else "storage"
        error = ImageError(0, f"cannot be read: {failure.strerror or failure}", kind)
    return _Photo(utf8_text(path), utf8_text(label_of(path)), content, error)


def _read_file(path: str) -> bytes:
    # Asked before opening, because opening a pipe or a device already does something to it, and
    # opened without blocking in case it has become one since.
    _check_regular(Path(path).stat())
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_regular(status)
        content = file.read(status.st_size + 1)
    if len(content) != status.st_size:
        raise OSError(errno.EIO, "the file changed while it was read")
    return content


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a file")
    if status.st_size > MAX_FILE_BYTES:
        raise OSError(
            errno.EFBIG,
            f"the file has {status.st_size:,} bytes, the limit is {MAX_FILE_BYTES:,}",
        )


def _chunks(paths: Iterable[str]) -> Iterator[list[_Photo]]:
    chunk: list[_Photo] = []
    size = 0
    rows = min(FIRST_CHUNK_ROWS, CHUNK_ROWS)
    for path in paths:
        photo = _read_photo(path)
        chunk.append(photo)
        size += len(photo.content or b"")
        if len(chunk) >= rows or size >= CHUNK_BYTES:
            yield chunk
            chunk, size, rows = [], 0, min(rows * 2, CHUNK_ROWS)
    if chunk:
        yield chunk


@contextmanager
def _read_ahead(paths: Iterable[str]) -> Iterator[Iterator[list[_Photo]]]:
    """Read photos in a thread, one chunk ahead of whoever takes them."""
    ready: Queue[list[_Photo] | Exception | None] = Queue(maxsize=1)
    stop = Event()

    def read() -> None:
        try:
            for chunk in _chunks(paths):
                ready.put(chunk)
                if stop.is_set():
                    return
            ready.put(None)
        except Exception as error:  # handed over to be raised where the photos are used
            ready.put(error)

    def take() -> Iterator[list[_Photo]]:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    # A daemon, so that a read that hangs on a dead network disk does not keep the process alive.
    thread = Thread(target=read, name="pomona-reader", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        with suppress(Empty):
            ready.get_nowait()
        thread.join(timeout=1)


def _require_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "writing Parquet needs pyarrow: pip install 'pomona[spark]'", name="pyarrow"
        ) from error


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("label", pa.string(), nullable=False),
            pa.field("features", pa.list_(pa.float32())),
            *(pa.field(name, pa.string()) for name in ERROR_COLUMNS),
        ]
    )


def _metadata(featurizer: Featurizer, apply_exif: bool) -> dict[str, str]:
    """Tell where the features come from, for whoever finds the file in a year."""
    from pomona import __version__
    from pomona.models.store import sha256_of

    return {
        **featurizer.metadata,
        "pomona.version": __version__,
        "pomona.model": featurizer.model_name,
        "pomona.model_sha256": sha256_of(featurizer.model_path),
        "pomona.apply_exif": str(apply_exif).lower(),
    }


def _table(
    photos: Sequence[_Photo], features: NDArray[np.float32], errors: Sequence[ImageError | None]
) -> pa.Table:
    """Make rows of photos and their features (n, d), without a Python object per number."""
    import pyarrow as pa

    from pomona import __version__

    failed = np.array([error is not None for error in errors], dtype=bool)
    # A list starts at its offset; a null offset is a null list and takes no numbers.
    starts = np.zeros(len(photos) + 1, dtype=np.int32)
    np.cumsum(np.where(failed, 0, features.shape[1]), out=starts[1:])
    lists = pa.ListArray.from_arrays(
        pa.array(starts, mask=np.append(failed, False)),
        pa.array(features[~failed].ravel() if failed.any() else features.ravel()),
    )
    columns = [
        pa.array([photo.path for photo in photos], pa.string()),
        pa.array([photo.label for photo in photos], pa.string()),
        lists,
        pa.array([error and error.reason for error in errors], pa.string()),
        pa.array([error and error.kind for error in errors], pa.string()),
        pa.array([error and __version__ for error in errors], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema())


@contextmanager
def _row_groups(file: BinaryIO, metadata: dict[str, str]) -> Iterator[Any]:
    """Collect tables and write them as row groups of about `ROW_GROUP_BYTES`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Snappy and plain pages, which every Spark reads.
    writer = pq.ParquetWriter(
        file,
        _schema().with_metadata(metadata),
        compression="snappy",
        use_dictionary=["label"],
        use_compliant_nested_type=True,
    )
    waiting: list[pa.Table] = []

    def write(table: pa.Table) -> None:
        waiting.append(table)
        if sum(each.nbytes for each in waiting) >= ROW_GROUP_BYTES:
            flush()

    def flush() -> None:
        if waiting:
            table = pa.concat_tables(waiting)
            waiting.clear()
            writer.write_table(table, row_group_size=len(table))

    try:
        yield write
        flush()
    except BaseException:
        # Closing would write a footer, and once more when the writer is collected, to a file
        # that is about to be removed.
        writer.is_open = False
        raise
    writer.close()
