"""Split photos into a training part and a test part.

Near-duplicates make a test too easy: if one photo of a rotating object is in the training part, its
neighbour is no test. Hence two kinds of hold-out. `stratified` samples each class at random and
measures how well a classifier recognizes the very objects it was trained on. `by_rotation`,
`by_group` and `by_likeness` keep near-duplicates together and measure how well it generalizes to
unseen views or specimens.

Splits by names depend on hashes of labels and file names only, so a seed gives the same split with
and without Spark, and for a copy of the photos elsewhere. The hashes are those of Spark's function
``xxhash64``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Sequence

import numpy as np

from pomona._vectors import BLOCK, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The axis and the index of a rotation in file names of Fruits-360, such as ``r0_115.jpg``,
#: ``0_100.jpg`` and ``r2_87_100.jpg``. A trailing ``_100`` is a size.
ROTATION = re.compile(r"(?:^|/)(?:(r\d*)_)?(\d{1,9})(?:_100)?\.[^./]+$", re.ASCII)

#: Width of the gap on either side of a held-out range, as a share of the range.
GAP = 0.125

#: The ``group`` that asks for `by_likeness`.
DUPLICATES = "duplicates"

#: Cosine distances of features. Copies of a photo that were compressed again or resized are at most
#: `TWIN` apart, those that were cropped by a tenth mostly at most `ALIKE`: measured on 97 copies of
#: 295 photos with the features of `efficientnet_lite0`. Neighbouring frames of a rotating object
#: are 0.01 to 0.05 apart.
TWIN = 0.06
ALIKE = 0.15
#: The share of a class that stays in the training part although it is within `ALIKE` of the test
#: part, if the whole class is: photos of one object.
_KEPT = 0.25

#: Photos of a class that are compared with each other; their cosines take 256 MiB.
_MOST = 8192

#: Values of `Holdout.parts`.
LEFT_OUT, TRAIN, TEST = 0, 1, 2


@dataclass(frozen=True)
class Holdout:
    """A split of photos."""

    #: ``random`` or ``blocked``.
    name: str
    #: Describes what was held out.
    how: str
    #: `TRAIN`, `TEST` or `LEFT_OUT` for each photo: int8 [n].
    parts: NDArray[np.int8]
    #: Remarks for the reader of the results.
    notes: list[str] = field(default_factory=list)


def stratified(paths: Sequence[str], labels: Sequence[str], share: float, seed: int) -> Holdout:
    """Hold out a share of each class's photos, at random.

    There are at least two photos per class, and each part has at least one photo of every class.
    """
    parts = np.full(len(paths), TRAIN, np.int8)
    for label, rows in _rows_of(labels).items():
        parts[_drawn(paths, label, rows, seed)[: _wanted(len(rows), share)]] = TEST
    return Holdout("random", f"{share:.0%} of each class, drawn at random", parts)


def by_rotation(
    paths: Sequence[str], labels: Sequence[str], share: float, seed: int
) -> Holdout | None:
    """Hold out one contiguous range of views per rotation, that is, per class and axis.

    A gap of an eighth of the range is left out on either side of it. Training photos follow beyond
    both gaps, as far as there are enough photos, so the test is a view between known ones. Views at
    the ends, which no training photo is near, are a harder test: on 295 photos of 23 classes, the
    accuracy of three classifiers was 99 to 100 % for ranges as chosen here, and 82 to 88 % for
    ranges at the ends. The seed selects where the ranges start.

    Returns None if too few photos have a rotation index in their names.
    """
    rotations: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, (path, label) in enumerate(zip(paths, labels)):
        found = ROTATION.search(path)
        if found:
            rotation = rotations.setdefault((label, found.group(1) or ""), [])
            rotation.append((int(found.group(2)), row))
    parts = np.full(len(paths), LEFT_OUT, np.int8)
    for (label, axis), photos in rotations.items():
        indices = sorted({index for index, _ in photos})
        length = min(_round(len(indices) * share), len(indices) - 1)
        gap = _round(length * GAP)
        # The first and the last view at which a range may start.
        first = min(gap + 1, len(indices) - length)
        last = max(len(indices) - length - gap - 1, first)
        start = first + _hash(f"{label}/{axis}", seed) % (last - first + 1)
        view_of = {index: view for view, index in enumerate(indices)}
        for index, row in photos:
            offset = view_of[index] - start
            if 0 <= offset < length:
                parts[row] = TEST
            elif not -gap <= offset < length + gap:
                parts[row] = TRAIN
    if not (parts == TEST).any():
        return None
    unindexed = len(paths) - sum(map(len, rotations.values()))
    notes = []
    if unindexed:
        notes.append(f"{unindexed:,} photos without a rotation index in their names left out")
    return Holdout(
        "blocked",
        f"a contiguous {share:.0%} of the views of each rotation, by the index in the file names; "
        f"a gap of {GAP:.1%} of that range is left out on either side",
        parts,
        notes,
    )


def by_likeness(
    paths: Sequence[str],
    labels: Sequence[str],
    features: NDArray[np.float32],
    share: float,
    seed: int,
) -> Holdout | None:
    """Hold out photos that have no near-duplicate in the training part, by their features.

    Of each class, groups of photos that look alike are drawn until they make up the share. In a
    class of which most photos look alike, those of one object, the photos nearest to a drawn one
    are held out instead, and the photos next to these are left out, as far as enough others remain.
    Photos of other classes that nearly equal a test photo are left out too.

    Parameters
    ----------
    features
        float32 [n, d], one row for each photo; their cosine distances are compared with `TWIN` and
        `ALIKE`.

    Returns
    -------
    Holdout or None
        None if photos are so alike that there is nothing to test on, or to train on.
    """
    units = unit(features)
    parts = np.full(len(paths), LEFT_OUT, np.int8)
    uniform, untested, large = 0, 0, 0
    for label, rows in sorted(_rows_of(labels).items()):
        drawn = _drawn(paths, label, rows, seed)[:_MOST]
        large += len(rows) > _MOST
        wanted = _wanted(len(drawn), share)
        cosines = units[drawn] @ units[drawn].T
        test = _drawn_groups(cosines, wanted)
        train = ~test
        if not test.any():
            test, train = _neighbourhood(cosines, wanted)
            uniform += bool(test.any())
            untested += not test.any()
        parts[drawn[test]] = TEST
        parts[drawn[train]] = TRAIN
    parts[_within(units, parts, TWIN)] = LEFT_OUT
    trained = {label for label, part in zip(labels, parts) if part == TRAIN}
    if len(trained) < 2 or not (parts == TEST).any():
        return None
    notes = []
    if uniform:
        notes.append(
            f"classes whose photos all look alike: {uniform:,}; of these, the photos nearest to a "
            f"drawn one are held out, and those within a cosine distance of {TWIN} left out, or of "
            f"{ALIKE} where enough others remain. Cropped copies may be in both parts"
        )
    if untested:
        notes.append(f"classes of near-duplicates only: {untested:,}; these are not tested")
    if large:
        notes.append(f"classes of which only {_MOST:,} photos are used: {large:,}")
    return Holdout(
        "blocked",
        f"about {share:.0%} of each class, without the near-duplicates of training photos; photos "
        f"are near-duplicates up to a cosine distance of {ALIKE} of their features",
        parts,
        notes,
    )


def by_group(
    labels: Sequence[str], keys: Sequence[str | None], share: float, seed: int, what: str
) -> Holdout:
    """Hold out groups of photos without splitting any.

    Groups are sorted by their keys, numbers numerically, and a run of consecutive groups is held
    out, so that most test groups (days, or numbers in a series) have no training neighbour. The run
    is the one whose share of every class is closest to `share`. Classes that have no groups in
    common are split independently. The seed selects among equally good runs.

    Parameters
    ----------
    keys
        The key of each photo's group; photos without one are left out.
    what
        Names the origin of the keys, such as ``column day``.

    Raises
    ------
    ValueError
        There are no keys, or there is nothing to hold out.
    """
    table: dict[tuple[str, str], int] = {}
    for key, label in zip(keys, labels):
        if key is not None:
            table[key, label] = table.get((key, label), 0) + 1
    counts = [_Count(*pair, photos) for pair, photos in table.items()]
    held_out = {key for some in _connected(counts) for key in _best_run(some, share, seed)}
    if not held_out:
        raise ValueError(
            f"--group: {what} leaves nothing to hold out, because each class has only one group, "
            f"such as {counts[0].key!r}"
        )
    parts = np.array(
        [LEFT_OUT if key is None else TEST if key in held_out else TRAIN for key in keys], np.int8
    )
    left_out = int((parts == LEFT_OUT).sum())
    groups = len({each.key for each in counts})
    return Holdout(
        "blocked",
        f"{len(held_out):,} of {groups:,} groups by {what}",
        parts,
        [f"{left_out:,} photos without a key left out"] if left_out else [],
    )


def keys_by_pattern(paths: Sequence[str], pattern: str, columns: Sequence[str]) -> list[str | None]:
    """Return the first group of a regular expression in each path; None where it does not match.

    Raises ValueError if the pattern is not a regular expression or has no group; `columns` are
    those that could have been meant.
    """
    listed = ", ".join(columns)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"--group {pattern!r} is neither a column ({listed}), {DUPLICATES!r}, a CSV file nor a "
            f"regular expression: {error}"
        ) from error
    if not expression.groups:
        raise ValueError(
            f"--group {pattern!r} is not a column ({listed}), {DUPLICATES!r} or a CSV file, and as "
            "a regular expression it has no capturing group: put the key in parentheses, as in "
            r"'/(tree\d+)_'"
        )
    matches = [expression.search(path) for path in paths]
    return [match and match.group(1) for match in matches]


class _Count(NamedTuple):
    """The number of photos of a class in a group."""

    key: str
    label: str
    photos: int


def _rows_of(labels: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return {label: np.array(each) for label, each in rows.items()}


def _drawn(
    paths: Sequence[str], label: str, rows: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """Order the rows of a class at random, whatever their order and the place of the photos."""

    def rank(row: int) -> tuple[int, str]:
        return _hash(f"{label}/{paths[row].rpartition('/')[2]}", seed), paths[row]

    return np.array(sorted(rows.tolist(), key=rank))


def _wanted(photos: int, share: float) -> int:
    return min(max(_round(photos * share), 1), photos - 1)


def _round(number: float) -> int:
    """Round half up, as Spark does."""
    return int(number + 0.5)


def _drawn_groups(cosines: NDArray[np.float32], wanted: int) -> NDArray[np.bool_]:
    """Draw groups of photos that look alike, in the order of rows, until there are enough.

    Groups that are too large stay in the training part. None is drawn if that leaves too few.
    """
    groups = _components(cosines >= 1.0 - ALIKE)
    sizes = np.bincount(groups)
    test = np.zeros(len(cosines), np.bool_)
    for row in range(len(cosines)):
        if not test[row] and sizes[groups[row]] <= wanted - int(test.sum()):
            test |= groups == groups[row]
    return test if 2 * test.sum() >= wanted else np.zeros_like(test)


def _components(alike: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the connected component of each node of a graph; `alike` is its matrix."""
    groups = np.full(len(alike), -1, np.int64)
    for row in range(len(alike)):
        if groups[row] >= 0:
            continue
        reached = np.zeros(len(alike), np.bool_)
        frontier = np.arange(len(alike)) == row
        while frontier.any():
            reached |= frontier
            frontier = alike[frontier].any(axis=0) & ~reached
        groups[reached] = row
    return groups


