"""The extension's contract; `src/python.rs` keeps it and stubtest compares the two."""

from os import PathLike
from typing import Any, Iterable, Literal, Mapping, Sequence, final

import numpy as np
from numpy.typing import NDArray

from pomona._errors import ImageError

__all__ = [
    "Featurizer",
    "PathFeaturizer",
    "__version__",
    "list_folders",
    "load_image",
    "multiply_adds",
    "vectors",
]

__version__: str

@final
class Featurizer:
    """Turns encoded images into feature vectors.

    Nothing is started before the first batch: no thread, no session, no ONNX Runtime. Threads live
    no longer than a call, so a process may fork at any time between calls. Calls from several
    Python threads take turns, and the GIL is free while one runs. Ctrl-C is noticed between two
    images. A pickled copy carries the path of the model and the options.

    Parameters
    ----------
    model : str or path
        A pulled model's name or the path of a model file.
    threads : int, default 1
        Threads that decode and run the model, each with a session of its own.
    batch_size : int, default 2
        Images that go through the model at once.
    max_pixels : int, default 178956970
        Images of more pixels are refused before memory is taken for them. The default is Pillow's
        decompression-bomb error limit.
    apply_exif : bool, default False
        Whether an EXIF orientation turns the image. The reference pipeline ignores it.
    allow_trailing : bool, default False
        Whether bytes behind the end of an image are accepted.

    Raises
    ------
    ModelError
        If the model is not there or breaks the model contract.
    ValueError
        If an option has a value that can't be used.
    """

    def __new__(
        cls,
        model: str | PathLike[str],
        *,
        threads: int = 1,
        batch_size: int = 2,
        max_pixels: int = 178956970,
        apply_exif: bool = False,
        allow_trailing: bool = False,
    ) -> Featurizer: ...
    def featurize(
        self,
        images: Iterable[bytes | None],
        *,
        on_error: Literal["raise", "nan"] = "raise",
    ) -> NDArray[np.float32]:
        """Compute the features of encoded images.

        Parameters
        ----------
        images : iterable of bytes, bytearray, memoryview or None
            Encoded images: JPEG, PNG, WebP, GIF, BMP or TIFF.
        on_error : {"raise", "nan"}, default "raise"
            Whether the first image that can't be read raises, or each of them has a row of NaN.

        Returns
        -------
        numpy.ndarray
            float32 of shape (n, dim), C order: a row per image.

        Raises
        ------
        ImageError
            With on_error="raise", for the first image that can't be read.
        ModelError
            If ONNX Runtime can't load or run the model.
        RuntimeError
            If the process was forked while another thread was in this method.
        """

    def try_featurize(
        self, images: Iterable[bytes | None]
    ) -> tuple[NDArray[np.float32], list[ImageError | None]]:
        """Compute the features of encoded images, with an error slot for each.

        Parameters
        ----------
        images : iterable of bytes, bytearray, memoryview or None
            Encoded images: JPEG, PNG, WebP, GIF, BMP or TIFF.

        Returns
        -------
        features : numpy.ndarray
            float32 of shape (n, dim), C order; a row of NaN where there is an error.
        errors : list of ImageError or None
            One slot per image.

        Raises
        ------
        ModelError
            If ONNX Runtime can't load or run the model.
        RuntimeError
            If the process was forked while another thread was in this method.
        """

    @property
    def dim(self) -> int:
        """Number of features of an image."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width, in pixels, to which images are resized."""

    @property
    def model_name(self) -> str:
        """The model's name, from its metadata."""

    @property
    def model_path(self) -> str:
        """The model file."""

    @property
    def metadata(self) -> dict[str, str]:
        """The model file's metadata."""

    @property
    def threads(self) -> int:
        """Threads that a call uses."""

    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class PathFeaturizer:
    """Turns paths of photos into feature vectors, reading ahead.

    Photos are read from S3 and from local files by a thread of the process, many at once. The photo
    that is there first is featurized first, and steps are given in the order in which they were
    submitted. It is for one thread at a time. The features are those of `Featurizer`, bit for bit.

    Parameters
    ----------
    featurizer : Featurizer
        What featurizes; its threads compute while `next` runs.
    concurrency : int, default 32
        Photos that are read at once.
    max_bytes_in_flight : int, default 134217728
        Bytes of photos in memory, read or being read. A photo larger than that is read alone.
    timeout : float, default 60.0
        Seconds that a store may take for a photo, all tries together, and a second more for each
        100,000 bytes.
    storage : mapping, default {}
        For each bucket how it is reached, and under ``""`` how every other one is: a mapping with
        ``endpoint`` (with its scheme; without it, AWS's), ``region`` (without it, AWS is asked),
        ``path_style`` (``"true"``), ``credentials`` (``"chain"``, ``"keys"``, ``"anonymous"``,
        ``"environment"`` or ``"instance"``), ``access_key``, ``secret_key``, ``session_token``.

    Raises
    ------
    ValueError
        If an option has a value that can't be used.
    OSError
        If the thread can't be started.
    """

    def __new__(
        cls,
        featurizer: Featurizer,
        *,
        concurrency: int = 32,
        max_bytes_in_flight: int = 134217728,
        timeout: float = 60.0,
        storage: Mapping[str, Mapping[str, str]] = {},
    ) -> PathFeaturizer: ...
    def submit(self, paths: Iterable[str | None]) -> None:
        """Begin to read photos, as one step.

        Parameters
        ----------
        paths : iterable of str or None
            ``s3://``, ``s3a://`` and ``s3n://`` paths, ``file:`` paths and plain ones, as Spark's
            ``binaryFile`` has them: every character stands for itself.

        Raises
        ------
        RuntimeError
            If the process was forked since this was made.
        """

    def next(self) -> tuple[NDArray[np.float32], list[ImageError | None]] | None:
        """Compute the features of the oldest step that has not been given yet.

        Returns
        -------
        features : numpy.ndarray
            float32 of shape (n, dim), C order; a row of NaN where there is an error.
        errors : list of ImageError or None
            One slot per path. A `kind` other than ``"image"`` is not the photo's: another try may
            end otherwise.

        None instead of both if there is no step left. After an exception there is none, until
        others are submitted: the reads that were under way are given up.

        Raises
        ------
        OSError
            If a store can't be used at all: no way to it, wrong keys, no such bucket, or eight
            photos in a row that it did not give.
        ValueError
            If a path is none of S3 or of a local file.
        ModelError
            If ONNX Runtime can't load or run the model.
        RuntimeError
            If the process was forked since this was made.
        """

