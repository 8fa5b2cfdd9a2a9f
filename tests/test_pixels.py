"""Pixels are Pillow's: `Image.open(file).convert("RGB")`, then bicubic to the model's size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import pomona
from pomona import ImageError
from specimens import (
    HEIGHT,
    ORIENTATION_TAG,
    SPECIMENS,
    WIDTH,
    bmp_file,
    jpegs_with_restarts,
    picture,
    saved,
    turned,
)

MODEL_SIZE = (224, 224)
PILLOW = tuple(int(part) for part in Image.__version__.split(".")[:2])

# 16-bit grey is clipped, as in Pillow.
pytestmark = pytest.mark.filterwarnings("ignore:.*16-bit grey:pomona.ImageWarning")


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def pillow_resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Width, then height, in two calls.

    In one call Pillow did the same until 13.0, which begins with the height where that is less
    work (python-pillow/Pillow#9549). Rounding between the passes makes the order visible, and the
    published features come from the older order.
    """
    height, width = size
    image = Image.fromarray(pixels).resize((width, pixels.shape[0]), Image.BICUBIC)
    return np.asarray(image.resize((width, height), Image.BICUBIC))


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs)


def assert_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 2
    assert difference.mean() <= 0.01


@pytest.mark.parametrize("name", sorted(SPECIMENS))
def test_every_kind_of_file_decodes_to_the_pixels_of_pillow(name: str) -> None:
    assert_same(pomona.load_image(SPECIMENS[name]), pillow(SPECIMENS[name]))


@pytest.mark.parametrize("name", sorted(SPECIMENS))
def test_every_kind_of_file_resizes_to_the_pixels_of_pillow(name: str) -> None:
    ours = pomona.load_image(SPECIMENS[name], size=MODEL_SIZE)
    assert_same(ours, pillow_resized(pillow(SPECIMENS[name]), MODEL_SIZE))


@pytest.mark.skipif(PILLOW < (10, 2), reason="needs Pillow 10.2 to write restart markers")
def test_restart_markers_change_no_pixel() -> None:
    for _, data in jpegs_with_restarts():
        assert_same(pomona.load_image(data), pillow(data))


ODD_SIZES = [
    (1, 1),
    (1, 2),
    (2, 1),
    (7, 9),
    (8, 8),
    (17, 16),
    (223, 225),
    (224, 224),
    (1, 1000),
    (1000, 1),
    (3000, 17),
    (17, 3000),
    (1201, 799),
]


@pytest.mark.parametrize(("width", "height"), ODD_SIZES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_any_size_of_photo_comes_out_as_from_pillow(kind: str, width: int, height: int) -> None:
    data = saved(picture("RGB", width, height), kind)
    theirs = pillow(data)
    assert_same(pomona.load_image(data), theirs)
    assert_same(pomona.load_image(data, size=MODEL_SIZE), pillow_resized(theirs, MODEL_SIZE))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (96, 128), (331, 7), (HEIGHT, 9)])
def test_any_size_of_model_is_met_as_by_pillow(size: tuple[int, int]) -> None:
    data = SPECIMENS["JPEG: 420"]
    assert_same(pomona.load_image(data, size=size), pillow_resized(pillow(data), size))


def test_its_own_size_is_left_alone() -> None:
    data = SPECIMENS["PNG: RGB"]
    assert_same(pomona.load_image(data, size=(HEIGHT, WIDTH)), pomona.load_image(data))


SIDES = st.integers(1, 80)


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"]),
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA", "CMYK"]),
    width=SIDES,
    height=SIDES,
    seed=st.integers(0, 1000),
    to=st.tuples(SIDES, SIDES),
)
def test_whatever_pillow_writes_is_read_as_pillow_reads_it(
    kind: str, mode: str, width: int, height: int, seed: int, to: tuple[int, int]
) -> None:
    written_as = {
        "JPEG": {"1": "L", "P": "RGB", "RGBA": "RGB"},
        "PNG": {"CMYK": "RGB"},
        "WEBP": {"1": "L", "P": "RGB", "CMYK": "RGB"},
        "GIF": {"RGBA": "RGB", "CMYK": "RGB"},
        "BMP": {"CMYK": "RGB"},
        "TIFF": {"P": "RGB", "CMYK": "RGB"},
    }
    data = saved(picture(written_as[kind].get(mode, mode), width, height, seed), kind)
    theirs = pillow(data)
    assert_same(pomona.load_image(data), theirs)
    assert_same(pomona.load_image(data, size=to), pillow_resized(theirs, to))


@settings(deadline=None, max_examples=150)
@given(
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    width=SIDES,
    height=SIDES,
    quality=st.integers(1, 100),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    optimize=st.booleans(),
)
def test_any_jpeg_decodes_to_the_pixels_of_pillow(
    mode: str,
    width: int,
    height: int,
    quality: int,
    subsampling: int,
    progressive: bool,
    optimize: bool,
) -> None:
    data = saved(
        picture(mode, width, height),
        "JPEG",
        quality=quality,
        subsampling=subsampling,
        progressive=progressive,
        optimize=optimize,
    )
    assert_same(pomona.load_image(data), pillow(data))


def test_real_photos_come_out_as_from_pillow(real_photos: Path) -> None:
    paths = sorted(path for path in real_photos.rglob("*.jp*g"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        theirs = pillow(data)
        assert_same(pomona.load_image(data), theirs)
        ours = pomona.load_image(data, size=MODEL_SIZE)
        assert_close(ours, pillow_resized(theirs, MODEL_SIZE))


# What is not read.


def test_a_kind_that_is_not_read_says_which() -> None:
    with pytest.raises(ImageError, match=r"image 0: unsupported BMP: .*JPEG compression"):
        pomona.load_image(bmp_file(5, 6, 24, bytes(96), compression=4))


# EXIF

TURNED = ["JPEG", "PNG", "WEBP", "TIFF"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", TURNED)
def test_apply_exif_turns_a_photo_as_pillow_does(kind: str, orientation: int) -> None:
    data = turned(kind, orientation)
    plain = saved(picture(), kind)
    image = Image.open(io.BytesIO(plain)).convert("RGB")
    image.getexif()[ORIENTATION_TAG] = orientation
    theirs = np.asarray(ImageOps.exif_transpose(image))
    assert_same(pomona.load_image(data, apply_exif=True), theirs)
    resized = pomona.load_image(data, apply_exif=True, size=MODEL_SIZE)
    assert_same(resized, pillow_resized(theirs, MODEL_SIZE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", TURNED[:-1])
def test_the_default_leaves_a_photo_as_it_lies(kind: str, orientation: int) -> None:
    # A TIFF is always turned: see test_tiff.py.
    assert_same(pomona.load_image(turned(kind, orientation)), pillow(saved(picture(), kind)))


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    data = turned("JPEG", orientation)
    assert_same(pomona.load_image(data, apply_exif=True), pomona.load_image(data))
