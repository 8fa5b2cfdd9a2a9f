"""The finished wheel: its content, its requirements, and that every Python runs it."""

from __future__ import annotations

import io
import re
import subprocess
import zipfile
from email.parser import HeaderParser
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Callable

import numpy as np
import pytest

import photos
import pomona
from elf_needs import new_symbols, version_needs

ROOT = Path(__file__).resolve().parents[1]
FIND_PYTHON = ROOT / "python" / "tools" / "find_python.sh"
EMR_PYTHON = "3.7"
PYTHONS = [EMR_PYTHON, "3.8", "3.9", "3.10", "3.11", "3.12", "3.13"]
# Compressed, ONNX Runtime has 8 MB and the extension 4 MB. Twice that means unwanted files.
MAX_WHEEL_BYTES = 20_000_000

FEATURISE = """
import sys, pomona
photo = open(sys.argv[2], "rb").read()
features = pomona.Featurizer(sys.argv[1]).featurize([photo])
extra = sorted({"onnx", "pandas", "pyarrow", "pyspark", "PIL"} & set(sys.modules))
assert not extra, extra
print(features.tobytes().hex())
"""


def pythons_here() -> dict[str, str]:
    found = {}
    for wanted in PYTHONS:
        search = subprocess.run([FIND_PYTHON, wanted], capture_output=True, text=True, check=False)
        if search.returncode == 0:
            found[wanted] = search.stdout.strip()
    return found


PYTHONS_HERE = pythons_here()


@pytest.fixture(scope="module")
def wheel() -> Path:
    name = f"pomona-{version('pomona')}-cp37-abi3-manylinux_2_24_x86_64.whl"
    path = ROOT / "target" / "wheels" / name
    assert path.exists(), f"{path} is missing: run `make wheel`"
    return path


@pytest.fixture(scope="module")
def libraries(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: archive.read(name)
            for name in archive.namelist()
            if Path(name).suffix == ".so" or ".so." in Path(name).name
        }


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    return {key: headers.get_all(key, []) for key in headers}


def test_the_wheel_holds_the_extension_and_one_onnx_runtime(libraries: dict[str, bytes]):
    assert sorted(libraries) == ["pomona/_native.abi3.so", "pomona/lib/libonnxruntime.so.1.24.4"]


def test_no_library_needs_a_newer_glibc_or_libstdcxx_than_emr_has(libraries: dict[str, bytes]):
    too_new = [
        (name, need)
        for name, library in libraries.items()
        for need in version_needs(io.BytesIO(library))
        if need.is_too_new()
    ]
    assert too_new == []


def test_no_library_has_a_symbol_that_only_recent_headers_make(libraries: dict[str, bytes]):
    found = {name: new_symbols(io.BytesIO(library)) for name, library in libraries.items()}
    assert not any(found.values()), found


def test_the_check_of_needs_sees_the_official_onnx_runtime_as_too_new():
    folder = Path(str(distribution("onnxruntime").locate_file("onnxruntime/capi")))
    (library,) = folder.glob("onnxruntime_pybind11_state*.so")
    with library.open("rb") as file:
        too_new = {need.name for need in version_needs(file) if need.is_too_new()}
    assert "GLIBC_2.27" in too_new


def test_the_wheel_says_what_it_is(wheel: Path, metadata: dict[str, list[str]]):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        tags = HeaderParser().parsestr(archive.read(name).decode()).get_all("Tag")
    assert tags == ["cp37-abi3-manylinux_2_24_x86_64"]
    assert metadata["Requires-Python"] == [">=3.7"]
    assert metadata["License-Expression"] == ["Apache-2.0"]


def test_only_numpy_is_required_and_pyspark_never(metadata: dict[str, list[str]]):
    required = [line for line in metadata["Requires-Dist"] if "extra ==" not in line]
    assert [re.match(r"[\w.-]+", line).group() for line in required] == ["numpy"]
    assert not [line for line in metadata["Requires-Dist"] if "pyspark" in line.lower()]


def test_every_licence_of_what_is_inside_comes_along(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert b"Microsoft" in archive.read("pomona/lib/onnxruntime-LICENSE")
        assert b"Eigen" in archive.read("pomona/lib/onnxruntime-ThirdPartyNotices.txt")
        crates = archive.read("pomona/lib/rust-crates-LICENSES.txt").decode()
    for crate, holder in [("re_rav1d", "VideoLAN"), ("turbojpeg-sys", "Independent JPEG Group")]:
        assert re.search(rf"^{crate} [\d.]+: ", crates, re.MULTILINE)
        assert holder in crates
    assert [name for name in names if re.search(r"dist-info/licenses/LICENSE$", name)]


def test_the_wheel_is_small_enough_to_send_to_every_node(
    wheel: Path, libraries: dict[str, bytes], capsys: pytest.CaptureFixture[str]
):
    size = wheel.stat().st_size
    parts = ", ".join(f"{name} {len(library):,}" for name, library in sorted(libraries.items()))
    with capsys.disabled():
        print(f"\n{wheel.name}: {size:,} bytes ({parts})")
    assert size <= MAX_WHEEL_BYTES


@pytest.fixture(scope="module", autouse=True)
def _miss_no_python_of_emr(say_loudly: Callable[[str], None]) -> None:
    if EMR_PYTHON not in PYTHONS_HERE:
        oldest = next(iter(PYTHONS_HERE), "none")
        say_loudly(f"no Python {EMR_PYTHON} here; the oldest the wheel was tried on is {oldest}")


@pytest.mark.parametrize("python", PYTHONS_HERE.values(), ids=PYTHONS_HERE)
def test_a_clean_environment_featurises_a_photo(
    python: str, wheel: Path, tiny_model: Path, tmp_path: Path
):
    photo = tmp_path / "photo.jpg"
    photos.photo(photos.FRUITS["Apple Red"], series=0, angle=15, size=100, seed=0).save(photo)
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    clean = tmp_path / "venv" / "bin" / "python"
    install = [clean, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--only-binary", ":all:", wheel], check=True)

    run = subprocess.run(
        [clean, "-W", "error", "-c", FEATURISE, tiny_model, photo],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    features = np.frombuffer(bytes.fromhex(run.stdout), np.float32)
    np.testing.assert_array_equal(
        features, pomona.Featurizer(tiny_model).featurize([photo.read_bytes()])[0]
    )


def test_the_command_is_installed_with_the_wheel(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/entry_points.txt"))
        assert "pomona=pomona.cli:main" in archive.read(name).decode().replace(" ", "")