def list_folders(
    folders: Sequence[str],
    *,
    concurrency: int = 32,
    timeout: float = 60.0,
    storage: Mapping[str, Mapping[str, str]] = {},
) -> list[tuple[list[tuple[str, int, int]], list[str]] | None]:
    """List folders of S3, many at a time, and not what is in the folders in them.

    Parameters
    ----------
    folders : sequence of str
        ``s3://``, ``s3a://`` and ``s3n://`` paths, in which every character stands for itself. That
        of a file lists this file.
    concurrency : int, default 32
        Folders that are listed at once.
    timeout : float, default 60.0
        Seconds that the store may take for an answer, all tries together.
    storage : mapping, default {}
        As for `PathFeaturizer`.

    Returns
    -------
    list
        For each folder its files, and the paths of the folders in it; None where there is nothing.
        A file is its path, its length in bytes and its modification time in milliseconds since
        1970.

    Raises
    ------
    OSError
        If the store gives no listing: no way to it, wrong keys, no such bucket, no rights.
    ValueError
        If a path is none of S3, if a folder has names in it that can't be asked for (``a//b``),
        or if an option has a value that can't be used.
    """

def load_image(
    image: bytes,
    *,
    size: tuple[int, int] | None = None,
    max_pixels: int = 178956970,
    apply_exif: bool = False,
    allow_trailing: bool = False,
) -> NDArray[np.uint8]:
    """Decode an image as the models see it: as Pillow's ``convert("RGB")`` and bicubic resize.

    Parameters
    ----------
    image : bytes, bytearray or memoryview
        An encoded image: JPEG, PNG, WebP, GIF, BMP or TIFF.
    size : tuple of int, optional
        Height and width, in pixels, to resize to, up to 65,535 each. Without it the image keeps its
        size.
    max_pixels : int, default 178956970
        An image of more pixels is refused before memory is taken for it.
    apply_exif : bool, default False
        Whether an EXIF orientation turns the image.
    allow_trailing : bool, default False
        Whether bytes behind the end of the image are accepted.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (height, width, 3), RGB.

    Raises
    ------
    ImageError
        If the image can't be read.
    ValueError
        If an option has a value that can't be used.
    """

def multiply_adds(threads: int, seconds: float) -> int:
    """Do float32 multiply-adds as fast as the processor can, and count them.

    Divided by the processor time that they took, they are the peak that no float32 model exceeds.
    Threads that share a core share its units. Ctrl-C is not noticed: keep it short.

    Parameters
    ----------
    threads : int
        Threads that are at it together.
    seconds : float
        How long, on the clock.

    Returns
    -------
    int
        The multiply-adds of all threads.

    Raises
    ------
    ValueError
        If there is no thread or the time is not one.
    """

def vectors() -> str:
    """Name the vectors that :func:`multiply_adds` computes with: AVX-512, AVX2 or SSE2."""
