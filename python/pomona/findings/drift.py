"""What changed between two sets of photos, such as last month's and this month's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple, Sequence

import numpy as np

from pomona._errors import ModelError
from pomona._vectors import BLOCK
from pomona.decisions import key
from pomona.findings.gallery import open_gallery
from pomona.findings.outliers import distances_from_others, fence_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.findings.gallery import Gallery
    from pomona.results import Results

#: Cosine distance of a photo that is stored again, as another file or after a lossless change. The
#: closest of 600 photos of a rotating fruit are 0.004 apart.
SAME_DISTANCE = 0.001


class Changed(NamedTuple):
    """A photo that is new, gone or far."""

    path: str
    label: str
    #: Of a far photo: interquartile ranges beyond the upper quartile of its class.
    score: float | None = None


class ClassDrift(NamedTuple):
    """A class in both sets."""

    label: str
    #: Photos with features in this set and in the other one.
    here: int
    there: int
    #: Distance of the means, divided by the root of the mean squared distance of the other set's
    #: photos from their mean: 1 is as far as a typical photo. None if a set has none of the class.
    distance: float | None
    #: Share of this set's photos that are farther from the other set's mean than all its photos,
    #: and than the fence around outliers. None if the other set has too few of the class.
    far_share: float | None


@dataclass(frozen=True)
class Drift:
    """A comparison of one set with another.

    Attributes
    ----------
    uri, photos
        The folder of the other set, and its photos with features.
    new, gone
        Photos of this set that the other one lacks, and photos of the other set that this one
        lacks.
    classes
        The classes of either set, the largest distance first.
    far
        Photos of this set that are far from the other set's photos of their class, the farthest
        first.
    """

    uri: str
    photos: int
    new: list[Changed]
    gone: list[Changed]
    classes: list[ClassDrift]
    far: list[Changed]

    def as_dict(self, most: int | None = None) -> dict[str, Any]:
        """Return the comparison as JSON, with at most `most` photos in each list."""
        lists = {"new": self.new, "gone": self.gone, "far": self.far}
        return {
            "uri": self.uri,
            "photos": self.photos,
            "classes": [dict(each._asdict()) for each in self.classes],
            **{
                name: {
                    "total": len(changed),
                    "listed": [dict(each._asdict()) for each in changed[:most]],
                }
                for name, changed in lists.items()
            },
        }


def compare(
    results: Results,
    against: Results,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Drift:
    """Compare a set with another one, of which features were computed by the same model.

    A photo is in both sets if it has the same path below the folders of photos and nearly the same
    features, or else if it has nearly the same features as any photo of the other set.

    Parameters
    ----------
    results, against
        The set and the other set.
    seed
        Seed of the sample that is drawn from large sets, as for `pomona.findings.check`.
    progress
        Called with a description of each step before it starts.

    Raises
    ------
    ModelError
        The features come from two models.
    OSError
        The results cannot be read.
    """
    progress("reading the features")
    with open_gallery(results, seed=seed) as photos:
        return compare_with(results, photos, against, seed=seed, progress=progress)


def compare_with(
    results: Results,
    photos: Gallery,
    against: Results,
    *,
    seed: int,
    progress: Callable[[str], None],
) -> Drift:
    """Do the work of `compare` on photos that are open already."""
    ours, theirs = results.summary["model"], against.summary["model"]
    if ours["sha256"] != theirs["sha256"]:
        raise ModelError(
            f"the features in {against.uri} come from another model, {theirs['name']} (sha256 "
            f"{theirs['sha256'][:16]}…) and not {ours['name']} ({ours['sha256'][:16]}…), and "
            "cannot be compared: featurize one of the sets again with the model of the other"
        )
    progress(f"comparing with {against.uri}")
    with open_gallery(against, seed=seed) as others:
        names = _relative(photos.paths, results), _relative(others.paths, against)
        known = _known(photos, others, *names)
        kept = _known(others, photos, *names[::-1])
        classes, far = _classes(photos, others)
        return Drift(
            uri=against.uri,
            photos=len(others),
            new=_changed(photos, ~known),
            gone=_changed(others, ~kept),
            classes=classes,
            far=far,
        )


def _changed(photos: Gallery, chosen: NDArray[np.bool_]) -> list[Changed]:
    found = [Changed(photos.paths[row], photos.labels[row]) for row in np.flatnonzero(chosen)]
    return sorted(found, key=lambda each: (each.label, each.path))


def _relative(paths: Sequence[str], results: Results) -> list[str]:
    """Remove the folder of photos from paths that are in one."""
    folders = sorted((key(each).rstrip("/") + "/" for each in results.summary["images"]), key=len)
    names = []
    for path in map(key, paths):
        folder = next((each for each in reversed(folders) if path.startswith(each)), "")
        names.append(path[len(folder) :])
    return names


def _known(
    photos: Gallery, others: Gallery, names: Sequence[str], other_names: Sequence[str]
) -> NDArray[np.bool_]:
    """Return for each photo whether the other set has it."""
    row_of = {name: row for row, name in enumerate(other_names)}
    known = np.zeros(len(photos), bool)
    paired = np.array([row_of.get(name, -1) for name in names], np.int64)
    for rows in _blocks(np.flatnonzero(paired >= 0)):
        cosines = np.einsum("ij,ij->i", photos.units[rows], others.units[paired[rows]])
        known[rows] = cosines >= 1 - SAME_DISTANCE
    for rows in _blocks(np.flatnonzero(~known)):
        units = photos.units[rows]
        for _, block in others.blocks():
            known[rows] |= (units @ block.T).max(axis=1) >= 1 - SAME_DISTANCE
    return known


def _classes(photos: Gallery, others: Gallery) -> tuple[list[ClassDrift], list[Changed]]:
    drifts, far = [], []
    for label in sorted({*photos.classes, *others.classes}):
        here, there = photos.rows_of(label), others.rows_of(label)
        distance = far_share = None
        if len(here) and len(there):
            mean, spread = _mean_and_spread(others, there)
            shift = float(np.linalg.norm(_mean_and_spread(photos, here)[0] - mean))
            distance = round(shift / spread, 3) if spread else None
            known = distances_from_others(others, there)
            fence = fence_of(known)
            if fence is not None:
                distances = _distances(photos, here, mean)
                outside = np.flatnonzero(distances > max(fence.limit, known.max()))
                far_share = round(len(outside) / len(here), 4)
                far += [
                    Changed(
                        photos.paths[here[at]], label, round(fence.score(float(distances[at])), 3)
                    )
                    for at in outside.tolist()
                ]
        drifts.append(ClassDrift(label, len(here), len(there), distance, far_share))
    drifts.sort(key=lambda each: (-(each.distance or 0), each.label))
    far.sort(key=lambda each: (-(each.score or 0), each.path))
    return drifts, far


def _distances(
    photos: Gallery, rows: NDArray[np.int64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    parts = [np.linalg.norm(photos.units[part] - mean, axis=1) for part in _blocks(rows)]
    return np.concatenate(parts)


def _mean_and_spread(photos: Gallery, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    total, squares = np.zeros(photos.units.shape[1]), 0.0
    for part in _blocks(rows):
        units = photos.units[part]
        total += units.sum(axis=0, dtype=np.float64)
        squares += float(np.einsum("ij,ij->", units, units, dtype=np.float64))
    mean = total / len(rows)
    return mean, math.sqrt(max(0.0, squares / len(rows) - float(mean @ mean)))


def _blocks(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), BLOCK):
        yield rows[start : start + BLOCK]
