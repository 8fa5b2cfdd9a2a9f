"""Label new photos with a classifier, on this machine.

`predict` writes a folder of Parquet files with one row per photo, as `pomona.spark.predict` does:

``path``, ``label``
    The photo, and the name of its folder.
``predicted``
    The predicted class; null if the photo cannot be read.
``probability``, ``probabilities``
    The probability of the predicted class, and of each class (a map). For a random forest, these
    are shares of the votes. An SVM has no probabilities; in their place it has
``scores``
    The signed distance from the boundary of each class (a map). It is positive if the photo looks
    like the class; the class with the highest one is predicted.
``error``, ``error_kind``, ``error_version``
    Why a photo cannot be read, as in `pomona.local`; null if it can.
``warning``, ``orientation``
    Notes on a photo that can be read, as in `pomona.local`.
``trained``
    Whether the classifier was trained on the photo: its label says nothing about new photos. Null
    for a photo that cannot be read, and for a classifier of a version before 0.3.0.
"""

from __future__ import annotations

import os
import uuid
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Sequence

import numpy as np

from pomona._arguments import list_of_paths
from pomona._batch import FeaturizedBatch
from pomona._decode import changes_of_features, gather_options
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS, ModelError
from pomona._images import Tally, find_images, label_of
from pomona._optional import require
from pomona._output import atomic_file
from pomona._progress import Progress, report_listing
from pomona.classification.fingerprints import FILE, are_among, as_set, fingerprints
from pomona.local import NoImagesError, no_photos, read_ahead
from pomona.models.store import sha256_of
from pomona.results.local import local_path
from pomona.results.summary import LISTED_ERRORS

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords, DecodeOptions
    from pomona._typing import PathLike
    from pomona.results.spark_ml import Stage


@dataclass(frozen=True)
class Predictions:
    """The outcome of `predict`.

    Attributes
    ----------
    uri
        The folder of labels.
    photos, errors
        Rows, and those of photos that cannot be read.
    first_errors
        The first errors: (path, reason).
    warnings, turned
        Rows with a warning, and rows of photos whose EXIF orientation was not applied.
    predicted
        Photos per predicted class.
    named, agreeing
        Readable photos in folders named like one of the classes, and those among them that are
        predicted as that class.
    probabilities
        Whether there are probabilities; an SVM has scores instead.
    seconds
        Wall-clock seconds in total.
    trained
        Photos that the classifier was trained on; None for one of a version before 0.3.0, which
        did not record them.
    """

    uri: str
    photos: int
    errors: int
    first_errors: list[tuple[str, str]]
    warnings: int
    turned: int
    predicted: dict[str, int]
    named: int
    agreeing: int
    probabilities: bool
    seconds: float
    trained: int | None = None


