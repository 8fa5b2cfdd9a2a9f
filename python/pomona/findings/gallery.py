"""The vectors of a set of photos in a temporary file, for searches that compare all of them."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Sequence

import numpy as np

from pomona._vectors import BLOCK
from pomona.similar import spooled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.results import Results

#: Photos that are looked at in full. Comparing 100,000 photos with each other takes about 5 minutes
#: on two cores, and the temporary file 500 MB; of a larger set, a stratified sample is looked at.
LARGEST = 100_000


class Gallery:
    """Photos with unit vectors and classes.

    Attributes
    ----------
    paths, labels
        One for each of n photos; the empty string where a photo has no label.
    units
        float32, shape (n, d), mapped from a temporary file.
    classes
        The labels in use, sorted.
    numbers
        The class of each photo, as an index into `classes`: int64, shape (n,).
    """

    def __init__(self, paths: list[str], labels: list[str], units: NDArray[np.float32]) -> None:
        self.paths = paths
        self.labels = labels
        self.units = units
        self.classes = sorted(set(labels))
        number = {label: index for index, label in enumerate(self.classes)}
        self.numbers = np.array([number[label] for label in labels], np.int64)
        self.row_of = {path: row for row, path in enumerate(paths)}

    def __len__(self) -> int:
        return len(self.paths)

    def rows_of(self, label: str) -> NDArray[np.int64]:
        """Return the rows of a class, in their order."""
        number = bisect_left(self.classes, label)
        if self.classes[number : number + 1] != [label]:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.numbers == number)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Read the vectors in blocks of at most `BLOCK` rows."""
        for start in range(0, len(self), BLOCK):
            rows = slice(start, min(start + BLOCK, len(self)))
            yield rows, np.asarray(self.units[rows])

    def nearest_in_class(
        self, rows: Sequence[int], classes: Sequence[int]
    ) -> list[tuple[int, float] | None]:
        """Find for each of some photos the nearest other photo of a class.

        Parameters
        ----------
        rows
            The photos.
        classes
            For each photo the index of a class.

        Returns
        -------
        list
            For each photo the row of the nearest one and its cosine distance; None if the class has
            no other photo.
        """
        found: list[tuple[int, float] | None] = [None] * len(rows)
        for number in sorted(set(classes)):
            asked = [place for place, each in enumerate(classes) if each == number]
            members = np.flatnonzero(self.numbers == number)
            queries = np.array([rows[place] for place in asked])
            best = np.full(len(asked), -np.inf, np.float32)
            nearest = np.full(len(asked), -1, np.int64)
            for start in range(0, len(members), BLOCK):
                block = members[start : start + BLOCK]
                cosines = self.units[queries] @ self.units[block].T
                cosines[queries[:, None] == block[None, :]] = -np.inf
                place = cosines.argmax(axis=1)
                value = cosines[np.arange(len(asked)), place]
                nearer = value > best
                best[nearer], nearest[nearer] = value[nearer], block[place[nearer]]
            for place, row, cosine in zip(asked, nearest.tolist(), best.tolist()):
                if row >= 0:
                    found[place] = row, max(0.0, 1 - cosine)
        return found


@contextmanager
def open_gallery(results: Results, *, seed: int = 0) -> Iterator[Gallery]:
    """Read the features of a set: all of them, or of a stratified sample of `LARGEST` photos."""
    readable = sum(each.photos - each.errors for each in results.classes())
    chosen = None if readable <= LARGEST else results.draw_paths(LARGEST, seed)
    with spooled(results.vectors("features", paths=chosen)) as (paths, labels, units):
        yield Gallery(paths, labels, units)
