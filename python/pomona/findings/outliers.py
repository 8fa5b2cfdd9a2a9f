"""Photos that are far from the mean of their class, next to the other photos in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pomona._vectors import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.findings.gallery import Gallery

#: Outliers are this many interquartile ranges beyond the upper quartile of the distances in their
#: class: Tukey's far-out values, and one photo in a million of a normal distribution.
RANGES = 3.0

#: Photos of a class that has outliers; the quartiles of fewer say too little.
LEAST_PHOTOS = 8


class Fence(NamedTuple):
    """Quartiles of distances from a mean."""

    upper: float
    range: float

    @property
    def limit(self) -> float:
        """The distance beyond which a photo is an outlier."""
        return self.upper + RANGES * self.range

    def score(self, distance: float) -> float:
        """Return how many interquartile ranges a distance is beyond the upper quartile."""
        return (distance - self.upper) / self.range


class Outlier(NamedTuple):
    """A photo, and how many interquartile ranges it is beyond the upper quartile of its class."""

    row: int
    score: float


def outliers(photos: Gallery) -> list[Outlier]:
    """Find the outliers of all classes, the farthest first."""
    found = []
    for label in photos.classes:
        rows = photos.rows_of(label)
        distances = distances_from_others(photos, rows)
        fence = fence_of(distances)
        if fence is not None:
            found += [
                Outlier(int(rows[place]), fence.score(float(distances[place])))
                for place in np.flatnonzero(distances > fence.limit)
            ]
    return sorted(found, key=lambda each: (-each.score, each.row))


def fence_of(distances: NDArray[np.float64]) -> Fence | None:
    """Return the fence around most distances; None for too few, or for equal ones."""
    if len(distances) < LEAST_PHOTOS:
        return None
    lower, upper = np.percentile(distances, (25, 75))
    return Fence(float(upper), float(upper - lower)) if upper > lower else None


def distances_from_others(photos: Gallery, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the distance of each of some photos from the mean of the others: float64."""
    if len(rows) < 2:
        return np.zeros(len(rows))
    parts = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    total = np.zeros(photos.units.shape[1])
    for part in parts:
        total += photos.units[part].sum(axis=0, dtype=np.float64)
    distances = []
    for part in parts:
        units = photos.units[part]
        others = (total - units) / (len(rows) - 1)
        distances.append(np.linalg.norm(units - others, axis=1))
    return np.concatenate(distances)
