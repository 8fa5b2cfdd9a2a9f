"""Arguments that are not of the type that a function is for.

What holds exactly the bytes of a photo, or a path, is converted; everything else is refused with a
message that says what to pass instead. The extension calls these functions only for what is neither
bytes nor a string.
"""

from __future__ import annotations

import inspect
import io
import os
import reprlib
from typing import TYPE_CHECKING

from pomona._suggest import did_you_mean

if TYPE_CHECKING:
    from typing import Any, Iterable, Mapping

    from pomona._typing import PathLike

_ENCODE = "pass the bytes of its file or, if it has none, encode it: {} and buffer.getvalue()"


def check_images(images: Any) -> None:
    """Raise a TypeError if the images of a call are not an iterable of images."""
    if _content(images) is not None:
        raise TypeError("featurize takes a batch of images, not one: pass [image]")
    if isinstance(images, (str, os.PathLike)):
        remedy = (
            f"read the files, [Path({_short(images)}).read_bytes()], or give a folder to "
            "pomona.featurize_folder"
        )
    elif isinstance(images, dict) and not all(isinstance(key, bytes) for key in images):
        remedy = "pass list(images.values())"
    elif hasattr(images, "columns"):
        remedy = "pass the column that has the bytes, such as images['content']"
    elif hasattr(images, "read"):
        remedy = "pass [file.read()]"
    elif _is_pixels(images):
        remedy = _remedy(images)
    elif not hasattr(images, "__iter__"):
        remedy = "pass a list of the contents of files, [path.read_bytes(), …]"
    else:
        return
    raise TypeError(f"featurize takes an iterable of bytes, not {_kind(images)}: {remedy}")


def image_bytes(image: Any, index: int) -> bytes | None:
    """Return the bytes of an image; None for a missing value of pandas or pyarrow."""
    content = _content(image)
    if content is not None:
        return content
    if _is_missing(image):
        return None
    message = f"image {index} must be bytes or None, not {_kind(image)}: {_remedy(image)}"
    raise TypeError(message)


def check_paths(paths: Any) -> None:
    """Raise a TypeError if the paths of a call are not an iterable of paths."""
    if isinstance(paths, (str, bytes, os.PathLike)):
        raise TypeError("submit takes paths of photos, not one: pass [path]")
    if not hasattr(paths, "__iter__"):
        raise TypeError(f"submit takes an iterable of paths, not {_kind(paths)}")


def path_text(path: Any, index: int) -> str | None:
    """Return a path as a string; None for a missing value of pandas or pyarrow."""
    if hasattr(path, "as_py"):
        path = path.as_py()
    if _is_missing(path):
        return None
    if isinstance(path, (str, os.PathLike)):
        text = os.fspath(path)
        if isinstance(text, str):
            return text
    message = f"path {index} must be str or None, not {_kind(path)}"
    if isinstance(path, (bytes, bytearray, memoryview)):
        message += ": for the contents of photos, use Featurizer"
    raise TypeError(message)


def list_of_paths(images: PathLike | Iterable[PathLike]) -> list[PathLike]:
    """Return the folders and photos that a function is given, one or several."""
    if isinstance(images, (str, os.PathLike)):
        return [images]
    one = isinstance(images, bytes) or not hasattr(images, "__iter__")
    paths: list[Any] = [images] if one else list(images)
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(
                f"images must be paths of folders or photos, not {_kind(path)}: for photos in "
                "memory, use pomona.featurize"
            )
    return paths


def refuse_unknown(function: str, keywords: Mapping[str, Any]) -> None:
    """Raise a TypeError that names the first keyword argument, and one that exists."""
    from pomona import _native

    known = inspect.signature(getattr(_native, function)).parameters
    raise TypeError(unexpected(function, next(iter(keywords)), list(known)))


def unexpected(function: str, keyword: str, known: Iterable[str]) -> str:
    """Say that a function has no such keyword argument, in Python's own words."""
    message = f"{function}() got an unexpected keyword argument {keyword!r}"
    return message + did_you_mean(keyword, known)


def _content(image: Any) -> bytes | None:
    """Return the bytes that an object holds, if they are all that it holds."""
    if isinstance(image, io.BytesIO):
        return image.getvalue()
    if hasattr(image, "as_py"):  # a scalar of pyarrow
        value = image.as_py()
        return value if isinstance(value, bytes) else None
    try:
        view = memoryview(image)
    except TypeError:
        return None
    # A column of bytes, as cv2.imencode returns it, but no picture.
    is_column = view.itemsize == 1 and view.nbytes in (view.shape or ())
    return view.tobytes() if is_column else None


def _is_missing(value: Any) -> bool:
    """Tell None, NaN, and the missing values of pandas and pyarrow."""
    if hasattr(value, "as_py"):
        value = value.as_py()
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def _is_pixels(image: Any) -> bool:
    """Tell an image of Pillow, and an array or a tensor of numbers."""
    if hasattr(image, "convert") and hasattr(image, "save"):
        return True
    if not hasattr(image, "dtype") or not hasattr(image, "shape"):
        return False
    return len(image.shape) > 1 or (len(image.shape) == 1 and "int" in str(image.dtype))


def _remedy(image: Any) -> str:
    """Say what to pass instead of an image that is not bytes."""
    if hasattr(image, "as_py"):
        image = image.as_py()
    if isinstance(image, (str, os.PathLike)):
        return f"read the file, Path({_short(image)}).read_bytes()"
    if isinstance(image, dict):
        return f"pass image[{'bytes' if 'bytes' in image else '…'!r}], the content of a file"
    if hasattr(image, "read"):
        return "pass file.read()"
    if hasattr(image, "convert") and hasattr(image, "save"):
        return _ENCODE.format("image.save(buffer, 'PNG')")
    if _is_pixels(image):
        return _ENCODE.format("PIL.Image.fromarray(array).save(buffer, 'PNG')")
    if hasattr(image, "__iter__"):
        return "pass one flat list of the contents of files"
    return "pass the content of a file, path.read_bytes()"


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _short(path: Any) -> str:
    return reprlib.repr(os.fspath(path))