def predict(
    classifier: PathLike,
    images: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    threads: int = 1,
    overwrite: bool = False,
    **decode_options: Unpack[DecodeKeywords],
) -> Predictions:
    """Label photos and write the labels as Parquet.

    Parameters
    ----------
    classifier
        The folder of a classifier that `train` or `pomona.spark.train` saved.
    images
        Folders or photos, one or several. Folders are searched recursively.
    output
        The folder to write; this module documents its columns.
    threads
        Threads that decode photos and run the image model.
    overwrite
        Replace existing labels. They are deleted once the new ones are complete.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`. Those not given are as for the
        photos that the classifier was trained on.

    Raises
    ------
    FileNotFoundError
        The classifier or a folder of photos does not exist.
    FileExistsError
        `output` exists and `overwrite` is false.
    NoImagesError
        There are no photos.
    ModelError
        The image model in the classifier's folder is damaged.
    TypeError
        An option does not exist or has the wrong type.
    ValueError
        The classifier is another kind of Spark ML model, `output` overlaps with `images`, a path is
        not on this machine, or an option is invalid.

    Warns
    -----
    UserWarning
        If ``apply_exif`` or ``decode`` differs from that of the photos that the classifier was
        trained on.

    Examples
    --------
    >>> labels = predict("fruits-results/classifier/svm/model", "new", "labels")  # doctest: +SKIP
    >>> labels.photos, labels.errors, labels.predicted  # doctest: +SKIP
    """
    started = monotonic()
    gather_options("predict", decode_options)
    roots = list_of_paths(images)
    home = _local(output)
    sources = [_local(root) for root in roots]
    _check_output(home, sources, overwrite)
    stages = load(classifier)
    photos_stage, *others, names = stages
    decode = changed_options(photos_stage.decode, decode_options)
    known = trained_photos(classifier)
    if sha256_of(photos_stage.model) != photos_stage.sha256:
        raise ModelError(f"model {photos_stage.model} is damaged: its sha256 has changed")
    from pomona._native import Featurizer

    featurizer = Featurizer(photos_stage.model, threads=threads, **decode.keywords())
    tally = Tally()
    for _ in find_images(*sources, tally=tally):
        pass
    if not tally.images:
        raise NoImagesError(no_photos(roots, tally))
    report_listing(tally)

    scorer = _Scorer(others, names.labels, known)
    counts = _Counts(names.labels)
    existing = _parts(home)
    created = not home.exists()
    home.mkdir(parents=True, exist_ok=True)
    file = home / f"part-00000-{uuid.uuid4()}.snappy.parquet"
    try:
        with atomic_file(file) as stream, _writer(stream, scorer.schema) as writer, Progress(
            "Labelling", total=tally.images
        ) as progress, read_ahead(
            (path, label_of(path)) for path in find_images(*sources)
        ) as chunks:
            for photos in chunks:
                batch = featurizer.try_featurize([photo.content for photo in photos])
                errors = [photo.error or error for photo, error in zip(photos, batch.errors)]
                batch = FeaturizedBatch(batch.features, errors, batch.warnings, batch.orientations)
                paths = [photo.path for photo in photos]
                table = scorer.table(paths, [photo.label for photo in photos], batch)
                writer.write_table(table)
                failed = sum(error is not None for error in errors)
                progress.update(len(photos), errors=failed)
                counts.add(table)
    except BaseException:
        if created:
            with suppress(OSError):
                home.rmdir()
        raise
    for part in existing:
        part.unlink()
    (home / "_SUCCESS").touch()
    return Predictions(
        uri=os.fspath(output),
        photos=counts.photos,
        errors=counts.errors,
        first_errors=sorted(counts.failures)[:LISTED_ERRORS],
        warnings=counts.warnings,
        turned=counts.turned,
        predicted={label: n for label, n in sorted(counts.predicted.items()) if n},
        named=counts.named,
        agreeing=counts.agreeing,
        probabilities=scorer.probabilities,
        seconds=round(monotonic() - started, 3),
        trained=None if known is None else counts.trained,
    )


def load(classifier: PathLike) -> list[Any]:
    """Load the stages of a classifier, and refuse any other Spark ML model.

    Raises
    ------
    FileNotFoundError
        The folder holds no classifier.
    ValueError
        It is incomplete or another kind of model.
    """
    spark_ml = require("pomona.results.spark_ml", "spark", "a classifier")
    folder = _local(classifier)
    try:
        stages: list[Stage] = spark_ml.load(folder)
    except FileNotFoundError as error:
        # The folders above a classifier are easily mistaken for it.
        inside = sorted([*folder.glob("model"), *folder.glob("classifier/*/model")])
        example = f", such as {inside[0]}" if inside else ""
        raise FileNotFoundError(
            f"{folder} holds no classifier: give a folder saved by `pomona train`{example}"
        ) from error
    first, last = stages[0], stages[-1]
    if not isinstance(first, spark_ml.Photos) or not isinstance(last, spark_ml.ClassNames):
        kinds = ", ".join(type(stage).__name__ for stage in stages)
        raise ValueError(f"{folder} was not saved by `pomona train`: its stages are {kinds}")
    return stages


def trained_photos(classifier: PathLike) -> frozenset[bytes] | None:
    """Read the fingerprints of a classifier's training photos; None if it has none."""
    file = _local(classifier) / FILE
    return as_set(np.load(str(file), allow_pickle=False)) if file.exists() else None


def changed_options(trained: DecodeOptions, given: DecodeKeywords) -> DecodeOptions:
    """Change how a classifier's photos are decoded, and warn where their features may differ."""
    options = replace(trained, **given)
    for name in changes_of_features(trained, options):
        before, now = getattr(trained, name), getattr(options, name)
        warnings.warn(
            f"the classifier was trained with {name}={before!r}: with {name}={now!r}, photos "
            "that this changes may be labelled less well",
            stacklevel=3,
        )
    return options


