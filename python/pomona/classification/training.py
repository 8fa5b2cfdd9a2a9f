"""Train a classifier on results, test it on two hold-outs, and save it, on this machine.

`train` writes this to the folder of results, as `pomona.spark.train` does::

    classifier/<logistic, svm or forest>/
        model/          a Spark PipelineModel from photos to labels, unless saved elsewhere
        metrics.json    a `Training`, written last: if it exists, the model is complete

The ``holdouts`` of ``metrics.json`` are ``random`` and ``blocked``, each a `Metrics`; ``blocked``
is null if photos without a rotation index in their names are too many, or too alike::

    {"classifier": "svm", "features": "pca", "dimensions": 47, "photos": 295, "left_out": 0,
     "holdouts": {"random": {"how": "25% of each class, drawn at random", "notes": [],
                             "train": 218, "test": 77, "left_out": 0,
                             "accuracy": 1.0, "macro_f1": 1.0,
                             "classes": [{"label": "apple_6", "precision": 1.0, "recall": 1.0,
                                          "f1": 1.0, "support": 4, "trained": 11}, …],
                             "confusion": [[4, 0, …], …],
                             "mistakes": [["file:/…/r0_11.jpg", "apple_6", "pear_1"], …]},
                  "blocked": {…}},
     "notes": [], "model": "/…/classifier/svm/model", "engine": "local", …}
"""

from __future__ import annotations

import csv
import io
import json
import os
import platform
from collections import Counter
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, NamedTuple, Sequence, TypeVar

import numpy as np

from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS, ModelError
from pomona._optional import require
from pomona._progress import timed
from pomona.classification import holdouts
from pomona.classification.classifiers import require_scikit_learn
from pomona.classification.fingerprints import FILE, fingerprints
from pomona.models.store import resolve, sha256_of
from pomona.results.local import LocalResults, local_path
from pomona.results.metrics import (
    CLASSIFIERS,
    DEFAULT_HOLDOUT,
    FEATURES,
    LISTED_MISTAKES,
    Mistake,
    Training,
    measure,
)
from pomona.results.vectors import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona._typing import PathLike
    from pomona.results import Results
    from pomona.results.metrics import Metrics
    from pomona.results.spark_ml import Stage

T = TypeVar("T")

#: Numbers in the features of photos that are compared for `holdouts.by_likeness`: 100,000 photos of
#: 1,280 features, which take 512 MiB.
COMPARED_NUMBERS = 2**27

#: Columns that are no groups.
TAKEN_COLUMNS = ("path", "label", "features", *ERROR_COLUMNS, *NOTE_COLUMNS)

#: Classes listed in an error message.
_LISTED = 5


class Groups(NamedTuple):
    """What the photos of a training can be grouped by."""

    #: The names of columns, and how to read one: its values by path, as strings.
    columns: Sequence[str]
    read_column: Callable[[str], Mapping[str, str | None]]
    #: Reads the text of a file.
    read_file: Callable[[str], str | None]
    #: Returns the features of photos, float32 [n, d], in the order of the paths; None if there are
    #: too many to be compared.
    features: Callable[[Sequence[str]], NDArray[np.float32] | None]


