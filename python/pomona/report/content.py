"""The content of a report: everything that its page shows, as JSON."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Optional, Sequence, Tuple

import numpy as np

from pomona._decode import describe_changes
from pomona.findings import look
from pomona.findings.drift import compare_with
from pomona.findings.gallery import open_gallery
from pomona.results import Vectors
from pomona.results.base import class_order
from pomona.results.local import local_path
from pomona.results.thumbnails import THUMBNAIL_SIDE, jpeg
from pomona.similar import Index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.findings import Findings
    from pomona.findings.drift import Drift
    from pomona.findings.gallery import Gallery
    from pomona.results import ClassCount, Results, Sample

    #: The paths of a photo and of another one that belongs to it.
    _Pair = Tuple[Optional[str], Optional[str]]

#: Photos of a class on the contact sheet.
SHEET_PHOTOS = 8

#: Findings of a kind that the page lists, and photos that it shows besides the sample, for findings
#: and for a classifier's mistakes.
FINDINGS_LISTED = 200
EXTRA_PHOTOS = 600

#: Bytes of all thumbnails, so that a page of 4,000 photos stays below 15 MB, and the JPEG qualities
#: that are tried for it.
THUMBNAIL_BYTES = 8_500_000
THUMBNAIL_QUALITIES = (70, 50, 35, 20, 10)

#: Nearest photos of each photo.
NEIGHBOURS = 6

#: Principal components used by t-SNE; further ones are mostly noise.
TSNE_COMPONENTS = 50
#: The usual perplexity.
TSNE_PERPLEXITY = 30
#: Fewer photos than this get no t-SNE map.
TSNE_LEAST = 8


@dataclass(frozen=True)
class Content:
    """The content of the page and of the figures.

    Attributes
    ----------
    classes
        Photos per class, including unreadable ones.
    sample
        The photos shown.
    thumbnails
        JPEG files, None for photos that can no longer be read: those of the sample, and then those
        of photos that only findings and mistakes show.
    flat, solid
        t-SNE in 2 and 3 dimensions: float32, shape (n, 2) and (n, 3); None for too few photos.
    data
        The data of the page, as JSON; `script/data.js` describes it.
    findings
        What `pomona.findings.check` finds in all photos.
    """

    classes: list[ClassCount]
    sample: Sample
    thumbnails: list[bytes | None]
    flat: NDArray[np.float32] | None
    solid: NDArray[np.float32] | None
    data: dict[str, Any]
    findings: Findings


def collect(
    results: Results,
    *,
    size: int,
    seed: int,
    against: Results | None,
    progress: Callable[[str], None],
) -> Content:
    """Compute the content of a report; the parameters are those of `write_report`."""
    progress("counting the photos of each class")
    classes = sorted(results.classes(), key=lambda each: class_order(each.label))
    progress("drawing a sample")
    sample = results.sample(size, seed)
    progress("reading the features")
    with open_gallery(results, seed=seed) as photos:
        findings = look(results, photos, seed=seed, progress=progress)
        classifiers = _classifiers(results)
        mistakes = [_mistakes(each, photos) for each in classifiers]
        drift = None
        if against is not None:
            drift = compare_with(results, photos, against, seed=seed, progress=progress)
    paths = _shown(sample.paths, findings, mistakes, drift)
    row_of = {path: row for row, path in enumerate(paths)}
    for training, pairs in zip(classifiers, mistakes):
        for holdout, of_holdout in pairs.items():
            training["holdouts"][holdout]["mistake_photos"] = [
                [None if path is None else row_of.get(path) for path in pair] for pair in of_holdout
            ]
    progress(f"reading {len(paths):,} photos")
    pictures = results.thumbnails(paths, THUMBNAIL_SIDE)
    thumbnails = _encoded([pictures[path] for path in paths])
    progress("finding nearest neighbours")
    index = Index([Vectors(sample.paths, sample.labels, sample.features)])
    progress("arranging the photos on a map (t-SNE in two dimensions)")
    flat = tsne(sample.pca, 2, seed)
    progress("arranging the photos on a map (t-SNE in three dimensions)")
    solid = tsne(sample.pca, 3, seed)

    summary = results.summary
    readable = sum(each.photos - each.errors for each in classes)
    data = {
        "summary": {
            "output": results.uri,
            "engine": results.engine,
            "images": summary["images"],
            "photos": summary["photos"],
            "errors": summary["errors"],
            # None in results of versions before 0.2.0.
            "warnings": summary.get("warnings"),
            "turned": summary.get("turned"),
            "decode": describe_changes(results.decode),
            "model": summary["model"],
            "dim": summary["dim"],
            "k": summary["k"],
            "variance_explained": summary["variance_explained"],
            "images_per_second": summary["images_per_second"],
            "featurized": summary["featurized"],
            "seconds": summary["seconds"],
            "versions": summary["versions"],
            "finished": summary["finished"],
        },
        "curve": [round(share, 5) for share in summary["variance_curve"]],
        "classes": [each._asdict() for each in classes],
        "sample": {"photos": len(sample.paths), "of": readable, "seed": seed},
        "photos": _photos(paths, _labels_of(paths, sample, findings, photos), classes, thumbnails),
        "missing": _missing(results.uri, sample.paths, pictures),
        "maps": {
            "pca": _columns(sample.pca[:, :2]),
            "flat": None if flat is None else _columns(flat),
            "solid": None if solid is None else _columns(solid),
        },
        "sheets": _sheets(sample.labels),
        "near": _nearest(index),
        "against": None if drift is None else _against(drift, row_of),
        "findings": _findings(findings, row_of),
        "classifiers": classifiers,
    }
    return Content(classes, sample, thumbnails, flat, solid, data, findings)


def tsne(pca: NDArray[np.float32], dimensions: int, seed: int) -> NDArray[np.float32] | None:
    """Arrange photos on a map where similar photos are close, with scikit-learn's t-SNE.

    Returns
    -------
    numpy.ndarray or None
        float32, shape (n, dimensions); None for too few photos or components.
    """
    if len(pca) < TSNE_LEAST or pca.shape[1] < dimensions:
        return None
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start, spread = pca[:, :dimensions], float(pca[:, 0].std())
    # Copies of a photo differ only by rounding errors, which must not be scaled up.
    alike = spread <= np.finfo(np.float32).eps * float(np.abs(pca[:, 0]).max())
    start = np.zeros_like(start) if alike else start / spread * 1e-4
    # On a busy machine, OpenMP threads wait for each other in each of the 1,000 iterations: 600
    # photos took 100 s on two threads, and 2 s on one.
    with threadpool_limits(1):
        arranged = TSNE(
            n_components=dimensions,
            perplexity=min(TSNE_PERPLEXITY, (len(pca) - 1) / 3),
            init=start,
            learning_rate="auto",
            random_state=seed,
            n_jobs=1,
        ).fit_transform(pca[:, :TSNE_COMPONENTS])
    return np.asarray(arranged, np.float32)


def _mistakes(training: dict[str, Any], photos: Gallery) -> dict[str, list[_Pair]]:
    """Pair the mistakes of each hold-out with the nearest photo of the predicted class.

    A classifier may be older than the results, which then lack some of its photos.
    """
    number = {label: index for index, label in enumerate(photos.classes)}
    pairs: dict[str, list[_Pair]] = {}
    for name, metrics in training["holdouts"].items():
        mistakes = metrics["mistakes"] if metrics else []
        if not mistakes:
            continue
        known = [
            (place, photos.row_of[path], number[predicted])
            for place, (path, _, predicted) in enumerate(mistakes)
            if path in photos.row_of and predicted in number
        ]
        nearest = photos.nearest_in_class([each[1] for each in known], [each[2] for each in known])
        other_of = {place: near for (place, _, _), near in zip(known, nearest) if near is not None}
        pairs[name] = [
            (
                path if path in photos.row_of else None,
                photos.paths[other_of[place][0]] if place in other_of else None,
            )
            for place, (path, _, _) in enumerate(mistakes)
        ]
    return pairs


def _shown(
    sample: Sequence[str],
    findings: Findings,
    mistakes: Sequence[Mapping[str, Sequence[_Pair]]],
    drift: Drift | None,
) -> list[str]:
    """List the photos of the page: the sample, and at most `EXTRA_PHOTOS` for what it lists.

    Each kind of finding and each hold-out gets its first ones.
    """
    lists: list[Iterable[_Pair]] = [
        [(each.path, each.other_path or None) for each in group.findings[:FINDINGS_LISTED]]
        for group in findings.groups
    ]
    lists += [pairs for training in mistakes for pairs in training.values()]
    if drift is not None:
        lists += [[(each.path, None) for each in changed] for changed in (drift.far, drift.new)]
    shown = dict.fromkeys(sample)
    most = len(shown) + EXTRA_PHOTOS
    for rank in zip_longest(*lists):
        for path in (path for pair in rank if pair is not None for path in pair if path):
            if len(shown) < most:
                shown[path] = None
    return list(shown)


def _encoded(pictures: Sequence[NDArray[np.uint8] | str]) -> list[bytes | None]:
    """Encode thumbnails, with less quality if they would make the page too large."""
    thumbnails: list[bytes | None] = []
    for quality in THUMBNAIL_QUALITIES:
        thumbnails = [jpeg(each, quality) for each in pictures]
        if sum(len(each or b"") for each in thumbnails) <= THUMBNAIL_BYTES:
            break
    return thumbnails


def _labels_of(
    paths: Sequence[str], sample: Sample, findings: Findings, photos: Gallery
) -> list[str]:
    """Return the labels of the photos of the page; those without features are findings."""
    labels = {each.path: each.label for each in findings}
    labels.update(zip(photos.paths, photos.labels))
    labels.update(zip(sample.paths, sample.labels))
    return [labels[path] for path in paths]


def _photos(
    paths: Sequence[str],
    labels: Sequence[str],
    classes: Sequence[ClassCount],
    thumbnails: Sequence[bytes | None],
) -> dict[str, Any]:
    number = {each.label: index for index, each in enumerate(classes)}
    return {
        "path": paths,
        "label": [number[label] for label in labels],
        "thumbnail": [base64.b64encode(each or b"").decode() for each in thumbnails],
    }


def _findings(findings: Findings, row_of: Mapping[str, int]) -> dict[str, Any]:
    """Return the findings as JSON, with the rows of the photos on the page."""
    found = findings.as_dict(FINDINGS_LISTED)
    for group in found["kinds"]:
        for each in group["listed"]:
            each["photo"] = row_of.get(each["path"])
            each["other"] = row_of.get(each["other_path"])
    return found


def _against(drift: Drift, row_of: Mapping[str, int]) -> dict[str, Any]:
    """Return a comparison as JSON, with the rows of the photos on the page."""
    compared = drift.as_dict(FINDINGS_LISTED)
    for name in ("new", "far"):
        for each in compared[name]["listed"]:
            each["photo"] = row_of.get(each["path"])
    return compared


def _nearest(index: Index) -> dict[str, Any]:
    """List the nearest photos of the sample for each of its photos."""
    rows, distances = index.neighbours(NEIGHBOURS)
    return {
        "rows": rows.tolist(),
        "distances": [[round(each, 3) for each in near] for near in distances.tolist()],
    }


def _missing(
    output: str, paths: Sequence[str], pictures: Mapping[str, NDArray[np.uint8] | str]
) -> dict[str, Any] | None:
    """Count missing thumbnails, with a reason; None if there are all.

    The reason is None if the photos are stored elsewhere, and only the results are on the machine
    that writes the page.
    """
    missing = [path for path in paths if isinstance(pictures[path], str)]
    if not missing:
        return None
    elsewhere = local_path(output) is not None and local_path(missing[0]) is None
    return {
        "n": len(missing),
        "of": len(paths),
        "example": missing[0],
        "reason": None if elsewhere else pictures[missing[0]],
    }


def _sheets(labels: Sequence[str]) -> list[list[int]]:
    """Choose photos evenly along the paths of each class, where neighbours are near-duplicates."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return [
        [each[at] for at in np.unique(np.linspace(0, len(each) - 1, SHEET_PHOTOS).astype(int))]
        for each in (rows[label] for label in sorted(rows, key=class_order))
    ]


def _classifiers(results: Results) -> list[dict[str, Any]]:
    """Read the metrics of all classifiers that `pomona train` saved."""
    names = results.folders("classifier")
    metrics = [(name, results.read_json(f"classifier/{name}/metrics.json")) for name in names]
    trainings = [{"name": name, **each} for name, each in metrics if each is not None]
    for each in trainings:
        each["outdated"] = _is_outdated(each, results.summary)
    return trainings


def _is_outdated(training: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Whether the photos or the image model have changed since a classifier was trained."""
    photos = training["photos"] + training["left_out"]
    model = training["image_model"].get("sha256")
    return bool(photos != summary["photos"] or model != summary["model"]["sha256"])


def _columns(points: NDArray[np.float32]) -> list[list[float]]:
    """Round coordinates to 4 digits, finer than a screen, and return one list per axis."""
    scale = max(float(np.abs(points).max()), float(np.finfo(np.float32).tiny))
    digits = int(4 - np.floor(np.log10(scale)))
    return [[round(float(value), digits) for value in column] for column in points.T]
