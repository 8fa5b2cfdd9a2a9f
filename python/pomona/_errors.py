"""The exceptions of the package; the extension raises them as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    ErrorKind = Literal["image", "storage", "gone", "memory", "missing"]


#: Columns that say why a photo has no features; null where it has some: the reason, the `kind` of
#: the `ImageError`, and the version of Pomona that decided it. No column names the decoder, because
#: a version has one of each format: its `Cargo.lock` pins them and the wheel links them in.
ERROR_COLUMNS = ("error", "error_kind", "error_version")


class ImageError(ValueError):
    """An image that has no features.

    Attributes
    ----------
    index : int
        The image's place in its batch, from 0.
    reason : str
        What is wrong with it.
    kind : {"image", "storage", "gone", "memory", "missing"}
        What decided it: ``"image"``, its bytes, and another try with the same version ends alike;
        ``"storage"``, which did not give them; ``"gone"``, the image was deleted after it had been
        listed; ``"memory"``, there was not enough at the time; ``"missing"``, there was None where
        bytes or a path belong.
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


class ModelError(ValueError):
    """A model that is not there, can't be read, or breaks the model contract."""
