"""The result of featurizing a batch, which the extension returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from pomona._errors import ImageError

if TYPE_CHECKING:
    from typing import Any

    Base = Tuple[NDArray[np.float32], List[Optional[ImageError]]]
else:
    Base = tuple


class FeaturizedBatch(Base):
    """The features and errors of a batch, which unpack as a pair, and notes on its images.

    Attributes
    ----------
    features : numpy.ndarray
        float32 of shape (n, dim), C order; a row of NaN where there is an error.
    errors : list of ImageError or None
        One slot per image.
    warnings : list of str or None
        Why the pixels may not be those of the original photo; None for an intact image and for one
        with an error.
    orientations : list of int or None
        The EXIF orientation, 2 to 8, of an image that was not turned accordingly, because
        ``apply_exif`` is False; None for all others.

    Examples
    --------
    >>> features, errors = batch = featurizer.try_featurize(photos)  # doctest: +SKIP
    >>> batch.warnings  # doctest: +SKIP
    [None, 'the end of the photo is missing']
    """

    warnings: list[str | None]
    orientations: list[int | None]

    def __new__(
        cls,
        features: NDArray[np.float32],
        errors: list[ImageError | None],
        warnings: list[str | None],
        orientations: list[int | None],
    ) -> FeaturizedBatch:
        """Make a pair of features and errors with the notes as attributes."""
        batch = super().__new__(cls, (features, errors))
        batch.warnings = warnings
        batch.orientations = orientations
        return batch

    @property
    def features(self) -> NDArray[np.float32]:
        """The first item."""
        return self[0]

    @property
    def errors(self) -> list[ImageError | None]:
        """The second item."""
        return self[1]

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self.warnings, self.orientations)
