"""Which photos look alike: the nearest to one, and the near-duplicates of a whole set.

Two photos are as far apart as the cosine distance of their features: 0 for the same direction, 1
for nothing in common, 2 for the opposite. The search is exact. Blocks of rows meet in float32
matrix products, which numpy hands to its BLAS (OpenBLAS in the wheels of PyPI, on as many threads
as ``OPENBLAS_NUM_THREADS`` or the process's cores allow); what comes close is measured again in
float64, whose distances are the ones returned.
"""

from __future__ import annotations

import heapq
import tempfile
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Iterable, Iterator, NamedTuple

import numpy as np

from pomona import _vectors
from pomona._vectors import cosines_with_others, unit
from pomona.results import Vectors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from pomona.results import Results

#: What distances are, for people.
METRIC = "cosine distance"

#: Photos closer than this are listed as near-duplicates, unless told otherwise: neighbouring frames
#: of a fruit that turns, which are 0.01 to 0.05 apart in the features of an ImageNet network.
DUPLICATE_DISTANCE = 0.01

#: Pairs that `duplicates` keeps, the closest ones.
MOST_PAIRS = 10_000

# float32 products of unit vectors err by some 1e-6: so much further is looked at in float64.
_ROUNDING = 1e-5
# And candidates for the nearest, beyond those asked for.
_SPARE = 16


class Neighbour(NamedTuple):
    """A photo and how far it is."""

    path: str
    label: str
    distance: float


class Pair(NamedTuple):
    """Two photos and how far apart they are; `path` is the one that comes first in the set."""

    path: str
    other: str
    label: str
    other_label: str
    distance: float


class Duplicates(NamedTuple):
    """Pairs of photos that look alike."""

    #: The closest, by distance; at most as many as asked for.
    pairs: list[Pair]
    #: How many pairs are within the threshold.
    found: int
    #: Photos that were compared.
    photos: int


