"""Featurize photos into a Parquet file or a folder of results, on one machine and without Spark."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import warnings
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from pomona._arguments import list_of_paths
from pomona._batch import FeaturizedBatch
from pomona._decode import gather_options
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS, ImageError
from pomona._images import (
    IMAGE_EXTENSIONS,
    Tally,
    describe_left_out,
    find_images,
    label_of,
    one_line,
    utf8_text,
)
from pomona._missing import check_exist
from pomona._output import atomic_file, atomic_folder, check_writable, is_partial
from pomona._parquet import lists_of, parquet, row_groups
from pomona._progress import Progress, report_listing
from pomona.decisions import counted, key, read_decisions
from pomona.results.features_file import FEATURES_FILE, is_features_file, origin, summary_of
from pomona.results.summary import LISTED_ERRORS

if TYPE_CHECKING:
    from typing import BinaryIO

    import pyarrow as pa
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords, DecodeOptions
    from pomona._errors import ErrorKind
    from pomona._native import Featurizer
    from pomona._typing import PathLike
    from pomona.decisions import Decision, Decisions

_READ = "import pandas; photos = pandas.read_parquet('{source}').dropna(subset=['features']); "
_TO_TEXT = (
    _READ + "pandas.DataFrame(photos.features.tolist(), [photos.label, photos.path])"
    ".to_csv('{target}')"
)
_TO_JSON = "import pandas; pandas.read_parquet('{source}').to_json('{target}', orient='records')"
_TO_NUMPY = _READ + "import numpy; numpy.save('{target}', photos.features.tolist())"
#: Photos per call of the model, enough to keep threads from waiting for the last ones.
CHUNK_ROWS = 256
#: Photos in the first chunk. Chunks double from there, so that progress shows early.
FIRST_CHUNK_ROWS = 16
#: Encoded bytes per call of the model. At most three chunks exist at once: one being read, one
#: queued, one in the model.
CHUNK_BYTES = 16 << 20
#: Larger files are refused. A decoded photo of the default `max_pixels` takes this much memory.
MAX_FILE_BYTES = 512 << 20
#: Endings of files of other formats than Parquet, each with the line of Python, if a short one
#: exists, that makes such a file from Parquet.
OTHER_FORMATS: dict[str, str | None] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), _TO_TEXT),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _TO_JSON),
    ".npy": _TO_NUMPY,
    **dict.fromkeys((".npz", ".pkl", ".pickle", ".h5", ".hdf5", ".feather", ".arrow", ".ipc")),
    **dict.fromkeys((".orc", ".avro", ".xlsx", ".xls", ".db", ".sqlite", ".html", ".pdf")),
    **dict.fromkeys((".zip", ".gz", ".tar", ".tgz", ".onnx", ".pq", ".parq")),
}


class NoImagesError(ValueError):
    """The given folders contain no photos."""


@dataclass
class Summary:
    """The outcome of `featurize_folder`."""

    #: The file that was written, and its size in bytes.
    output: str
    output_bytes: int = 0
    #: Rows written, one per photo, including those that failed.
    photos: int = 0
    #: Photos whose row has an error instead of features.
    errors: int = 0
    #: The first failures: (path, reason).
    first_errors: list[tuple[str, str]] = field(default_factory=list)
    #: Photos that have features and a warning: their pixels may not be those of the original.
    warnings: int = 0
    #: The first of them: (path, warning).
    first_warnings: list[tuple[str, str]] = field(default_factory=list)
    #: Photos with an EXIF orientation that was not applied, because `apply_exif` is false.
    turned: int = 0
    #: Names of the folders that contain photos.
    labels: set[str] = field(default_factory=set)
    #: Files in the folders that are not photos, and hidden files and folders, by kind: an extension
    #: in lower case, ``.DS_Store``, ``._*``, ``hidden`` …
    left_out: dict[str, int] = field(default_factory=dict)
    #: Photos that decisions ``left out`` and ``relabelled``.
    decided: dict[str, int] = field(default_factory=dict)
    #: Folders that could not be listed: (path, reason).
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    #: Features per photo.
    dim: int = 0
    #: Wall-clock seconds from the call to the finished file.
    seconds: float = 0.0

    def add(self, photos: Sequence[_Photo], batch: FeaturizedBatch) -> int:
        """Count rows and return how many of them failed."""
        self.photos += len(photos)
        self.labels.update(photo.label for photo in photos)
        paths = [photo.path for photo in photos]
        failed = [(path, error.reason) for path, error in zip(paths, batch.errors) if error]
        self.errors += len(failed)
        self.first_errors += failed[: LISTED_ERRORS - len(self.first_errors)]
        warned = [(path, warning) for path, warning in zip(paths, batch.warnings) if warning]
        self.warnings += len(warned)
        self.first_warnings += warned[: LISTED_ERRORS - len(self.first_warnings)]
        self.turned += sum(orientation is not None for orientation in batch.orientations)
        return len(failed)

    @property
    def images(self) -> int:
        """The former name of `photos`."""
        warnings.warn("Summary.images is now Summary.photos", DeprecationWarning, stacklevel=2)
        return self.photos

    @property
    def others(self) -> int:
        """The sum of `left_out`."""
        warnings.warn("Summary.others is now Summary.left_out", DeprecationWarning, stacklevel=2)
        return sum(self.left_out.values())

    @property
    def images_per_second(self) -> float:
        """Throughput, including reading, starting the model and writing."""
        return self.photos / self.seconds if self.seconds > 0 else 0.0


def featurize_folder(
    images: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    model: PathLike = "mobilenet_v2",
    threads: int = 1,
    overwrite: bool = False,
    decisions: PathLike | None = None,
    allow_trailing: bool | None = None,
    **decode_options: Unpack[DecodeKeywords],
) -> Summary:
    """Write the features of every photo in `images` to a Parquet file or a folder of results.

    The file has one row per photo, sorted by path within each of `images`: ``path`` (string),
    ``label`` (string, the name of the photo's folder), ``features`` (list<float32>, null if the
    photo failed), ``error``, ``error_kind`` and ``error_version`` (string, null if it did not
    fail): the reason, the kind as in `pomona.ImageError`, and the version of Pomona that reported
    it; ``warning`` (string, null for an intact photo), why the pixels may not be those of the
    original photo; and ``orientation`` (int32), the EXIF orientation, 2 to 8, of a photo that was
    not turned accordingly, null for all others. Key-value metadata records the model, its sha256,
    the version of Pomona, the decode options and where the photos are. The file appears under its
    name once it is complete.

    A folder gets this file as ``features/part-00000.parquet``, and ``summary.json``, which is
    written last. Both the file and the folder open as `pomona.LocalResults`.

    Memory use does not depend on the number of photos or the size of their files: photos are read
    in chunks, ahead of the model, and rows are written in groups.

    Parameters
    ----------
    images
        Folders or photos, one or several. Folders are searched recursively.
    output
        The Parquet file to write, with the ending ``.parquet``. Any other name is that of a folder
        for results: a new one, or an empty one.
    model
        The name of a model or the path of a model file.
    threads
        Threads that decode photos and run the model.
    overwrite
        Replace `output` if it exists: a file, or a folder that this function wrote. A folder keeps
        its classifiers and its ``report/findings.csv``.
    decisions
        A ``findings.csv`` with decisions (`pomona.decisions`): photos to leave out and to relabel.
    allow_trailing
        Deprecated and ignored: bytes after the end of a photo are accepted.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`, namely ``apply_exif``,
        ``strict``, ``max_pixels`` and ``decode``.

    Returns
    -------
    Summary
        Counts, errors and seconds. A photo that cannot be read is a row with an error, not an
        exception.

    Raises
    ------
    NoImagesError
        `images` contains no photos.
    ModelError
        The model does not exist or violates the contract.
    FileExistsError
        `output` exists and `overwrite` is false, or it is a folder of other files.
    TypeError, ValueError
        A decode option does not exist or has an invalid value.
    ValueError
        A decision is unknown, contradicts another or is about a photo that is not in `images`.
    ValueError
        `images` or `output` is a URI or the empty string, `output` has the ending of another
        format, or it is a folder within `images`.
    OSError
        `images` does not exist, or `output` cannot be written.
    ImportError
        pyarrow is not installed.

    Examples
    --------
    >>> summary = featurize_folder("fruits", "fruits.parquet", threads=2)  # doctest: +SKIP
    >>> print(summary.photos, summary.errors)  # doctest: +SKIP
    295 0
    """
    started = monotonic()
    decode = gather_options("featurize_folder", decode_options)
    if allow_trailing is not None:
        message = "allow_trailing is deprecated and ignored: bytes after a photo are accepted"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    parquet("writing Parquet")
    from pomona._native import Featurizer

    roots = list_of_paths(images)
    for path in map(os.fsdecode, [*roots, output]):
        if "://" in path and not Path(path).exists() and not Path(path).parent.exists():
            raise ValueError(
                f"{path} is a URI; this command works on local files, and `pomona run` accepts URIs"
            )
    folder = results_folder(output, roots, overwrite)
    if folder is None and check_writable(output).exists() and not overwrite:
        raise FileExistsError(
            errno.EEXIST, "exists already; overwrite=True replaces it", str(output)
        )
    check_exist(roots)
    chosen = None if decisions is None else read_decisions(decisions)
    featurizer = Featurizer(model, threads=threads, **decode.keywords())
    # Two walks, one to count and one to read: a list of millions of paths would not fit in memory.
    tally = Tally()
    decided = _decided(find_images(*roots, tally=tally), chosen)
    if not tally.images:
        raise NoImagesError(no_photos(roots, tally))
    if chosen is not None:
        chosen.check_found({key(each.path) for each in decided}, ", ".join(map(os.fsdecode, roots)))
    labels = {each.path: each.label for each in decided}
    left_out = sum(label is None for label in labels.values())
    if left_out == tally.images:
        raise NoImagesError(f"the decisions in {decisions} leave out all {left_out:,} photos")
    report_listing(tally)

    summary = Summary(
        output=str(output),
        left_out=tally.left_out,
        decided=counted(left_out, len(labels) - left_out),
        unreadable=tally.unreadable,
        dim=featurizer.dim,
    )
    metadata = _metadata(featurizer, decode, roots, tally)
    metadata["pomona.decided"] = json.dumps(summary.decided)
    kept = ((path, labels.get(path, label_of(path))) for path in find_images(*roots))
    photos_to_read = ((path, label) for path, label in kept if label is not None)
    with _output_file(output, folder) as file:
        with row_groups(file, _schema().with_metadata(metadata)) as write, Progress(
            "Featurizing", total=tally.images - left_out
        ) as progress, read_ahead(photos_to_read) as chunks:
            for photos in chunks:
                batch = featurizer.try_featurize([photo.content for photo in photos])
                errors = [photo.error or error for photo, error in zip(photos, batch.errors)]
                batch = FeaturizedBatch(batch.features, errors, batch.warnings, batch.orientations)
                write(_table(photos, batch))
                progress.update(len(photos), errors=summary.add(photos, batch))
        summary.output_bytes = file.tell()
    summary.seconds = monotonic() - started
    if folder is not None:
        content = summary_of(folder / FEATURES_FILE, folder.absolute())
        content.featurized = summary.photos
        content.seconds = {"features": round(summary.seconds, 3)}
        content.images_per_second = round(summary.images_per_second, 1)
        with atomic_file(folder / "summary.json") as file:
            file.write(json.dumps(asdict(content), indent=2).encode())
    return summary


def results_folder(output: PathLike, roots: Sequence[PathLike], overwrite: bool) -> Path | None:
    """Check the name of the output; return the folder for results, None if it names a file."""
    name = os.fsdecode(output)
    if name == "-":
        raise ValueError(
            "features cannot be written to standard output: give the name of a file, such as "
            "features.parquet, or of a folder"
        )
    path = Path(name)
    if not name or (path.suffix.lower() == ".parquet" and not name.endswith("/")):
        return None
    if path.is_dir():
        entries = {each.name for each in path.iterdir() if not is_partial(each.name)}
        if entries and not is_features_file(path / FEATURES_FILE):
            raise FileExistsError(
                errno.EEXIST,
                "is a folder with other files: give a new or an empty folder, or the name of a "
                "file that ends in .parquet",
                name,
            )
        if entries and not overwrite:
            raise FileExistsError(errno.EEXIST, "exists already; overwrite=True replaces it", name)
    elif os.path.lexists(name) or path.suffix.lower() in (*OTHER_FORMATS, *IMAGE_EXTENSIONS):
        raise ValueError(_not_parquet(path))
    target = Path(os.path.realpath(name))
    for root in roots:
        if Path(os.path.realpath(root)) in (target, *target.parents):
            raise ValueError(
                f"the results folder {name} is in the folder of photos {os.fsdecode(root)}: choose "
                "another place, or figures of a report would count as photos"
            )
    return path


def _not_parquet(path: Path) -> str:
    """Explain that features are Parquet, and how to convert that to the wanted format."""
    wanted = path.suffix.lower()
    target = path.with_suffix(".parquet")
    message = f"{one_line(str(path))}: features are written as Parquet, so give {target.name}"
    line = OTHER_FORMATS.get(wanted)
    if line is not None:
        line = line.format(source=target.name, target=path.name)
        message += f", and convert it with pandas: {line}"
    return message


@contextmanager
def _output_file(output: PathLike, folder: Path | None) -> Iterator[BinaryIO]:
    """Open the Parquet file to write, which appears under its name once it is complete."""
    if folder is None:
        with atomic_file(output) as file:
            yield file
        return
    check_writable(folder / "summary.json" if folder.exists() else folder)
    created = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        with atomic_folder(folder / "features") as features:
            with atomic_file(features / FEATURES_FILE.name) as file:
                yield file
            # The results are incomplete from here until the new summary is written.
            with suppress(FileNotFoundError):
                (folder / "summary.json").unlink()
            for name in ("pca", "pca_model"):
                shutil.rmtree(folder / name, ignore_errors=True)
            for each in (folder / "report").glob("*"):
                if each.name != "findings.csv":  # it has a person's decisions
                    each.unlink()
    except BaseException:
        if created:
            with suppress(OSError):
                folder.rmdir()
        raise


def _decided(paths: Iterable[str], decisions: Decisions | None) -> list[Decision]:
    """List the decisions about photos, with their paths as they were found; walks all paths."""
    found = []
    for path in paths:
        decision = None if decisions is None else decisions.of(path)
        if decision is not None:
            found.append(decision._replace(path=path))
    return found


def no_photos(roots: Sequence[PathLike], tally: Tally) -> str:
    """Say why a listing of folders has no photos."""
    where = ", ".join(one_line(os.fsdecode(root)) for root in roots)
    endings = " ".join(ending[1:] for ending in IMAGE_EXTENSIONS)
    message = f"no photos in {where}: no file name ends in {endings}"
    message += f"; left out: {describe_left_out(tally.left_out) or 'nothing'}"
    for path, reason in tally.unreadable[:LISTED_ERRORS]:
        message += f"; {one_line(path)} cannot be listed: {reason}"
    return message


class _Photo(NamedTuple):
    path: str
    label: str
    content: bytes | None
    error: ImageError | None


def _read_photo(path: str, label: str) -> _Photo:
    """Read a file; every failure to read it becomes the photo's error."""
    content = error = None
    try:
        content = _read_file(path)
    except OSError as failure:
        kind: ErrorKind = "gone" if isinstance(failure, FileNotFoundError) else "storage"
        error = ImageError(0, f"cannot be read: {failure.strerror or failure}", kind)
    return _Photo(utf8_text(path), utf8_text(label), content, error)


def _read_file(path: str) -> bytes:
    # Checked before opening, because opening a pipe or a device has side effects; opened without
    # blocking in case the file has become one since.
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
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise OSError(
            errno.EFBIG,
            f"the file has {status.st_size:,} bytes, the limit is {MAX_FILE_BYTES:,}",
        )


def _chunks(photos: Iterable[tuple[str, str]]) -> Iterator[list[_Photo]]:
    chunk: list[_Photo] = []
    size = 0
    rows = min(FIRST_CHUNK_ROWS, CHUNK_ROWS)
    for path, label in photos:
        photo = _read_photo(path, label)
        chunk.append(photo)
        size += len(photo.content or b"")
        if len(chunk) >= rows or size >= CHUNK_BYTES:
            yield chunk
            chunk, size, rows = [], 0, min(rows * 2, CHUNK_ROWS)
    if chunk:
        yield chunk


@contextmanager
def read_ahead(photos: Iterable[tuple[str, str]]) -> Iterator[Iterator[list[_Photo]]]:
    """Read photos, given with their labels, in a thread, one chunk ahead of the consumer."""
    ready: Queue[list[_Photo] | Exception | None] = Queue(maxsize=1)
    stop = Event()

    def read() -> None:
        try:
            for chunk in _chunks(photos):
                ready.put(chunk)
                if stop.is_set():
                    return
            ready.put(None)
        except Exception as error:  # raised again in the consumer
            ready.put(error)

    def take() -> Iterator[list[_Photo]]:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    # A daemon, so that a read stuck on a dead network disk does not keep the process alive.
    thread = Thread(target=read, name="pomona-reader", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        with suppress(Empty):
            ready.get_nowait()
        thread.join(timeout=1)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("label", pa.string(), nullable=False),
            pa.field("features", pa.list_(pa.float32())),
            *(pa.field(name, pa.string()) for name in ERROR_COLUMNS),
            *map(pa.field, NOTE_COLUMNS, (pa.string(), pa.int32())),
        ]
    )


def _metadata(
    featurizer: Featurizer, decode: DecodeOptions, roots: Sequence[PathLike], tally: Tally
) -> dict[str, str]:
    """Return the provenance of the features, for the metadata of the file."""
    from pomona._native import __version__
    from pomona.models.store import sha256_of

    return {
        **featurizer.metadata,
        "pomona.version": __version__,
        "pomona.model": featurizer.model_name,
        "pomona.model_sha256": sha256_of(featurizer.model_path),
        "pomona.decode": json.dumps(decode.keywords()),
        "pomona.dim": str(featurizer.dim),
        **origin(roots, tally),
    }


def _table(photos: Sequence[_Photo], batch: FeaturizedBatch) -> pa.Table:
    """Build rows from photos and their results, without a Python object per number."""
    import pyarrow as pa

    from pomona._native import __version__

    features, errors = batch
    failed = np.array([error is not None for error in errors], dtype=bool)
    columns = [
        pa.array([photo.path for photo in photos], pa.string()),
        pa.array([photo.label for photo in photos], pa.string()),
        lists_of(features, failed),
        pa.array([error and error.reason for error in errors], pa.string()),
        pa.array([error and error.kind for error in errors], pa.string()),
        pa.array([error and __version__ for error in errors], pa.string()),
        pa.array(batch.warnings, pa.string()),
        pa.array(batch.orientations, pa.int32()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema())
