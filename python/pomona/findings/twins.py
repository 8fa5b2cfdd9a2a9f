"""Near-duplicates: across classes, across the parts of a set, and within a class."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pomona._vectors import BLOCK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona.findings.gallery import Gallery

_PART = re.compile(
    "(?P<train>train(?:ing)?)|(?P<test>test(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?)",
    re.IGNORECASE,
)
#: Principal axes onto which vectors are projected, and a bound on the errors of float32.
_AXES = 128
_ROUNDING = 1e-4

_SUFFIX = re.compile("[-_ ]?(set|data|images|photos)$", re.IGNORECASE)


class Twin(NamedTuple):
    """A photo, its nearest photo under some condition, and their cosine distance."""

    row: int
    other: int
    distance: float


def part_of(path: str) -> str:
    """Return the part of a set to which a photo belongs, by the names of its folders.

    Returns
    -------
    str
        ``train``, ``test`` or ``validation``, as the innermost folder of such a name says; the
        empty string if there is none.

    Examples
    --------
    >>> part_of("file:/fruits/Training/Test_apple/0.jpg"), part_of("s3://b/val_set/x.jpg")
    ('train', 'validation')
    >>> part_of("photos/apple/test.jpg")
    ''
    """
    for folder in reversed(path.split("/")[:-1]):
        match = _PART.fullmatch(_SUFFIX.sub("", folder))
        if match:
            return str(match.lastgroup)
    return ""


def across(photos: Gallery, threshold: float) -> tuple[list[Twin], list[Twin]]:
    """Find pairs of near-duplicates in two classes, and in two parts of one class.

    Every photo is compared with every other, block by block, but for the blocks that
    `_Screen` rules out.
    For each photo the nearest one counts, and each pair once.

    Returns
    -------
    classes
        Pairs of photos with different labels.
    parts
        Pairs of photos with one label, in different parts (`part_of`), of which the first is not in
        the training part.
    """
    names = [part_of(path) for path in photos.paths]
    kinds = {name: number for number, name in enumerate(["", *sorted(set(names) - {""})])}
    parts = np.array([kinds[name] for name in names], np.int64)
    if len(photos.classes) < 2 and len(set(names)) < 2:
        return [], []
    labelled = np.array([bool(label) for label in photos.labels])
    classes = _Nearest(len(photos), threshold)
    leaks = _Nearest(len(photos), threshold)
    screen = _Screen(photos, threshold)
    for start in range(0, len(photos), BLOCK):
        rows = np.asarray(photos.units[start : start + BLOCK])
        one = slice(start, start + len(rows))
        for other in range(start, len(photos), BLOCK):
            two = slice(other, min(other + BLOCK, len(photos)))
            if not screen.may_have_pairs(one, two):
                continue
            same = photos.numbers[one, None] == photos.numbers[None, two]
            differ = ~same & labelled[one, None] & labelled[None, two]
            leak = same & (parts[one, None] != parts[None, two])
            leak &= (parts[one, None] > 0) & (parts[None, two] > 0)
            if not differ.any() and not leak.any():
                continue
            cosines = rows @ photos.units[two].T
            classes.add(one, two, np.where(differ, cosines, -1))
            leaks.add(one, two, np.where(leak, cosines, -1))
    training = kinds.get("train", -1)
    swapped = [
        Twin(twin.other, twin.row, twin.distance) if parts[twin.row] == training else twin
        for twin in leaks.pairs()
    ]
    return classes.pairs(), swapped


def within(photos: Gallery, threshold: float) -> list[Twin]:
    """Find the photos to leave out so that no two of a class and part are near-duplicates.

    In the order of the set, a photo stays if no photo that stays is within `threshold`; otherwise
    it is listed with the nearest of these.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for row, (number, path) in enumerate(zip(photos.numbers.tolist(), photos.paths)):
        groups.setdefault((number, part_of(path)), []).append(row)
    found: list[Twin] = []
    for rows in groups.values():
        found += _repeated(photos.units, np.array(rows), threshold)
    return sorted(found, key=lambda each: (each.distance, each.row))


