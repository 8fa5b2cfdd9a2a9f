"""Every photo is read as Pillow 12 reads it, whatever its format's encoder did."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pomona
from against_pillow import DIFFERENT, EQUAL, NEITHER, ONLY_PILLOW, compare, files, table
from specimens import exif, picture, png_chunk, png_file, png_rows, saved
from suites import END, SUITES, gif, gif_frame, png, webp, webp_chunk, webp_extended

# Pillow 13 reads runs of 4 bits in a BMP differently.
pytestmark = pytest.mark.skipif(
    not Image.__version__.startswith("12."), reason="needs Pillow 12, the reference"
)
CORPUS = Path(__file__).parents[1] / "target/corpus/images"


@pytest.mark.parametrize("kind", sorted(SUITES))
def test_a_suite_of_odd_files_is_read_and_refused_as_by_pillow(kind: str) -> None:
    compared = [compare(f"{kind}: {name}", data) for name, data in SUITES[kind].items()]
    print(table(compared))
    assert {found.format for found in compared} == {kind}
    assert [found for found in compared if found.outcome not in (EQUAL, NEITHER)] == []
    read = sum(found.outcome == EQUAL for found in compared)
    assert read > 0.8 * len(compared)


def test_the_images_of_pillows_own_tests_are_read_as_by_pillow() -> None:
    if not CORPUS.is_dir():
        pytest.skip("needs Pillow's test images: make corpus")
    compared = [compare(path.name, path.read_bytes()) for path in files([CORPUS])]
    print(table(compared))
    unlike = [found for found in compared if found.outcome in (ONLY_PILLOW, DIFFERENT)]
    equal = [found for found in compared if found.outcome == EQUAL]
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        assert [found for found in unlike if found.format == kind] == []
        assert [found for found in equal if found.format == kind]
    for kind, least in {"TIFF": 0.95, "AVIF": 0.8}.items():
        right, wrong = (
            [each for each in found if each.format == kind] for found in (equal, unlike)
        )
        assert len(right) >= least * (len(right) + len(wrong)), wrong


def test_a_folder_is_compared_format_by_format(tmp_path: Path) -> None:
    (tmp_path / "nested").mkdir()
    (tmp_path / "nested" / "photo.png").write_bytes(saved(picture(), "PNG"))
    (tmp_path / "cut.gif").write_bytes(saved(picture("P"), "GIF")[:99])
    (tmp_path / "icon.ico").write_bytes(saved(picture(), "ICO"))
    compared = [compare(path.name, path.read_bytes()) for path in files([tmp_path])]
    assert [(found.name, found.format, found.outcome) for found in compared] == [
        ("cut.gif", "GIF", "neither"),
        ("icon.ico", "ICO", "only Pillow"),
        ("photo.png", "PNG", "equal"),
    ]
    header, *lines = table(compared).splitlines()
    assert " ".join(header.split()) == "format equal only Pillow only Pomona different neither"
    assert [line.split() for line in lines] == [
        ["GIF", "0", "0", "0", "0", "1"],
        ["ICO", "0", "1", "0", "0", "0"],
        ["PNG", "1", "0", "0", "0", "0"],
    ]


# Warnings


def grey(levels: np.ndarray) -> bytes:
    return png_file(*levels.shape[::-1], 16, 0, png_rows(levels.astype(">u2")))


DAMAGED = {
    "rows are missing": (png(2, 8, rows=9), "a part of the picture is missing"),
    "16-bit grey is clipped": (grey(np.arange(250, 270).reshape(4, 5)), "16-bit grey"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_wrong_with_the_pixels_is_a_warning_and_strictly_an_error(name: str) -> None:
    data, warning = DAMAGED[name]
    with pytest.warns(pomona.ImageWarning, match=warning):
        pixels = pomona.load_image(data)
    np.testing.assert_array_equal(pixels, Image.open(io.BytesIO(data)).convert("RGB"))
    with pytest.raises(pomona.ImageError, match=warning):
        pomona.load_image(data, strict=True)


HARMLESS = {
    "PNG without IEND": png(2, 8)[:-12],
    "PNG with bytes after its end": png(2, 8) + b"\n<html>",
    "PNG of 16-bit grey below 256": grey(np.arange(236, 256).reshape(4, 5)),
    "GIF without a trailer": gif((20, 15), gif_frame(20, 15))[:-1],
    "GIF with bytes after its end": gif((20, 15), gif_frame(20, 15)) + b"<html>",
    "WebP with bytes after its end": saved(picture(), "WEBP") + b"<html>",
    "BMP with bytes after its end": saved(picture(), "BMP") + b"<html>",
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_harmless_is_not_mentioned(name: str) -> None:
    data = HARMLESS[name]
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(pomona.load_image(data, strict=True), theirs)


# Orientation

XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
PROFILE = "\nexif\n{:8}\n{}\n"


def profile(raw: bytes) -> bytes:
    """EXIF as a text, in lines of 72 digits."""
    digits = raw.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return PROFILE.format(len(raw), "\n".join(lines)).encode()


def turned_files() -> dict[str, bytes]:
    tiff = exif(6)[6:]
    image = saved(picture("RGB", 20, 10), "WEBP")[12:]
    raw = b"Raw profile type exif\0"
    itxt = b"XML:com.adobe.xmp\0"
    return {
        "eXIf": png(2, 8, before=[png_chunk(b"eXIf", tiff)]),
        "eXIf after the pixels": png(2, 8, after=[png_chunk(b"eXIf", tiff), END]),
        "eXIf with a prefix": png(2, 8, before=[png_chunk(b"eXIf", exif(6))]),
        "tEXt": png(2, 8, before=[png_chunk(b"tEXt", raw + profile(exif(6)))]),
        "zTXt": png(2, 8, after=[png_chunk(b"zTXt", raw + b"\0" + zlib.compress(profile(tiff)))]),
        "iTXt": png(2, 8, before=[png_chunk(b"iTXt", itxt + b"\0\0\0\0" + XMP)]),
        "compressed iTXt": png(
            2, 8, before=[png_chunk(b"iTXt", itxt + b"\1\0\0\0" + zlib.compress(XMP))]
        ),
        "EXIF": webp(webp_extended(20, 10, 8), image, webp_chunk(b"EXIF", tiff)),
        "EXIF with a prefix": webp(webp_extended(20, 10, 8), webp_chunk(b"EXIF", exif(6)), image),
        "XMP": webp(webp_extended(20, 10, 4), image, webp_chunk(b"XMP ", XMP)),
        "EXIF that is not announced": webp(webp_extended(20, 10), image, webp_chunk(b"EXIF", tiff)),
    }


TURNED = turned_files()


@pytest.mark.parametrize("name", TURNED)
def test_the_orientation_is_the_one_that_pillow_finds(name: str) -> None:
    data = TURNED[name]
    image = Image.open(io.BytesIO(data))
    image.load()
    turned = image.getexif().get(0x0112) == 6
    assert turned == (name != "EXIF that is not announced")
    expected = image.convert("RGB")
    if turned:
        expected = expected.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(pomona.load_image(data, apply_exif=True), expected)


# Limits


def test_a_frame_that_enlarges_its_canvas_counts_against_the_limit() -> None:
    data = gif((1, 1), gif_frame(20, 10))
    assert pomona.load_image(data, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(pomona.ImageError, match="too large: 20 x 10"):
        pomona.load_image(data, max_pixels=199)


def test_a_small_bmp_of_runs_needs_no_more_memory_than_its_pixels() -> None:
    side = struct.pack("<ii", 8, 3)
    data = bytearray(SUITES["BMP"]["deltas over rows, gap 0"])
    assert data[18:26] == side
    struct.pack_into("<ii", data, 18, 1 << 16, 1)
    with pytest.raises(pomona.ImageError, match="too large"):
        pomona.load_image(bytes(data), max_pixels=1 << 15)
    np.testing.assert_array_equal(
        pomona.load_image(bytes(data)), Image.open(io.BytesIO(data)).convert("RGB")
    )
