"""Measures how close the features of an int8 model are to those of its float32 model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pomona._vectors import cosines_with_others, unit

if TYPE_CHECKING:
    from typing import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Fidelity:
    """Comparison of int8 and float32 features of the same photos."""

    #: Number of photos compared.
    photos: int
    #: Whether calibration used the same photos, because there were too few others.
    seen_in_calibration: bool
    #: Cosine between the two features of a photo: minimum, 1st percentile, median.
    cosine_min: float
    cosine_1_percent: float
    cosine_median: float
    #: Number of labels: the folders of the photos.
    labels: int
    #: Share of photos with the same nearest neighbour in both; None for a single photo.
    agreement: float | None
    #: Share of photos whose nearest neighbour has the same label, among labels with two or more
    #: photos; None unless there are two such labels.
    accuracy_float32: float | None
    accuracy_int8: float | None


def compare(
    reference: NDArray[np.float32],
    features: NDArray[np.float32],
    labels: Sequence[str],
    *,
    seen_in_calibration: bool = False,
) -> Fidelity:
    """Compare the features of float32 and of int8, float32 ``[n, d]``, n > 0.

    The nearest neighbour of a photo is the other photo with the highest cosine.
    """
    sides = [unit(reference), unit(features)]
    cosines = np.einsum("ij,ij->i", *sides, dtype=np.float64)
    names, numbers, counts = np.unique(
        np.asarray(labels, dtype=np.str_), return_inverse=True, return_counts=True
    )
    agreement = accuracies = None
    if len(cosines) > 1:
        nearest = [
            np.concatenate([block.argmax(axis=1) for _, block in cosines_with_others(side)])
            for side in sides
        ]
        agreement = float((nearest[0] == nearest[1]).mean())
        if (counts > 1).sum() > 1:
            # The only photo of a label has no right answer.
            asked = counts[numbers] > 1
            accuracies = [float((numbers[side] == numbers)[asked].mean()) for side in nearest]
    return Fidelity(
        photos=len(cosines),
        seen_in_calibration=seen_in_calibration,
        cosine_min=float(cosines.min()),
        cosine_1_percent=float(np.percentile(cosines, 1)),
        cosine_median=float(np.median(cosines)),
        labels=len(names),
        agreement=agreement,
        accuracy_float32=accuracies[0] if accuracies else None,
        accuracy_int8=accuracies[1] if accuracies else None,
    )
