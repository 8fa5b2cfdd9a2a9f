"""`pomona.featurize`: one call, and the model stays loaded for the next."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Iterable, Union

from pomona._native import Featurizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Model = Union[str, "os.PathLike[str]"]

# A notebook compares two or three models; each holds a session per thread.
_KEPT = 4


def featurize(
    batch_of_bytes: Iterable[bytes | None],
    *,
    model: Model = "mobilenet_v2",
    threads: int = 1,
) -> NDArray[np.float32]:
    """Compute the features of encoded images.

    Parameters
    ----------
    batch_of_bytes : iterable of bytes
        Encoded images: JPEG, PNG, WebP, GIF, BMP or TIFF.
    model : str or path, default "mobilenet_v2"
        A pulled model's name or the path of a model file.
    threads : int, default 1
        Threads to use, each with a session of its own.

    Returns
    -------
    numpy.ndarray
        float32 of shape (n, d), C order: a row per image.

    Raises
    ------
    ImageError
        At the first image that can't be read, with its ``index`` and ``reason``. To go on without
        it, use :meth:`Featurizer.try_featurize`.
    ModelError
        If the model is not there or breaks the model contract.

    Examples
    --------
    >>> from pathlib import Path
    >>> import pomona
    >>> photos = sorted(Path("photos").rglob("*.jpg"))
    >>> features = pomona.featurize([photo.read_bytes() for photo in photos])  # doctest: +SKIP
    """
    return _featurizer(os.fspath(model), threads, os.getpid()).featurize(batch_of_bytes)


@lru_cache(maxsize=_KEPT)
def _featurizer(model: str, threads: int, _process: int) -> Featurizer:
    """Keep a Featurizer for each process: a forked child may find its parent's in mid-batch."""
    return Featurizer(model, threads=threads)