def _repeated(units: NDArray[np.float32], rows: NDArray[np.int64], threshold: float) -> list[Twin]:
    least = 1 - threshold
    kept = np.empty(0, np.int64)
    found = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        vectors = np.asarray(units[block])
        best, nearest = np.full(len(block), -1.0, np.float32), np.zeros(len(block), np.int64)
        for before in range(0, len(kept), BLOCK):
            others = kept[before : before + BLOCK]
            _keep_nearest(vectors @ units[others].T, others, best, nearest)
        among = vectors @ vectors.T
        stays = best < least
        for place in np.flatnonzero(stays):
            cosines = np.where(stays[:place], among[place, :place], -1)
            if place and cosines.max() >= least:
                stays[place] = False
                best[place], nearest[place] = cosines.max(), block[cosines.argmax()]
        for place in np.flatnonzero(~stays):
            distance = max(0.0, 1 - float(best[place]))
            found.append(Twin(int(block[place]), int(nearest[place]), distance))
        kept = np.concatenate([kept, block[stays]])
    return found


class _Screen:
    """Tells which blocks of rows have no near pair, at a tenth of the cost of comparing them.

    A projection shortens the difference of two vectors, never lengthens it. So no pair is missed
    where the projections onto the first principal axes are compared.
    """

    def __init__(self, photos: Gallery, threshold: float) -> None:
        self._least = -threshold - _ROUNDING
        self._left: NDArray[np.float32] | None = None
        if len(photos) <= 4 * BLOCK or photos.units.shape[1] <= 2 * _AXES:
            return  # comparing them all takes seconds
        some = np.asarray(photos.units[:: len(photos) // (4 * _AXES)])
        axes = np.linalg.svd(some, full_matrices=False)[2][:_AXES].T
        projected = np.concatenate([block @ axes for _, block in photos.blocks()])
        # The product of a row of each is minus half the squared distance of two projections.
        half = np.einsum("ij,ij->i", projected, projected)[:, None] / 2
        ones = np.ones_like(half)
        self._left = np.hstack([projected, -half, ones])
        self._right = np.hstack([projected, ones, -half])

    def may_have_pairs(self, one: slice, two: slice) -> bool:
        """Return False if no photo of the one block is near to another one of the other block."""
        if self._left is None or one == two:
            return True
        return bool((self._left[one] @ self._right[two].T).max() >= self._least)


class _Nearest:
    """The nearest photo of each photo, among those that were added."""

    def __init__(self, photos: int, threshold: float) -> None:
        self._cosines = np.full(photos, -1, np.float32)
        self._rows = np.full(photos, -1, np.int64)
        self._least = 1 - threshold

    def add(self, one: slice, two: slice, cosines: NDArray[np.float32]) -> None:
        """Compare two blocks of rows, each with the other."""
        for rows, others, table in ((one, two, cosines), (two, one, cosines.T)):
            of = np.arange(others.start, others.start + table.shape[1])
            _keep_nearest(table, of, self._cosines[rows], self._rows[rows])

    def pairs(self) -> list[Twin]:
        """List the pairs within the threshold, the closest first."""
        rows = np.flatnonzero(self._cosines >= self._least)
        pairs = {
            (min(row, other), max(row, other)): cosine
            for row, other, cosine in zip(
                rows.tolist(), self._rows[rows].tolist(), self._cosines[rows].tolist()
            )
        }
        twins = [Twin(one, two, max(0.0, 1 - cosine)) for (one, two), cosine in pairs.items()]
        return sorted(twins, key=lambda each: (each.distance, each.row))


def _keep_nearest(
    cosines: NDArray[np.float32],
    others: NDArray[np.int64],
    best: NDArray[np.float32],
    nearest: NDArray[np.int64],
) -> None:
    """Update the best cosine of each row, and the photo that it belongs to."""
    place = cosines.argmax(axis=1)
    value = cosines[np.arange(len(place)), place]
    nearer = value > best
    best[nearer], nearest[nearer] = value[nearer], others[place[nearer]]
