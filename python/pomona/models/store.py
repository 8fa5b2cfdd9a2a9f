"""The folder that models live in, and how a name or a path becomes a file in it."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re

from pomona._errors import ModelError

MODEL_SUFFIX = ".onnx"
BUILT_IN_NAMES = ("mobilenet_v2", "efficientnet_lite0")
"""The names that ``pull`` knows, the default first."""
NAME_SUFFIX = "_int8"
"""What the name of a model's int8 version gets, so that it stands beside the float32 one."""
DEFAULT_PHOTOS = 100
"""Photos that calibrate an int8 model; they take seconds, and more of them changed nothing."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONVERTIBLE_SUFFIXES = (".h5", ".hdf5", ".keras")
_COPY_BUFFER = 1 << 20


def home() -> pathlib.Path:
    """Return the folder that pulled and converted models live in. It may not exist yet.

    Returns
    -------
    pathlib.Path
        ``$POMONA_HOME`` if set, else ``pomona`` in the user's cache folder
        (``$XDG_CACHE_HOME``, by default ``~/.cache``).
    """
    chosen = os.environ.get("POMONA_HOME")
    if chosen:
        return pathlib.Path(chosen).expanduser().absolute()
    # The XDG specification: a relative path there is invalid and to be ignored.
    cache = os.environ.get("XDG_CACHE_HOME", "")
    base = (
        pathlib.Path(cache)
        if pathlib.PurePath(cache).is_absolute()
        else pathlib.Path("~/.cache").expanduser()
    )
    return base / "pomona"


def names() -> list[str]:
    """Return the names of the models in :func:`home`, sorted."""
    folder = home()
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix == MODEL_SUFFIX and path.is_file())
    return sorted(path.stem for path in found if not path.name.startswith("."))


def path_of(name: str) -> pathlib.Path:
    """Return where the model ``name`` lives in :func:`home`, whether it is there or not.

    Raises
    ------
    ModelError
        If ``name`` cannot be a model's name.
    """
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} cannot be a model's name: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    return home() / (name + MODEL_SUFFIX)


def resolve(model: str | os.PathLike[str]) -> str:
    """Find a model's file.

    Parameters
    ----------
    model : str or os.PathLike
        A name in :func:`home`, such as ``"mobilenet_v2"``, or a path to an ``.onnx`` file.

    Returns
    -------
    str
        The absolute path of the file.

    Raises
    ------
    ModelError
        If there is no such file; the message says what is there and how to get the model.
    """
    text = os.fsdecode(model)
    if not text:
        raise ModelError(f"the model's name is empty. {_listing()}")
    if isinstance(model, str) and _NAME.fullmatch(text):
        for name in (text, text[: -len(MODEL_SUFFIX)] if text.endswith(MODEL_SUFFIX) else text):
            stored = home() / (name + MODEL_SUFFIX)
            if stored.is_file() and not (name != text and pathlib.Path(text).is_file()):
                return str(stored)
    path = pathlib.Path(text).expanduser()
    if path.is_file():
        _refuse_weights(path)
        return str(path.absolute())
    if path.is_dir():
        raise ModelError(f"model {text!r} is a folder; expected an {MODEL_SUFFIX} file or a name")
    message = _not_found(text, is_name=isinstance(model, str))
    if not isinstance(model, str) and text in names():
        message += (
            f" A path is always a file; the model of that name is meant by the text {text!r}."
        )
    raise ModelError(message)


def _refuse_weights(path: pathlib.Path) -> None:
    if path.suffix.lower() in _CONVERTIBLE_SUFFIXES:
        raise ModelError(
            f"{path} holds Keras weights, not a model that Pomona runs. Convert it first: "
            f"pomona model convert {path} -o {path.with_suffix(MODEL_SUFFIX).name}"
        )


def _not_found(text: str, is_name: bool) -> str:
    if "://" in text:
        return f"model {text!r} is a URI; expected a local {MODEL_SUFFIX} file or a model's name"
    if not is_name or os.sep in text or text.endswith(MODEL_SUFFIX):
        message = f"there is no model file {text!r}."
    else:
        message = f"there is no model named {text!r} in {home()}."
    if text in BUILT_IN_NAMES:
        message += f" Get it with: pomona model pull {text}."
    else:
        pullable = " or ".join(f"`pomona model pull {name}`" for name in BUILT_IN_NAMES)
        message += (
            f" Give the path of an {MODEL_SUFFIX} file, get a model with {pullable}, "
            "or make one with `pomona model convert`."
        )
    return f"{message} {_listing()}"


def _listing() -> str:
    return f"Models in {home()}: {', '.join(names()) or 'none'}."


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with pathlib.Path(path).open("rb") as file:
        for block in iter(lambda: file.read(_COPY_BUFFER), b""):
            digest.update(block)
    return digest.hexdigest()