class Index:
    """Photos in memory, ready to be searched.

    Parameters
    ----------
    blocks
        Their vectors, as `pomona.results.Results.vectors` reads them.

    Examples
    --------
    >>> photos = Vectors(["a", "b", "c"], ["", "", ""], np.eye(3, dtype=np.float32))
    >>> index = Index([photos])
    >>> [neighbour.path for neighbour in index.nearest([0.1, 1.0, 0.5], 2)]
    ['b', 'c']
    """

    def __init__(self, blocks: Iterable[Vectors]) -> None:
        parts = list(blocks)
        if not parts:
            raise ValueError("there are no photos with features to search")
        self.paths = [path for part in parts for path in part.paths]
        self.labels = [label for part in parts for label in part.labels]
        #: Of length 1 each: float32, of shape (n, d).
        self.units = np.concatenate([unit(part.matrix) for part in parts])

    def __len__(self) -> int:
        return len(self.paths)

    def nearest(self, query: ArrayLike, k: int) -> list[Neighbour]:
        """Find the `k` photos nearest to a vector of shape (d,), nearest first.

        Raises
        ------
        ValueError
            The vector is of another length, or `k` is below 1.
        """
        vector = _query(query, k)
        rows = _top(_scores(self.units, vector), k + _SPARE)
        found = Vectors(self.paths, self.labels, self.units).take(rows)
        return _ranked(found, vector, k)

    def neighbours(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the `k` other photos nearest to each photo.

        Returns
        -------
        rows, distances
            int64 and float32, of shape (n, min(k, n - 1)); nearest first.
        """
        n = len(self)
        k = min(k, n - 1)
        if not k:
            return np.empty((n, 0), np.int64), np.empty((n, 0), np.float32)
        rows = np.empty((n, k), np.int64)
        distances = np.empty((n, k), np.float32)
        for block, cosines in cosines_with_others(self.units):
            best = np.argpartition(cosines, n - k, axis=1)[:, n - k :]
            values = np.take_along_axis(cosines, best, axis=1)
            order = np.argsort(-values, axis=1, kind="stable")
            rows[block] = np.take_along_axis(best, order, axis=1)
            distances[block] = 1 - np.take_along_axis(values, order, axis=1)
        return rows, distances.clip(min=0)


def nearest(results: Results, query: ArrayLike, k: int) -> list[Neighbour]:
    """Find the `k` photos of a run nearest to a vector, without holding the set in memory.

    Parameters
    ----------
    results
        What the run left.
    query
        Features of the same model, of shape (d,).
    k
        How many.

    Returns
    -------
    list of Neighbour
        Nearest first; fewer if the set has fewer photos.

    Raises
    ------
    ValueError
        The vector is of another length, or `k` is below 1.
    """
    vector = _query(query, k)
    kept = partial(closest, query=vector, k=k + _SPARE)
    parts = list(kept(results.vectors("features", through=kept)))
    return [neighbour for part in parts for neighbour in _ranked(part, vector, k)]


def closest(blocks: Iterable[Vectors], *, query: NDArray[np.float64], k: int) -> Iterator[Vectors]:
    """Keep the `k` rows nearest to a vector of length 1; one block comes out, or none."""
    best: Vectors | None = None
    for block in blocks:
        candidates = block if best is None else _joined(best, block)
        best = candidates.take(_top(_scores(unit(candidates.matrix), query), k))
    if best is not None:
        yield best


def vector_of(results: Results, path: str) -> NDArray[np.float32] | None:
    """Read the features of a photo of the set; None if they are not there."""
    blocks = results.vectors("features", paths=[path])
    return next((block.matrix[0] for block in blocks), None)


def duplicates(
    blocks: Iterable[Vectors], *, threshold: float = DUPLICATE_DISTANCE, most: int = MOST_PAIRS
) -> Duplicates:
    """Find all pairs of photos that are at most `threshold` apart.

    Every photo is compared with every other, blocks of them at a time. The vectors lie in a
    temporary file of 4 bytes a number, which the system keeps in as much memory as it has to spare;
    the process itself needs some 50 MB beside the paths and the pairs that it keeps.

    Parameters
    ----------
    blocks
        The photos, as `pomona.results.Results.vectors` reads them.
    threshold
        A cosine distance, 0 to 2; 0 finds photos with the very same features.
    most
        Keep the closest pairs, this many.

    Raises
    ------
    ValueError
        The threshold is no distance, or the vectors are of different lengths.
    """
    if not 0 <= threshold <= 2:
        raise ValueError(f"the threshold is {threshold}, it must be a cosine distance of 0 to 2")
    with _spooled(blocks) as (paths, labels, units):
        n, found = len(paths), 0
        kept: list[tuple[float, int, int]] = []
        for start in range(0, n, _vectors.BLOCK):
            rows = units[start : start + _vectors.BLOCK]
            for other in range(start, n, _vectors.BLOCK):
                near = _close_pairs(
                    rows, units[other : other + _vectors.BLOCK], threshold, start == other
                )
                found += len(near[0])
                kept += zip(
                    near[2].tolist(), (near[0] + start).tolist(), (near[1] + other).tolist()
                )
                if len(kept) > 2 * most:
                    kept = heapq.nsmallest(most, kept)
        kept = heapq.nsmallest(most, kept)
    pairs = [
        Pair(paths[one], paths[two], labels[one], labels[two], distance)
        for distance, one, two in kept
    ]
    return Duplicates(pairs, found, n)


def _close_pairs(
    rows: NDArray[np.float32], others: NDArray[np.float32], threshold: float, same: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Find the pairs of two blocks that are close: row of one, row of the other, distance."""
    hits = np.flatnonzero((rows @ others.T).ravel() >= 1 - threshold - _ROUNDING)
    one, two = np.divmod(hits, len(others))
    if same:
        once = one < two
        one, two = one[once], two[once]
    distances = np.empty(len(one))
    for start in range(0, len(one), _vectors.BLOCK):
        part = slice(start, start + _vectors.BLOCK)
        distances[part] = _distances(rows[one[part]], others[two[part]])
    near = distances <= threshold
    return one[near], two[near], distances[near]


def _distances(rows: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Measure row by row, in float64; 0 for equal rows."""
    one, two = rows.astype(np.float64), others.astype(np.float64)
    # Half the squared distance of the unit vectors: it does not cancel where they are close.
    lengths = [np.linalg.norm(each, axis=-1, keepdims=True) for each in (one, two)]
    for each, length in zip((one, two), lengths):
        np.divide(each, length, out=each, where=length > 0)
    distances = np.einsum("ij,ij->i", one - two, one - two) / 2
    return np.where((lengths[0] * lengths[1])[:, 0] > 0, distances, 1.0)


@contextmanager
def _spooled(
    blocks: Iterable[Vectors],
) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
    """Put vectors of length 1 into a temporary file, mapped into memory."""
    paths: list[str] = []
    labels: list[str] = []
    with tempfile.TemporaryFile(prefix="pomona-") as file:
        width = 0
        for block in blocks:
            _check_width(width or block.matrix.shape[1], block.matrix.shape[1])
            width = block.matrix.shape[1]
            file.write(unit(block.matrix).tobytes())
            paths += block.paths
            labels += block.labels
        file.flush()
        shape = (len(paths), width)
        empty = np.empty(shape, np.float32)
        yield paths, labels, np.memmap(file, np.float32, "r", shape=shape) if paths else empty


def _query(query: ArrayLike, k: int) -> NDArray[np.float64]:
    if k < 1:
        raise ValueError(f"k is {k}, it must be at least 1")
    vector = np.asarray(query, np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("the query must be one vector of finite numbers")
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def _scores(units: NDArray[np.float32], query: NDArray[np.float64]) -> NDArray[np.float32]:
    _check_width(units.shape[1], query.size)
    return units @ query.astype(np.float32)


def _check_width(here: int, there: int) -> None:
    if here != there:
        raise ValueError(f"features of {here} and of {there} numbers: are they of two models?")


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Find the rows of the `k` highest scores, in no order."""
    if len(scores) <= k:
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - k)[-k:]


def _joined(one: Vectors, other: Vectors) -> Vectors:
    return Vectors(
        one.paths + other.paths,
        one.labels + other.labels,
        np.concatenate([one.matrix, other.matrix]),
    )


def _ranked(found: Vectors, query: NDArray[np.float64], k: int) -> list[Neighbour]:
    distances = _distances(found.matrix, np.broadcast_to(query, found.matrix.shape))
    ranked = sorted(zip(distances.tolist(), found.paths, found.labels))
    return [Neighbour(path, label, distance) for distance, path, label in ranked[:k]]
