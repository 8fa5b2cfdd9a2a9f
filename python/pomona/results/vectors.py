"""Photos with one vector each, in memory and block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterable, Iterator, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    #: A filter or reduction of blocks, which Spark runs on the executors.
    Through = Callable[[Iterator["Vectors"]], Iterator["Vectors"]]

#: Rows per block: 5 MiB for 1,280 features.
BLOCK_ROWS = 1024


class Vectors(NamedTuple):
    """Photos with one vector each."""

    paths: list[str]
    #: The empty string where a photo has no label.
    labels: list[str]
    #: float32, shape (photos, d).
    matrix: NDArray[np.float32]

    def take(self, rows: Iterable[int]) -> Vectors:
        """Select rows, in the given order."""
        kept = [int(row) for row in rows]
        return Vectors(
            [self.paths[row] for row in kept], [self.labels[row] for row in kept], self.matrix[kept]
        )


def blocks_of(
    paths: list[str], labels: list[str], lists: pa.ListArray, wanted: set[str] | None = None
) -> Iterator[Vectors]:
    """Split a batch into blocks of rows that have a finite vector, and one of the `wanted` paths.

    The numbers stay in Arrow and numpy buffers; none becomes a Python object.
    """
    keep = lists.is_valid().to_numpy(zero_copy_only=False)
    if wanted is not None:
        keep &= np.fromiter((path in wanted for path in paths), bool, len(paths))
    rows = np.flatnonzero(keep)
    if not rows.size:
        return
    import pyarrow as pa

    numbers = lists.take(pa.array(rows)).flatten().to_numpy(zero_copy_only=False)
    if numbers.size % rows.size:
        raise ValueError("features of different lengths: do they come from two models?")
    matrix = numbers.astype(np.float32, copy=False).reshape(rows.size, -1)
    finite = np.isfinite(matrix).all(axis=1)
    if not finite.all():
        rows, matrix = rows[finite], matrix[finite]
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        yield Vectors(
            [paths[row] for row in part],
            [labels[row] for row in part],
            matrix[start : start + BLOCK_ROWS],
        )
