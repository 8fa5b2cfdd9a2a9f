"""Find the nearest neighbours of a photo, and the near-duplicates in a set of photos.

The distance of two photos is the cosine distance of their features: 0 for the same direction, 1 for
orthogonal vectors, 2 for opposite ones. The search is exact. Blocks of rows are multiplied in
float32 by numpy's BLAS (in the wheels on PyPI, OpenBLAS, on ``OPENBLAS_NUM_THREADS`` threads or all
cores of the process); the distances of candidates are computed again, and returned, in float64.
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

#: The name of the metric, for output.
METRIC = "cosine distance"

#: Default threshold for near-duplicates. Neighbouring frames of a rotating object are 0.01 to 0.05
#: apart in the features of an ImageNet model.
DUPLICATE_DISTANCE = 0.01

#: Pairs that `duplicates` returns by default, the closest ones.
MOST_PAIRS = 10_000

# float32 products of unit vectors are accurate to about 1e-6; candidates this much further away are
# checked in float64.
_ROUNDING = 1e-5
# Further candidates for the nearest neighbours, for the same reason.
_SPARE = 16


class Neighbour(NamedTuple):
    """A photo and its distance from the query."""

    path: str
    label: str
    distance: float


class Pair(NamedTuple):
    """Two photos and their distance; `path` comes first in the set."""

    path: str
    other: str
    label: str
    other_label: str
    distance: float


class Duplicates(NamedTuple):
    """Near-duplicates."""

    #: The closest pairs, by distance.
    pairs: list[Pair]
    #: The number of pairs within the threshold.
    found: int
    #: The number of photos compared.
    photos: int


class Index:
    """Photos in memory, for exact nearest-neighbour search.

    Parameters
    ----------
    blocks
        Vectors from `pomona.results.Results.vectors`.

    Raises
    ------
    ValueError
        There are no vectors.

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
        #: Unit vectors: float32, shape (n, d).
        self.units = np.concatenate([unit(part.matrix) for part in parts])

    def __len__(self) -> int:
        return len(self.paths)

    def nearest(self, query: ArrayLike, k: int) -> list[Neighbour]:
        """Find the `k` nearest neighbours of a vector of shape (d,), nearest first.

        Raises
        ------
        ValueError
            The vector does not have d finite numbers, or `k` is less than 1.
        """
        vector = _query(query, k)
        rows = _top(_scores(self.units, vector), k + _SPARE)
        candidates = Vectors(self.paths, self.labels, self.units).take(rows)
        return _ranked(candidates, vector, k)

    def neighbours(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the `k` nearest neighbours of each photo among the others.

        Returns
        -------
        rows, distances
            int64 and float32, shape (n, min(k, n - 1)); nearest first.
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
    """Find the `k` nearest neighbours of a vector in a run, without loading the set into memory.

    Parameters
    ----------
    results
        The results of the run.
    query
        Features from the same model, shape (d,).
    k
        The number of neighbours.

    Returns
    -------
    list of Neighbour
        Nearest first; fewer than `k` if the set is smaller.

    Raises
    ------
    ValueError
        The vector does not have d finite numbers, or `k` is less than 1.
    """
    vector = _query(query, k)
    kept = partial(closest, query=vector, k=k + _SPARE)
    parts = list(kept(results.vectors("features", through=kept)))
    return [neighbour for part in parts for neighbour in _ranked(part, vector, k)]


def closest(blocks: Iterable[Vectors], *, query: NDArray[np.float64], k: int) -> Iterator[Vectors]:
    """Reduce blocks to at most one, with the `k` rows nearest to a unit vector."""
    best: Vectors | None = None
    for block in blocks:
        candidates = block if best is None else _joined(best, block)
        best = candidates.take(_top(_scores(unit(candidates.matrix), query), k))
    if best is not None:
        yield best


def vector_of(results: Results, path: str) -> NDArray[np.float32] | None:
    """Read the features of a photo; None if the set has none of it."""
    blocks = results.vectors("features", paths=[path])
    return next((block.matrix[0] for block in blocks), None)


def duplicates(
    blocks: Iterable[Vectors], *, threshold: float = DUPLICATE_DISTANCE, most: int = MOST_PAIRS
) -> Duplicates:
    """Find all pairs of photos that are at most `threshold` apart.

    Every photo is compared with every other, block by block. The vectors are in a temporary file (4
    bytes per number), which the operating system caches in free memory; the process itself needs
    about 50 MB, plus the paths and the pairs.

    Parameters
    ----------
    blocks
        Vectors from `pomona.results.Results.vectors`.
    threshold
        A cosine distance from 0 to 2; 0 finds photos with identical features.
    most
        The maximum number of pairs to return, the closest ones.

    Raises
    ------
    ValueError
        The threshold is out of range, or the vectors differ in length.
    """
    if not 0 <= threshold <= 2:
        raise ValueError(f"the threshold is {threshold}: it must be a cosine distance from 0 to 2")
    with spooled(blocks) as (paths, labels, units):
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
    """Find close pairs between two blocks: row in the one, row in the other, distance."""
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
    """Compute the distance of each pair of rows in float64; exactly 0 for equal rows."""
    one, two = rows.astype(np.float64), others.astype(np.float64)
    # Half the squared distance of unit vectors has no cancellation for close vectors.
    lengths = [np.linalg.norm(each, axis=-1, keepdims=True) for each in (one, two)]
    for each, length in zip((one, two), lengths):
        np.divide(each, length, out=each, where=length > 0)
    distances = np.einsum("ij,ij->i", one - two, one - two) / 2
    return np.where((lengths[0] * lengths[1])[:, 0] > 0, distances, 1.0)


@contextmanager
def spooled(
    blocks: Iterable[Vectors],
) -> Iterator[tuple[list[str], list[str], NDArray[np.float32]]]:
    """Write unit vectors to a temporary file, and map it into memory."""
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
        raise ValueError(f"k is {k}: it must be at least 1")
    vector = np.asarray(query, np.float64)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ValueError("the query must be one vector of finite numbers")
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def _scores(units: NDArray[np.float32], query: NDArray[np.float64]) -> NDArray[np.float32]:
    _check_width(units.shape[1], query.size)
    return units @ query.astype(np.float32)


def _check_width(one: int, other: int) -> None:
    if one != other:
        raise ValueError(f"features of {one} and of {other} numbers: do they come from two models?")


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows of the `k` highest scores, unordered."""
    if len(scores) <= k:
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - k)[-k:]


def _joined(one: Vectors, other: Vectors) -> Vectors:
    return Vectors(
        one.paths + other.paths,
        one.labels + other.labels,
        np.concatenate([one.matrix, other.matrix]),
    )


def _ranked(candidates: Vectors, query: NDArray[np.float64], k: int) -> list[Neighbour]:
    distances = _distances(candidates.matrix, np.broadcast_to(query, candidates.matrix.shape))
    ranked = sorted(zip(distances.tolist(), candidates.paths, candidates.labels))
    return [Neighbour(path, label, distance) for distance, path, label in ranked[:k]]
