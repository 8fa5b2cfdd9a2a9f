"""Recognize the photos that a classifier was trained on, by their features.

The fingerprint of a photo is 256 bits: on which side of 256 random planes its features lie. It does
not depend on the photo's name and place, and rounding, which differs between processors, does not
change it. Two frames of a rotating object have the same one in about one of 2,000 cases.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The file in the folder of a classifier: the fingerprints of its training photos, uint8 [n, 32].
FILE = "trained-photos.npy"

_BITS = 256
#: Bytes of a fingerprint.
WIDTH = _BITS // 8


def fingerprints(features: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Compute fingerprints from the features of an image model.

    Parameters
    ----------
    features
        Shape (n, d).

    Returns
    -------
    numpy.ndarray
        uint8, shape (n, 32).
    """
    sides = np.asarray(features, dtype=np.float64) @ _planes(features.shape[1]) > 0
    return np.packbits(sides, axis=1)


def are_among(prints: NDArray[np.uint8], trained: frozenset[bytes]) -> NDArray[np.bool_]:
    """Return which fingerprints are among those of the training photos, bool [n]."""
    return np.array([row.tobytes() in trained for row in prints], dtype=np.bool_)


def as_set(prints: NDArray[np.uint8]) -> frozenset[bytes]:
    """Convert fingerprints for `are_among`."""
    return frozenset(row.tobytes() for row in prints)


@functools.lru_cache(maxsize=2)
def _planes(width: int) -> NDArray[np.float64]:
    # A generator whose numbers are the same in all versions of numpy.
    planes: NDArray[np.float64] = np.random.RandomState(0).normal(size=(width, _BITS))
    return planes
