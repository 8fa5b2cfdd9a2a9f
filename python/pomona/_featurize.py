"""`pomona.featurize`, which keeps models loaded between calls."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Iterable

from pomona._decode import gather_options
from pomona._native import Featurizer
from pomona.models.store import resolve

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords, DecodeOptions
    from pomona._typing import PathLike

# Enough for a notebook that compares models. Each keeps a session per thread in memory.
_CACHED_MODELS = 4


def featurize(
    batch_of_bytes: Iterable[bytes | None],
    *,
    model: PathLike = "mobilenet_v2",
    threads: int = 1,
    **decode_options: Unpack[DecodeKeywords],
) -> NDArray[np.float32]:
    """Compute feature vectors of encoded images.

    Parameters
    ----------
    batch_of_bytes : iterable of bytes
        Encoded images: JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF. Each may also be a bytearray,
        memoryview, BytesIO, binary scalar of pyarrow or one-dimensional array of uint8.
    model : str or path, default "mobilenet_v2"
        The name of a pulled model, or the path of a model file.
    threads : int, default 1
        Number of threads. Each has its own session.
    **decode_options
        How images are decoded: the fields of `DecodeOptions`, namely ``apply_exif``, ``strict``,
        ``max_pixels`` and ``decode``.

    Returns
    -------
    numpy.ndarray
        float32 of shape (n, d), in C order: one row per image.

    Raises
    ------
    ImageError
        At the first image that cannot be decoded, with its ``index`` and ``reason``. To skip such
        images, use :meth:`Featurizer.try_featurize`.
    ModelError
        If the model does not exist or breaks the model contract.
    TypeError
        If something is not bytes; the message says what to pass instead.
    TypeError, ValueError
        If a decode option does not exist or has an invalid value.

    Warns
    -----
    ImageWarning
        For an image whose pixels may not be those of the original photo.

    Examples
    --------
    >>> from pathlib import Path
    >>> import pomona
    >>> photos = sorted(Path("photos").rglob("*.jpg"))
    >>> features = pomona.featurize([photo.read_bytes() for photo in photos])  # doctest: +SKIP
    """
    decode = gather_options("featurize", decode_options)
    return _featurizer(resolve(model), threads, decode, os.getpid()).featurize(batch_of_bytes)


@lru_cache(maxsize=_CACHED_MODELS)
def _featurizer(model: str, threads: int, decode: DecodeOptions, _process: int) -> Featurizer:
    # Keyed by process, because a forked child could inherit a Featurizer in the middle of a batch.
    return Featurizer(model, threads=threads, **decode.keywords())
