"""Unit vectors and their cosines, for every search of nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from typing import Iterator

    from numpy.typing import NDArray

#: Rows on each side of a matrix product: 2048 x 2048 scores of float32 take 16 MiB.
BLOCK = 2048


def unit(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide the rows of a matrix by their lengths; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))
    lengths[lengths == 0] = 1
    units: NDArray[np.float32] = (matrix / lengths[:, None]).astype(np.float32)
    return units


def cosines_with_others(units: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Compare each row with all other rows, in blocks.

    Parameters
    ----------
    units
        Rows of length 1, of shape (n, d).

    Yields
    ------
    rows, cosines
        A range of rows, and their cosines with all n rows: float32, of shape (rows, n). The cosine
        of a row with itself is replaced by -inf.
    """
    for start in range(0, len(units), BLOCK):
        cosines = units[start : start + BLOCK] @ units.T
        own = np.arange(len(cosines))
        cosines[own, start + own] = -np.inf
        yield slice(start, start + len(cosines)), cosines
