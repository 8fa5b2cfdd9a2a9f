"""The exceptions of the package; the extension raises them as well."""

from __future__ import annotations


class ImageError(ValueError):
    """An image that has no features.

    Attributes
    ----------
    index : int
        The image's place in its batch, from 0.
    reason : str
        What is wrong with it.
    """

    index: int
    reason: str

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason

    def __str__(self) -> str:
        return f"image {self.index}: {self.reason}"


class ModelError(ValueError):
    """A model that is not there, can't be read, or breaks the model contract."""
