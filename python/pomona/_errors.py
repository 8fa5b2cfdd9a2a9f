"""The exceptions of the package, which the extension raises too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    ErrorKind = Literal["image", "storage", "gone", "memory", "missing"]


#: Columns that explain why a photo has no features, null for photos that have them: the reason,
#: the `kind` of the `ImageError`, and the version of Pomona that set it. The version identifies the
#: decoder, because every version has exactly one for each format, linked into the wheel.
ERROR_COLUMNS = ("error", "error_kind", "error_version")

#: Columns of notes on a photo that has features: the warning, a string, and the EXIF orientation
#: that was not applied, an integer from 2 to 8. Both are as in `FeaturizedBatch`.
NOTE_COLUMNS = ("warning", "orientation")


class ImageError(ValueError):
    """An image that could not be featurized.

    Attributes
    ----------
    index : int
        The image's index in its batch, from 0.
    reason : str
        The cause.
    kind : {"image", "storage", "gone", "memory", "missing"}
        The category of the cause. ``"image"``: the bytes cannot be decoded, and a retry with the
        same version fails again. ``"storage"``: the storage did not return the bytes. ``"gone"``:
        the image was deleted after it was listed. ``"memory"``: there was not enough memory.
        ``"missing"``: None instead of bytes or a path.
    """

    index: int
    reason: str
    kind: ErrorKind

    def __init__(self, index: int, reason: str, kind: ErrorKind = "image") -> None:
        super().__init__(index, reason, kind)
        self.index = index
        self.reason = reason
        self.kind = kind

    def __str__(self) -> str:
        return f"image {self.index}: {self.reason}"


class ImageWarning(UserWarning):
    """An image whose pixels may not be those of the original photo.

    `Featurizer.featurize` and `load_image` issue it. `Featurizer.try_featurize` and the Spark
    functions return the warning of each photo instead.
    """


class ModelError(ValueError):
    """A model that does not exist, cannot be read, or breaks the model contract."""