def _neighbourhood(
    cosines: NDArray[np.float32], wanted: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Hold out the photos nearest to the first one, and keep those that are far from all of them.

    Fewer are held out if no other photos would remain; none, if there is no way.
    """
    nearest = np.argsort(-cosines[0], kind="stable")
    while wanted:
        test = np.zeros(len(cosines), np.bool_)
        test[nearest[:wanted]] = True
        distances = 1.0 - cosines[:, test].max(axis=1)
        far = np.flatnonzero(~test & (distances > TWIN))
        if far.size:
            far = far[np.argsort(-distances[far], kind="stable")]
            kept = max(int((distances[far] > ALIKE).sum()), _round(len(cosines) * _KEPT), 1)
            train = np.zeros_like(test)
            train[far[:kept]] = True
            return test, train
        wanted //= 2
    return np.zeros(len(cosines), np.bool_), np.ones(len(cosines), np.bool_)


def _within(
    units: NDArray[np.float32], parts: NDArray[np.int8], distance: float
) -> NDArray[np.int64]:
    """Find the training photos within a distance of a test photo."""
    train, test = np.flatnonzero(parts == TRAIN), np.flatnonzero(parts == TEST)
    near = np.zeros(len(train), np.bool_)
    for start in range(0, len(train), BLOCK):
        block = units[train[start : start + BLOCK]]
        for other in range(0, len(test), BLOCK):
            highest = (block @ units[test[other : other + BLOCK]].T).max(axis=1)
            near[start : start + BLOCK] |= highest >= 1.0 - distance
    return train[near]


def _connected(counts: Sequence[_Count]) -> list[list[_Count]]:
    """Partition classes into connected components: classes that have groups in common."""
    classes_of: dict[str, list[str]] = {}
    for each in counts:
        classes_of.setdefault(each.key, []).append(each.label)
    parent = {each.label: each.label for each in counts}

    def root(label: str) -> str:
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    for first, *others in classes_of.values():
        for other in others:
            parent[root(other)] = root(first)
    connected: dict[str, list[_Count]] = {}
    for each in sorted(counts):
        connected.setdefault(root(each.label), []).append(each)
    return list(connected.values())


def _best_run(counts: Sequence[_Count], share: float, seed: int) -> list[str]:
    """Choose consecutive keys, on a ring, that hold about a share of each class's photos."""
    keys = sorted({each.key for each in counts}, key=_natural)
    labels = sorted({each.label for each in counts})
    if len(keys) == 1:
        return []
    row = {key: number for number, key in enumerate(keys)}
    column = {label: number for number, label in enumerate(labels)}
    table = np.zeros((len(keys), len(labels)))
    for each in counts:
        table[row[each.key], column[each.label]] += each.photos
    sizes = table.sum(axis=0)
    ends = _run_ends(table.sum(axis=1), share * sizes.sum())
    ring = np.vstack([np.zeros_like(sizes), np.cumsum(np.vstack([table, table]), axis=0)])
    starts = np.arange(len(keys))
    shares = (ring[ends] - ring[starts]) / sizes
    # First minimize the classes that are in one part only, then the distance from the share.
    one_part = ((shares == 0.0) | (shares == 1.0)).sum(axis=1)
    uneven = np.abs(shares - share).sum(axis=1).round(6)
    best = np.flatnonzero(one_part == one_part.min())
    best = best[uneven[best] == uneven[best].min()]
    digest = hashlib.sha256(f"{seed}/{labels[0]}/{keys[0]}".encode()).digest()
    start = int(best[int.from_bytes(digest[:8], "big") % len(best)])
    return [keys[number % len(keys)] for number in range(start, int(ends[start]))]


def _run_ends(photos: NDArray[np.float64], wanted: float) -> NDArray[np.intp]:
    """Return for each start the end of the run whose number of photos is closest to `wanted`.

    A run takes at least one key and leaves at least one.
    """
    keys = len(photos)
    ring = np.concatenate([[0.0], np.cumsum(np.concatenate([photos, photos]))])
    starts = np.arange(keys)
    targets = ring[starts] + wanted
    ends = np.searchsorted(ring, targets)
    nearer = targets - ring[ends - 1] < ring[np.minimum(ends, 2 * keys)] - targets
    return np.asarray(np.clip(ends - nearer, starts + 1, starts + keys - 1))


def _natural(key: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that puts ``tree9`` before ``tree10``."""
    pieces = re.split(r"(\d+)", key)
    parts = [(int(piece), "") if number % 2 else (-1, piece) for number, piece in enumerate(pieces)]
    return parts, key


# The hash function of Spark: XXH64 by Yann Collet, of a text and then of a seed.

_MASK = (1 << 64) - 1
_PRIMES = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_SPARK_SEED = 42


def _hash(text: str, seed: int) -> int:
    """Return ``xxhash64(text, seed)`` of Spark, where the seed is a ``bigint``.

    Examples
    --------
    >>> _hash("Spark", 0), _hash("a text of more than 32 bytes, which has four lanes", 1)
    (-6396398850432463189, -3760061831984386304)
    """
    first = _xxh64(text.encode("utf-8", "surrogatepass"), _SPARK_SEED)
    value = _xxh64(seed.to_bytes(8, "little"), first)
    return value - (1 << 64) if value >> 63 else value


def _xxh64(data: bytes, seed: int) -> int:
    one, two, three, four, five = _PRIMES
    length, at = len(data), 0
    if length >= 32:
        lanes = [seed + one + two, seed + two, seed, seed - one]
        while at <= length - 32:
            for lane in range(4):
                word = int.from_bytes(data[at : at + 8], "little")
                lanes[lane] = _turn(lanes[lane] + word * two, 31) * one & _MASK
                at += 8
        value = sum(_turn(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18))) & _MASK
        for lane in lanes:
            value = ((value ^ _turn(lane * two, 31) * one & _MASK) * one + four) & _MASK
    else:
        value = (seed + five) & _MASK
    value += length
    while at <= length - 8:
        word = int.from_bytes(data[at : at + 8], "little")
        value = _turn(value ^ _turn(word * two, 31) * one & _MASK, 27) * one + four
        at += 8
    if at <= length - 4:
        word = int.from_bytes(data[at : at + 4], "little")
        value = _turn((value ^ word * one) & _MASK, 23) * two + three
        at += 4
    for byte in data[at:]:
        value = _turn((value ^ byte * five) & _MASK, 11) * one
    value &= _MASK
    value = (value ^ value >> 33) * two & _MASK
    value = (value ^ value >> 29) * three & _MASK
    return value ^ value >> 32


def _turn(value: int, bits: int) -> int:
    """Rotate a 64-bit number to the left."""
    value &= _MASK
    return (value << bits | value >> 64 - bits) & _MASK
