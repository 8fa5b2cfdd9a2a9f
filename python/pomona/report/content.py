"""What a report says: everything that its page shows, as numbers and names."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

import numpy as np

from pomona.results import Vectors
from pomona.results.base import class_order
from pomona.results.local import local_path
from pomona.results.thumbnails import THUMBNAIL_SIDE, jpeg
from pomona.similar import DUPLICATE_DISTANCE, Index, duplicates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.results import ClassCount, Results, Sample

#: Photos of a class on the contact sheet.
SHEET_PHOTOS = 8

#: How many are listed: photos that cannot be read, photos with their neighbours, neighbours of
#: each, near-duplicates, outliers, photos that look like another class.
BROKEN_LISTED = 200
NEIGHBOURHOODS = 8
NEIGHBOURS = 6
PAIRS_LISTED = 24
OUTLIERS_LISTED = 16
STRANGERS_LISTED = 16

#: Principal components that t-SNE starts from; what follows is mostly noise.
TSNE_COMPONENTS = 50
#: How many neighbours a photo has for t-SNE, roughly: its usual value.
TSNE_PERPLEXITY = 30
#: Fewer photos make no map.
TSNE_LEAST = 8


@dataclass(frozen=True)
class Content:
    """What the page and the pictures are made of.

    Attributes
    ----------
    classes
        All classes of the set, with those photos that cannot be read.
    sample
        The photos of all pictures.
    thumbnails
        JPEG files, None where a photo cannot be read any more.
    flat, solid
        t-SNE in 2 and 3 dimensions: float32 of shape (n, 2) and (n, 3); None for too few photos.
    data
        What the page's script draws: JSON, described by `report.js`.
    """

    classes: list[ClassCount]
    sample: Sample
    thumbnails: list[bytes | None]
    flat: NDArray[np.float32] | None
    solid: NDArray[np.float32] | None
    data: dict[str, Any]


def collect(results: Results, *, size: int, seed: int, progress: Callable[[str], None]) -> Content:
    """Read a run's output and compute what its report shows.

    Parameters
    ----------
    results
        What the run left.
    size
        Photos of the sample.
    seed
        Of the sample and of t-SNE.
    progress
        Is told what happens next.
    """
    progress("counting the photos of each class")
    classes = sorted(results.classes(), key=lambda each: class_order(each.label))
    progress("drawing a sample")
    sample = results.sample(size, seed)
    progress(f"reading {len(sample.paths):,} photos")
    found = results.thumbnails(sample.paths, THUMBNAIL_SIDE)
    thumbnails = [jpeg(found[path]) for path in sample.paths]
    unseen = [path for path, photo in zip(sample.paths, thumbnails) if photo is None]
    progress("comparing the photos")
    index = Index([Vectors(sample.paths, sample.labels, sample.features)])
    progress("arranging the photos on a map (t-SNE)")
    flat = tsne(sample.pca, 2, seed)
    progress("arranging the photos in space (t-SNE)")
    solid = tsne(sample.pca, 3, seed)

    summary = results.summary
    readable = sum(each.photos - each.errors for each in classes)
    data = {
        "summary": {
            "output": results.uri,
            "images": summary["images"],
            "photos": summary["photos"],
            "errors": summary["errors"],
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
        "photos": _photos(sample, classes, thumbnails),
        "unseen": _explain(results.uri, unseen, found, len(sample.paths)),
        "maps": {
            "pca": _columns(sample.pca[:, :2]),
            "flat": None if flat is None else _columns(flat),
            "solid": None if solid is None else _columns(solid),
        },
        "broken": results.broken(BROKEN_LISTED) if summary["errors"] else [],
        "sheets": _sheets(sample.labels),
        **_likeness(index),
        "classifiers": _classifiers(results),
    }
    return Content(classes, sample, thumbnails, flat, solid, data)


def tsne(pca: NDArray[np.float32], dimensions: int, seed: int) -> NDArray[np.float32] | None:
    """Arrange photos so that those that look alike are close: scikit-learn's t-SNE.

    Returns
    -------
    numpy.ndarray or None
        float32 of shape (n, dimensions); None for fewer than `TSNE_LEAST` photos.
    """
    if len(pca) < TSNE_LEAST or pca.shape[1] < dimensions:
        return None
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start, spread = pca[:, :dimensions], float(pca[:, 0].std())
    # Copies of one photo differ by rounding at most, and stay in one place.
    alike = spread <= np.finfo(np.float32).eps * float(np.abs(pca[:, 0]).max())
    start = np.zeros_like(start) if alike else start / spread * 1e-4
    # On a machine that does other work too, OpenMP's threads wait for each other at each of the
    # 1,000 steps: 600 photos took 100 s on two threads, and 2 s on one.
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


def _photos(
    sample: Sample, classes: Sequence[ClassCount], thumbnails: Sequence[bytes | None]
) -> dict[str, Any]:
    number = {each.label: index for index, each in enumerate(classes)}
    return {
        "path": sample.paths,
        "label": [number[label] for label in sample.labels],
        "thumbnail": [base64.b64encode(each or b"").decode() for each in thumbnails],
    }


def _explain(
    output: str, unseen: Sequence[str], found: Mapping[str, NDArray[np.uint8] | str], photos: int
) -> str | None:
    """Say why photos are missing in the page, and how to get them there; None if all are there."""
    if not unseen:
        return None
    number = f"{len(unseen):,} of the {photos:,} photos of this page cannot be shown"
    if local_path(output) is not None and local_path(unseen[0]) is None:
        return (
            f"{number}: they are elsewhere, such as {unseen[0]}, and these results are on the "
            "machine that made the page. Copy the results to where the photos are and run "
            "`pomona report` on them there."
        )
    return f"{number}, such as {unseen[0]}: {found[unseen[0]]}."


def _sheets(labels: Sequence[str]) -> list[list[int]]:
    """Choose photos of each class, evenly along its paths: neighbours there are near-twins."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return [
        [each[at] for at in np.unique(np.linspace(0, len(each) - 1, SHEET_PHOTOS).astype(int))]
        for each in (rows[label] for label in sorted(rows, key=class_order))
    ]


