"""Thumbnails of photos."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

from pomona._errors import ImageError, ImageWarning
from pomona._native import load_image
from pomona._optional import require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona import DecodeOptions

#: Pixels of a thumbnail's longer side, and its JPEG quality: about 2 kB.
THUMBNAIL_SIDE = 96
THUMBNAIL_QUALITY = 70


def thumbnail(
    content: bytes, side: int, *, enlarge: bool = False, decode: DecodeOptions | None = None
) -> NDArray[np.uint8] | str:
    """Decode a photo to at most `side` pixels a side, keeping its proportions.

    Parameters
    ----------
    content
        An encoded photo.
    side
        Pixels of the longer side.
    enlarge
        Scale smaller photos up to `side` as well.
    decode
        How to decode the photo; by default as `DecodeOptions()`.

    Returns
    -------
    numpy.ndarray or str
        uint8, shape (height, width, 3); or the reason why the photo cannot be decoded.
    """
    options = {} if decode is None else decode.keywords()
    with warnings.catch_warnings():
        # A damaged photo is shown as it is.
        warnings.simplefilter("ignore", ImageWarning)
        try:
            pixels = load_image(content, **options)
            height, width = pixels.shape[:2]
            scale = side / max(height, width)
            if scale == 1 or (scale > 1 and not enlarge):
                return pixels
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            return load_image(content, size=size, **options)
        except ImageError as error:
            return error.reason


def jpeg(pixels: NDArray[np.uint8] | str, quality: int = THUMBNAIL_QUALITY) -> bytes | None:
    """Encode the result of `thumbnail` as JPEG; None for a photo that cannot be decoded."""
    if isinstance(pixels, str):
        return None
    image = require("PIL.Image", "report", "a thumbnail").fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