class _Scorer:
    """Labels features, and builds the rows of the output."""

    def __init__(
        self, stages: Sequence[Any], labels: Sequence[str], trained: frozenset[bytes] | None
    ) -> None:
        import pyarrow as pa

        self.probabilities = type(stages[-1]).__name__ != "LinearSVMs"
        self._stages, self._labels, self._trained = stages, list(labels), trained
        by_class = pa.map_(pa.string(), pa.float64())
        if self.probabilities:
            numbers = [("probability", pa.float64()), ("probabilities", by_class)]
        else:
            numbers = [("scores", by_class)]
        self.schema = pa.schema(
            [
                *((name, pa.string()) for name in ("path", "label", "predicted")),
                *numbers,
                *((name, pa.string()) for name in ERROR_COLUMNS),
                *zip(NOTE_COLUMNS, (pa.string(), pa.int32())),
                ("trained", pa.bool_()),
            ]
        )

    def table(
        self, paths: Sequence[str], labels: Sequence[str], batch: FeaturizedBatch
    ) -> pa.Table:
        import pyarrow as pa

        from pomona._native import __version__

        failed = np.array([error is not None for error in batch.errors], dtype=np.bool_)
        # Rows without features are computed from zeros, and then null.
        features = np.where(failed[:, np.newaxis], np.float32(0), batch.features)
        scores = features
        for stage in self._stages:
            scores = stage.apply(scores)
        classes = np.array(self._labels, dtype=object)
        columns = [
            pa.array(paths, pa.string()),
            pa.array(labels, pa.string()),
            pa.array(classes[scores.argmax(axis=1)], pa.string(), mask=failed),
        ]
        if self.probabilities:
            scores = _probabilities(scores, self._stages[-1])
            columns.append(pa.array(scores.max(axis=1), mask=failed))
        columns += [
            self._map(scores, failed),
            pa.array([error and error.reason for error in batch.errors], pa.string()),
            pa.array([error and error.kind for error in batch.errors], pa.string()),
            pa.array([error and __version__ for error in batch.errors], pa.string()),
            pa.array(batch.warnings, pa.string()),
            pa.array(batch.orientations, pa.int32()),
        ]
        if self._trained is None:
            columns.append(pa.nulls(len(paths), pa.bool_()))
        else:
            columns.append(pa.array(are_among(fingerprints(features), self._trained), mask=failed))
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _map(self, numbers: NDArray[np.float64], failed: NDArray[np.bool_]) -> pa.Array:
        import pyarrow as pa

        pairs = [
            None if missing else list(zip(self._labels, row))
            for row, missing in zip(numbers.tolist(), failed)
        ]
        return pa.array(pairs, pa.map_(pa.string(), pa.float64()))


def _probabilities(scores: NDArray[np.float64], stage: Any) -> NDArray[np.float64]:
    if type(stage).__name__ == "Forest":
        votes = scores
    else:
        votes = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
    return shares


class _Counts:
    """What the rows of the output are, in numbers."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = frozenset(labels)
        self.photos = self.errors = self.warnings = self.turned = 0
        self.named = self.agreeing = self.trained = 0
        self.failures: list[tuple[str, str]] = []
        self.predicted: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        """Count rows."""
        columns = {
            name: table.column(name).to_pylist()
            for name in ("path", "label", "predicted", "error", "warning", "orientation", "trained")
        }
        self.photos += len(table)
        failures = [pair for pair in zip(columns["path"], columns["error"]) if pair[1] is not None]
        self.errors += len(failures)
        self.failures = sorted([*self.failures, *failures])[:LISTED_ERRORS]
        self.warnings += sum(value is not None for value in columns["warning"])
        self.turned += sum(value is not None for value in columns["orientation"])
        self.trained += sum(value is True for value in columns["trained"])
        for label, predicted in zip(columns["label"], columns["predicted"]):
            if predicted is not None:
                self.predicted[predicted] += 1
                self.named += label in self._labels
                self.agreeing += label == predicted


def _writer(stream: Any, schema: pa.Schema) -> Any:
    parquet = require("pyarrow.parquet", "spark", "writing Parquet")
    return parquet.ParquetWriter(stream, schema, compression="snappy")


def _local(path: PathLike) -> Path:
    local = local_path(os.fspath(path))
    if local is None:
        raise ValueError(f"{path} is not on this machine, which needs Spark")
    return local


def _parts(home: Path) -> list[Path]:
    return list(home.glob("part-*")) if home.is_dir() else []


def _check_output(home: Path, sources: Sequence[Path], overwrite: bool) -> None:
    target = Path(os.path.realpath(home))
    for source in sources:
        photos = Path(os.path.realpath(source))
        if photos == target or photos in target.parents or target in photos.parents:
            raise ValueError(
                f"the output {home} and the folder of photos {source} overlap: choose another "
                "output"
            )
    names = sorted(path.name for path in home.iterdir()) if home.is_dir() else []
    if (names or home.is_file()) and not overwrite:
        raise FileExistsError(f"{home} exists already: overwrite it, or choose another output")
    foreign = [name for name in names if not name.startswith(("part-", "_", "."))]
    if foreign or home.is_file():
        raise ValueError(
            f"{home} contains {foreign[0] if foreign else 'other data'}, which `predict` did not "
            "write: choose another output"
        )
