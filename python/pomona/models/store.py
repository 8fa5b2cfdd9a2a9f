"""Finds models: the folder that holds them, and the file that a name or a path stands for."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona._suggest import closest
from pomona.models.file_kinds import check_kind

if TYPE_CHECKING:
    from pomona._typing import PathLike

MODEL_SUFFIX = ".onnx"
#: The names that ``pull`` knows, the default first.
BUILT_IN_NAMES = ("mobilenet_v2", "efficientnet_lite0")
#: Ends the name of a model's int8 version.
NAME_SUFFIX = "_int8"
#: Photos that calibrate an int8 model. They take seconds, and more did not improve the result.
DEFAULT_PHOTOS = 100

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONVERTIBLE_SUFFIXES = (".h5", ".hdf5", ".keras")
_COPY_BUFFER = 1 << 20


def home() -> pathlib.Path:
    """Return the folder that holds pulled and converted models. It may not exist yet.

    Returns
    -------
    pathlib.Path
        ``$POMONA_HOME`` if set, else ``pomona`` in the user's cache folder
        (``$XDG_CACHE_HOME``, by default ``~/.cache``).
    """
    chosen = os.environ.get("POMONA_HOME")
    if chosen:
        return pathlib.Path(chosen).expanduser().absolute()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (cache if cache.is_absolute() else pathlib.Path("~/.cache").expanduser()) / "pomona"


def names() -> list[str]:
    """Return the names of the models in :func:`home`, sorted."""
    files = home().glob(f"[!.]*{MODEL_SUFFIX}")
    return sorted(path.stem for path in files if path.is_file())


def path_of(name: str) -> pathlib.Path:
    """Return the path of the model ``name`` in :func:`home`, whether it exists or not."""
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"{name!r} cannot be a model's name: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or a digit"
        )
    return home() / (name + MODEL_SUFFIX)


def output_path(output: PathLike | None, name: str | None) -> pathlib.Path:
    """Return the path to write a new model to: `output`, by default that of `name`."""
    if output is not None:
        path = pathlib.Path(output).expanduser().absolute()
        if path.suffix.lower() != MODEL_SUFFIX:
            raise ModelError(
                f"the output {os.fspath(output)!r} does not end in {MODEL_SUFFIX}; to store the "
                "model under a name, give the name and no output"
            )
        return path
    if name is None:
        raise ValueError("give an output file, or a name for the model (-o or --name)")
    path = path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def resolve(model: PathLike) -> str:
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
        If there is no such file. The message lists the models in :func:`home` and says how to get
        others.
    TypeError
        If `model` is neither a string nor a path.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"model must be a model's name or the path of an {MODEL_SUFFIX} file, not "
            + type(model).__name__
        )
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
        if path.suffix.lower() in _CONVERTIBLE_SUFFIXES:
            raise ModelError(
                f"{path} holds Keras weights, which Pomona cannot run. Convert them first: "
                f"pomona model convert {path} -o {path.with_suffix(MODEL_SUFFIX).name}"
            )
        check_kind(path)
        return str(path.absolute())
    if path.is_dir():
        raise ModelError(f"model {text!r} is a folder; expected an {MODEL_SUFFIX} file or a name")
    raise ModelError(_not_found(text, is_name=isinstance(model, str)))


def _not_found(text: str, *, is_name: bool) -> str:
    if "://" in text:
        return f"model {text!r} is a URI; expected a local {MODEL_SUFFIX} file or a model's name"
    if not is_name or os.sep in text or text.endswith(MODEL_SUFFIX):
        message = f"there is no model file {text!r}"
    else:
        message = f"there is no model named {text!r} in {home()}"
    similar = _similar(text, is_name=is_name)
    message += "." if similar is None else f"; did you mean {similar!r}?"
    wanted = text if similar is None else similar
    if wanted in BUILT_IN_NAMES and wanted not in names():
        message += f" Get it with: pomona model pull {wanted}."
        if names():
            message += " Or choose one of the models that are here."
    elif similar is None:
        pullable = " or ".join(f"`pomona model pull {name}`" for name in BUILT_IN_NAMES)
        message += (
            f" Give the path of an {MODEL_SUFFIX} file, get a model with {pullable}, "
            "or make one with `pomona model convert`."
        )
    message += f" {_listing()}"
    if not is_name and text in names():
        message += f" A path object always means a file; to use the stored model, pass {text!r}."
    return message


def _similar(text: str, *, is_name: bool) -> str | None:
    """Return the most similar name of a model, or else path of a model file."""
    folder, name = os.path.split(text)
    if is_name and not folder:
        similar = closest(text, {*names(), *BUILT_IN_NAMES} - {text})
        if similar is not None:
            return similar
    files = pathlib.Path(folder).expanduser().glob(f"*{MODEL_SUFFIX}")
    similar = closest(name, [path.name for path in files])
    return similar and os.path.join(folder, similar)  # noqa: PTH118 - a path without ./ keeps none


def _listing() -> str:
    return f"Models in {home()}: {', '.join(names()) or 'none'}."


def sha256_of(path: PathLike) -> str:
    """Return the SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with pathlib.Path(path).open("rb") as file:
        for block in iter(lambda: file.read(_COPY_BUFFER), b""):
            digest.update(block)
    return digest.hexdigest()