def train(
    results: LocalResults | PathLike,
    *,
    classifier: str,
    features: str = "pca",
    holdout_share: float = DEFAULT_HOLDOUT,
    group: str | None = None,
    seed: int = 0,
    model: PathLike | None = None,
    output: PathLike | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Training:
    """Train a classifier on labelled photos, test it on two hold-outs, and save it.

    For each hold-out, the PCA and the classifier are fitted to the training part only. The saved
    pipeline is then fitted to all photos. It decodes photos with the options of the results. All
    features are in memory: 5 kB for a photo of 1,280 features, and three times that while a
    classifier is fitted to ``raw`` features.

    Parameters
    ----------
    results
        What `pomona featurize` or `pomona run` wrote on this machine. If it has no PCA, one is
        fitted with the default settings and saved.
    classifier
        ``logistic``, ``svm`` or ``forest``; see `pomona.classification.classifiers.fit`.
    features
        ``pca``: principal components. ``raw``: the features of the image model.
    holdout_share
        The share of photos to test on, greater than 0 and less than 1.
    group
        Photos with the same key are tested together: a column of the features; a CSV file with the
        columns ``path`` and ``group``; a regular expression for paths whose first group is the key;
        or ``duplicates``, which keeps near-duplicates in one part. None: ranges of the rotation
        index, if at least half of the file names have one, and otherwise ``duplicates``.
    seed
        Seed of the hold-outs and of the forest. A seed holds out the same photos everywhere.
    model
        The image model that computed the features, if it is not available under the name in
        ``summary.json``.
    output
        The folder to save the pipeline in; an existing Spark ML model is replaced. None:
        ``classifier/<classifier>/model`` in `results`.
    progress
        Called with a description of each step before it starts.

    Returns
    -------
    Training
        The content of ``metrics.json``.

    Raises
    ------
    FileNotFoundError
        `results` are not there or not finished.
    FileExistsError
        `output` contains something else.
    ImportError
        scikit-learn or pyarrow is missing.
    ModelError
        The image model is not available, or is not the one that computed the features.
    ValueError
        An argument is invalid, or there is nothing to learn: no labels, only one class, a class
        with one photo, or groups that leave nothing to train or test on.

    Examples
    --------
    >>> training = train("fruits.parquet", classifier="svm")  # doctest: +SKIP
    >>> training.holdouts["random"].accuracy  # doctest: +SKIP
    0.99
    """
    check_arguments(classifier, features, holdout_share)
    require_scikit_learn(classifier)
    spark_ml = require("pomona.results.spark_ml", "spark", "a classifier")
    from pomona.pca import ensure_pca

    if not isinstance(results, LocalResults):
        results = LocalResults(os.fspath(results))
    own_folder = f"classifier/{classifier}"
    target = results.home / own_folder / "model"
    if output is not None:
        local = local_path(os.fspath(output))
        if local is None:
            raise ValueError(f"the output {output} is not on this machine, which needs Spark")
        target = local
    target = Path(os.path.realpath(target))
    spark_ml.check_replaceable(target)
    network = _network(results.summary, model)
    if features == "pca":
        ensure_pca(results, progress)
    summary = results.summary

    seconds: dict[str, float] = {}
    progress("reading the features")
    with timed(seconds, "read"):
        photos = labelled(results.vectors("features"))
        sizes = dict(sorted(Counter(photos.labels).items()))
        check_classes(results.uri, sizes, summary["photos"])
    components = summary["k"] if features == "pca" else None
    training = Training(
        classifier=classifier,
        features=features,
        dimensions=components or photos.matrix.shape[1],
        photos=len(photos.paths),
        left_out=summary["photos"] - len(photos.paths),
        holdout=holdout_share,
        group=group,
        seed=seed,
        model=str(target),
        image_model=summary["model"],
        engine="local",
        seconds=seconds,
    )
    groups = Groups(
        columns=[name for name in results.columns() if name not in TAKEN_COLUMNS],
        read_column=lambda name: column_of(results, name),
        read_file=_read_text,
        features=lambda _: photos.matrix if photos.matrix.size <= COMPARED_NUMBERS else None,
    )

    stages = fit_and_test(
        training,
        photos,
        groups,
        lambda: spark_ml.takes_vectors(spark_ml.load(results.home / "pca_model")),
        summary["standardize"],
        progress,
    )
    progress("saving the classifier")
    metrics = f"{own_folder}/metrics.json"
    results.delete(metrics)
    with timed(seconds, "save"):
        # New photos are decoded as those that the classifier was trained on.
        first = spark_ml.Photos(network, summary["model"]["sha256"], results.decode)
        spark_ml.save(target, [first, *stages])
        np.save(str(target / FILE), fingerprints(photos.matrix), allow_pickle=False)
    training.versions = versions()
    training.finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    results.write(metrics, json.dumps(asdict(training), indent=2).encode())
    return training


# Shared with Spark.

#: Why there is no hold-out by likeness.
_TOO_MANY = "there are too many photos to find the near-duplicates among them"
_TOO_ALIKE = "the photos of a class are all near-duplicates of each other"


def check_arguments(classifier: str, features: str, holdout_share: float) -> None:
    """Raise ValueError for an argument of `train` that is not a choice."""
    if classifier not in CLASSIFIERS:
        raise ValueError(f"no classifier {classifier!r}: choose one of {', '.join(CLASSIFIERS)}")
    if features not in FEATURES:
        raise ValueError(f"no features {features!r}: choose one of {', '.join(FEATURES)}")
    if not 0.0 < holdout_share < 1.0:
        raise ValueError(f"the hold-out is {holdout_share}: it must be between 0 and 1")


def check_classes(uri: str, sizes: Mapping[str, int], total: int) -> None:
    """Raise ValueError if there is nothing to learn; `sizes` are the photos of each label."""
    if not sizes:
        raise ValueError(
            f"none of the {total:,} photos of {uri} has both features and a label, which is the "
            "name of its folder"
        )
    if len(sizes) == 1:
        raise ValueError(
            f"all photos are of one class, {next(iter(sizes))}: there is nothing to classify. The "
            "label of a photo is the name of its folder"
        )
    single = [label for label, photos in sizes.items() if photos == 1]
    if single:
        raise ValueError(
            f"{_list(single)}: only one readable photo, but training and testing need one each; "
            "add photos, or repeat the run without these classes"
        )


def check_model(name: str, sha256: str, given: PathLike | None, found: str) -> None:
    """Raise ModelError unless a model, of the checksum `found`, is the one of the features."""
    if found != sha256:
        raise ModelError(
            f"the features were computed with {name} (sha256 {sha256[:16]}…), and {given or name} "
            f"is another model ({found[:16]}…): give the right file with --model (model=)"
        )


def no_model(name: str, given: PathLike | None, error: ModelError) -> ModelError:
    """Extend the error of a model that is not there."""
    hint = f"The features were computed with {name}: give its file with --model (model=)"
    if given is not None:
        hint = "The model is the image model; output is where the classifier is saved"
    return ModelError(f"{str(error).rstrip('.')}. {hint}")


def column_of(results: Results, name: str) -> dict[str, str]:
    """Return the values of a column as strings, by path; without those that are null."""
    rows = results.first_with(name, results.summary["photos"])
    return {path: str(value) for path, _, value in rows}


def hold_out(
    paths: Sequence[str],
    labels: Sequence[str],
    share: float,
    seed: int,
    group: str | None,
    groups: Groups,
) -> tuple[dict[str, holdouts.Holdout | None], list[str]]:
    """Choose the random and the blocked hold-out, as described for `train`.

    Returns
    -------
    splits
        By name; ``blocked`` may be None.
    notes
        Says why it is None.
    """
    random = holdouts.stratified(paths, labels, share, seed)
    blocked = _blocked(paths, labels, share, seed, group, groups)
    if isinstance(blocked, holdouts.Holdout):
        return {"random": random, "blocked": blocked}, []
    note = (
        "no blocked hold-out: the file names have no rotation index, such as r0_115.jpg, and "
        f"{blocked}. These may make the random hold-out look too good: group them with --group"
    )
    return {"random": random, "blocked": None}, [note]


def _blocked(
    paths: Sequence[str],
    labels: Sequence[str],
    share: float,
    seed: int,
    group: str | None,
    groups: Groups,
) -> holdouts.Holdout | str:
    if group is None:
        indexed = sum(holdouts.ROTATION.search(path) is not None for path in paths)
        if 2 * indexed >= len(paths):
            rotations = holdouts.by_rotation(paths, labels, share, seed)
            if rotations is not None:
                return rotations
    if group is None or (group == holdouts.DUPLICATES and group not in groups.columns):
        features = groups.features(paths)
        reason = _TOO_MANY
        if features is not None:
            found = holdouts.by_likeness(paths, labels, features, share, seed)
            if found is not None:
                return found
            reason = _TOO_ALIKE
        if group is None:
            return reason
        raise ValueError(f"--group {group}: {reason}; group them by a column or by their names")
    if group in groups.columns:
        keys, what = groups.read_column(group), f"column {group}"
    elif group.lower().endswith(".csv"):
        keys, what = _keys_of_csv(group, groups.read_file(group)), f"file {group}"
    else:
        extracted = holdouts.keys_by_pattern(paths, group, ["path", "label", *groups.columns])
        keys, what = dict(zip(paths, extracted)), f"pattern {group}"
    chosen = [keys.get(path) for path in paths]
    if all(key is None for key in chosen):
        raise ValueError(f"--group: {what} gives no key for any photo, such as {paths[0]}")
    return holdouts.by_group(labels, chosen, share, seed, what)


def _keys_of_csv(name: str, text: str | None) -> dict[str, str | None]:
    if text is None:
        raise ValueError(f"--group {name}: there is no such file")
    rows = csv.DictReader(io.StringIO(text))
    missing = [column for column in ("path", "group") if column not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(
            f"--group {name}: no column {missing[0]} in its first line; it needs path and group"
        )
    return {row["path"]: row["group"] or None for row in rows}


def step_of(steps: Sequence[str], name: str, classifier: str) -> str:
    """Describe a fit, one of all that a training makes."""
    what = name if name == "all photos" else f"{name} hold-out"
    return f"{what}: fitting {classifier}, {steps.index(name) + 1} of {len(steps)}"


def in_steps(
    training: Training,
    paths: Sequence[str],
    labels: Sequence[str],
    groups: Groups,
    test: Callable[[holdouts.Holdout], Metrics],
    fit: Callable[[], T],
    progress: Callable[[str], None],
) -> T:
    """Choose the hold-outs, test on each, and fit to all photos.

    `training` gets the metrics, the notes and the seconds of each step. `test` fits to the training
    part of a hold-out and predicts its test part; `fit` fits to all photos, and its result is
    returned.
    """
    classifier, seconds = training.classifier, training.seconds
    progress("choosing the hold-outs")
    with timed(seconds, "split"):
        splits, training.notes = hold_out(
            paths, labels, training.holdout, training.seed, training.group, groups
        )
    steps = [*(name for name, split in splits.items() if split), "all photos"]
    for name, split in splits.items():
        training.holdouts[name] = None
        if split is None:
            continue
        progress(step_of(steps, name, classifier))
        with timed(seconds, name):
            training.holdouts[name] = test(split)
    progress(step_of(steps, "all photos", classifier))
    with timed(seconds, "train"):
        return fit()


def check_trained_on(split: holdouts.Holdout, trained: Mapping[str, int], tested: int) -> None:
    """Raise ValueError if a hold-out leaves too little to train or test on."""
    if len(trained) < 2:
        classes = _list(list(trained)) or "nothing"
        raise ValueError(
            f"the {split.name} hold-out ({split.how}) leaves {classes} to train on: hold out "
            "less, or choose other groups"
        )
    if not tested:
        raise ValueError(
            f"the {split.name} hold-out ({split.how}) has no photos to test on: hold out more"
        )


def _list(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


# The training itself, on this machine or on the driver of a Spark application.


def labelled(blocks: Iterable[Vectors]) -> Vectors:
    """Gather the labelled photos that have features, in the order of their paths."""
    paths: list[str] = []
    labels: list[str] = []
    matrices = []
    for block in blocks:
        rows = [row for row, label in enumerate(block.labels) if label]
        kept = block if len(rows) == len(block.labels) else block.take(rows)
        paths += kept.paths
        labels += kept.labels
        matrices.append(kept.matrix)
    photos = Vectors(
        paths, labels, np.concatenate(matrices) if matrices else np.empty((0, 0), np.float32)
    )
    order = sorted(range(len(paths)), key=paths.__getitem__)
    return photos if order == list(range(len(paths))) else photos.take(order)


def fit_and_test(
    training: Training,
    photos: Vectors,
    groups: Groups,
    saved_pca: Callable[[], Sequence[Stage]],
    standardize: bool,
    progress: Callable[[str], None],
) -> list[Stage]:
    """Fit and test on each hold-out, then fit to all photos.

    Parameters
    ----------
    training
        What to train; gets the metrics, the notes and the seconds.
    photos
        As `labelled` returns them.
    saved_pca
        Returns the two stages of the results' PCA, which the classifier of all photos follows.
    standardize
        Whether that PCA divides features by their standard deviation.

    Returns
    -------
    list of Stage
        The stages from features to class names.
    """

    def fit(rows: NDArray[np.int64] | None) -> list[Any]:
        part = photos if rows is None else photos.take(rows)
        stages: list[Stage] = []
        if training.features == "pca":
            if rows is None:
                stages += saved_pca()
            else:
                stages += _fit_pca(part, training.dimensions, standardize)
        return _fit(stages, part, training.classifier, training.seed)

    return in_steps(
        training,
        photos.paths,
        photos.labels,
        groups,
        lambda split: _test(photos, split, fit),
        lambda: fit(None),
        progress,
    )


def _fit_pca(photos: Vectors, components: int, standardize: bool) -> Sequence[Stage]:
    from pomona import pca

    fitted = pca.fit(
        [photos], components=min(components, len(photos.paths) - 1), standardize=standardize
    )
    return fitted.stages()


def _fit(stages: list[Stage], photos: Vectors, classifier: str, seed: int) -> list[Stage]:
    """Fit a classifier behind the stages of a PCA, if there are any."""
    from pomona.classification import classifiers

    column = "pca" if stages else "features"
    matrix = apply_stages(stages, photos.matrix)
    return [
        *stages,
        *classifiers.fit(classifier, matrix, photos.labels, seed=seed, column=column),
    ]


def apply_stages(stages: Sequence[Any], matrix: NDArray[Any]) -> NDArray[Any]:
    """Apply the stages of numbers one after another."""
    for stage in stages:
        matrix = stage.apply(matrix)
    return matrix


def _test(
    photos: Vectors, split: holdouts.Holdout, fit: Callable[[NDArray[np.int64]], list[Any]]
) -> Metrics:
    """Fit to the training part and predict the test part."""
    train = np.flatnonzero(split.parts == holdouts.TRAIN)
    test = photos.take(np.flatnonzero(split.parts == holdouts.TEST))
    trained = Counter(photos.labels[row] for row in train)
    check_trained_on(split, trained, len(test.paths))
    *stages, names = fit(train)
    scores = apply_stages(stages, test.matrix)
    predicted = [names.labels[number] for number in scores.argmax(axis=1)]
    pairs = Counter(zip(test.labels, predicted))
    mistakes = sorted(
        Mistake(path, label, guess)
        for path, label, guess in zip(test.paths, test.labels, predicted)
        if label != guess
    )
    return measure(
        pairs,
        trained,
        how=split.how,
        notes=split.notes,
        left_out=len(photos.paths) - len(train) - len(test.paths),
        mistakes=mistakes[:LISTED_MISTAKES],
    )


# On this machine.


def _network(summary: dict[str, Any], given: PathLike | None) -> str:
    """Return the path of the image model that computed the features."""
    name = summary["model"]["name"]
    try:
        path = resolve(name if given is None else given)
    except ModelError as error:
        raise no_model(name, given, error) from error
    check_model(name, summary["model"]["sha256"], given, sha256_of(path))
    return path


def _read_text(name: str) -> str | None:
    path = local_path(name)
    return path.read_text(encoding="utf-8-sig") if path is not None and path.is_file() else None


def versions() -> dict[str, str]:
    """Return the versions of what fits a classifier on this machine."""
    import sklearn

    import pomona

    return {
        "pomona": pomona.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "python": platform.python_version(),
    }