def _likeness(index: Index) -> dict[str, Any]:
    rows, distances = index.neighbours(NEIGHBOURS)
    twins = duplicates([Vectors(index.paths, index.labels, index.units)], most=PAIRS_LISTED)
    row_of = {path: row for row, path in enumerate(index.paths)}
    return {
        "neighbours": [
            {"photo": row, "near": _near(rows[row], distances[row])}
            for row in _spread(index.labels, NEIGHBOURHOODS)
            if rows.shape[1]
        ],
        "twins": {
            "pairs": [
                [row_of[pair.path], row_of[pair.other], round(pair.distance, 4)]
                for pair in twins.pairs
            ],
            "found": twins.found,
            "threshold": DUPLICATE_DISTANCE,
        },
        "outliers": _outliers(distances),
        "strangers": _strangers(index.labels, rows),
    }


def _near(rows: NDArray[np.int64], distances: NDArray[np.float32]) -> list[list[float]]:
    return [[int(row), round(float(far), 4)] for row, far in zip(rows, distances)]


def _spread(labels: Sequence[str], number: int) -> list[int]:
    """Choose photos of as many classes as possible: the middle one of some classes."""
    middles = [sheet[len(sheet) // 2] for sheet in _sheets(labels)]
    picks = np.unique(np.linspace(0, len(middles) - 1, number).astype(int))
    return [middles[at] for at in picks]


def _outliers(distances: NDArray[np.float32]) -> list[list[float]]:
    """Find the photos that are farthest from their nearest ones."""
    if not distances.shape[1]:
        return []
    far = distances.mean(axis=1)
    order = np.argsort(-far, kind="stable")[:OUTLIERS_LISTED]
    return _near(order, far[order])


def _strangers(labels: Sequence[str], rows: NDArray[np.int64]) -> list[list[int]]:
    """Find photos whose nearest ones are mostly of one other class: photo, a like one, how many."""
    found = []
    for row, near in enumerate(rows):
        others = [labels[other] for other in near if labels[other] != labels[row]]
        if others:
            label = max(set(others), key=lambda each: (others.count(each), each))
            votes = others.count(label)
            if 2 * votes > len(near):
                like = next(int(other) for other in near if labels[other] == label)
                found.append([row, like, votes])
    return sorted(found, key=lambda each: -each[2])[:STRANGERS_LISTED]


def _classifiers(results: Results) -> list[dict[str, Any]]:
    """Read what `pomona train` measured, if it has been run."""
    names = results.folders("classifier")
    metrics = [(name, results.read_json(f"classifier/{name}/metrics.json")) for name in names]
    found = [{"name": name, **each} for name, each in metrics if each is not None]
    for each in found:
        if _is_outdated(each, results.summary):
            each["notes"] = [
                "Trained before these results were what they are now, on other photos or with "
                "another model: train it again.",
                *each["notes"],
            ]
    return found


def _is_outdated(training: dict[str, Any], summary: dict[str, Any]) -> bool:
    """Whether a run has changed the photos or the model since a classifier learned from them."""
    photos = training["photos"] + training["left_out"]
    model = training["image_model"].get("sha256")
    return bool(photos != summary["photos"] or model != summary["model"]["sha256"])


def _columns(points: NDArray[np.float32]) -> list[list[float]]:
    """Write coordinates short, a list for each axis: 4 digits are finer than a screen."""
    scale = max(float(np.abs(points).max()), float(np.finfo(np.float32).tiny))
    digits = int(4 - np.floor(np.log10(scale)))
    return [[round(float(value), digits) for value in column] for column in points.T]
