"""How near the features of one model are to those of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ONE_PERCENT = 1.0
# A block of rows meets all others at once: 512 x 100,000 scores of float32 are 200 MiB.
_BLOCK = 512


@dataclass(frozen=True)
class Fidelity:
    """Features of int8 beside those of float32, for the same photos."""

    #: Photos compared.
    photos: int
    #: Whether calibration saw them too, for want of others.
    seen_in_calibration: bool
    #: Cosine between the two features of a photo: the lowest, the first percentile, the median.
    cosine_min: float
    cosine_1_percent: float
    cosine_median: float
    #: Folders of the photos.
    labels: int
    #: Share of photos whose nearest other photo is the same in both; None below two photos.
    agreement: float | None
    #: Share of photos whose nearest other is of their folder: None below two labels of two photos.
    accuracy_float32: float | None
    accuracy_int8: float | None


def compare(
    reference: NDArray[np.float32],
    features: NDArray[np.float32],
    labels: Sequence[str],
    *,
    seen_in_calibration: bool = False,
) -> Fidelity:
    """Compare features.

    Parameters
    ----------
    reference, features : numpy.ndarray
        float32 ``[n, d]``, n > 0: of float32 and of int8.
    labels : sequence of str
        The folder of each photo.
    seen_in_calibration : bool
        What to note about the photos.

    Returns
    -------
    Fidelity
        The nearest photo is the one of the highest cosine, itself left out.
    """
    left, right = _unit(reference), _unit(features)
    cosines = (left * right).sum(axis=1)
    names, numbers, counts = np.unique(
        np.asarray(labels, dtype=np.str_), return_inverse=True, return_counts=True
    )
    agreement = accuracies = None
    if len(left) > 1:
        nearest = [_nearest(side) for side in (left, right)]
        agreement = float((nearest[0] == nearest[1]).mean())
        if (counts > 1).sum() > 1:
            # A photo that is alone in its folder has no right answer.
            asked = counts[numbers] > 1
            accuracies = [float((numbers[side] == numbers)[asked].mean()) for side in nearest]
    return Fidelity(
        photos=len(left),
        seen_in_calibration=seen_in_calibration,
        cosine_min=float(cosines.min()),
        cosine_1_percent=float(np.percentile(cosines, _ONE_PERCENT)),
        cosine_median=float(np.median(cosines)),
        labels=len(names),
        agreement=agreement,
        accuracy_float32=accuracies[0] if accuracies else None,
        accuracy_int8=accuracies[1] if accuracies else None,
    )


def _unit(features: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float64).tiny))


def _nearest(features: NDArray[np.float64]) -> NDArray[np.int64]:
    single = features.astype(np.float32)
    found = np.empty(len(single), np.int64)
    for start in range(0, len(single), _BLOCK):
        scores = single[start : start + _BLOCK] @ single.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        found[start : start + _BLOCK] = scores.argmax(axis=1)
    return found
