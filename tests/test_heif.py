"""HEIC as pillow-heif reads it, and AVIF as Pillow reads it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

import pomona
from heif import MATRICES, ORIENTATIONS, SUBSAMPLINGS, TILE, deep, grid, saved, scene, tiled
from pomona import ImageError
from specimens import exif, picture

pytestmark = pytest.mark.skipif(
    not Image.__version__.startswith("12."), reason="needs Pillow 12, the reference"
)

#: Levels by which a value may differ from the reference's.
TOLERANCE = 2
KINDS = ("HEIF", "AVIF")
QUALITIES = (30, 80, 95)


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def assert_read_alike(data: bytes, expected: np.ndarray | None = None, **options: Any) -> None:
    ours = pomona.load_image(data, **options)
    theirs = pillow(data) if expected is None else expected
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(np.int16) - theirs).max() <= TOLERANCE


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_of_the_reference(kind: str, subsampling: str, quality: int) -> None:
    for size in ((160, 120), (161, 119)):
        assert_read_alike(saved(scene(*size), kind, subsampling=subsampling, quality=quality))


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA"])
@pytest.mark.parametrize("kind", KINDS)
def test_grey_and_alpha_are_read(kind: str, mode: str) -> None:
    assert_read_alike(saved(scene().convert(mode), kind))


def test_a_grey_avif_is_read() -> None:
    assert_read_alike(saved(scene(), "AVIF", subsampling="4:0:0", range="limited"))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_follow_the_matrix_and_the_range(matrix: int, full: bool) -> None:
    options = {"matrix_coefficients": matrix, "full_range_flag": int(full)}
    assert_read_alike(saved(scene(), "HEIF", subsampling="4:4:4", **options))
    assert_read_alike(saved(scene(), "HEIF", **options))
    assert_read_alike(saved(scene(), "AVIF", range="full" if full else "limited"))


@pytest.mark.parametrize("twelve", [False, True])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_heic_of_more_than_8_bits_is_read(
    subsampling: str, twelve: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillow_heif.options, "SAVE_HDR_TO_12_BIT", twelve)
    assert_read_alike(deep(scene(), quality=80, subsampling=subsampling))


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_of_tiles_is_one_image(kind: str) -> None:
    photo = tiled(kind, 122, 100)
    assert_read_alike(photo)
    with pytest.raises(ImageError, match="too large: 122 x 100"):
        pomona.load_image(photo, max_pixels=122 * 100 - 1)


def test_a_heic_grid_without_its_last_tiles_is_read_with_a_warning() -> None:
    tiles = [saved(scene(TILE, TILE), "HEIF")] * 4
    photo = grid(tiles, 2, 2, width=128, height=128)
    for missing in (1, 2):
        cut = photo[: len(photo) - len(photo) // 5 * missing]
        with pytest.warns(pomona.ImageWarning, match=r"\d of 4 tiles of the image are missing"):
            assert_read_alike(cut)
        with pytest.raises(ImageError, match="cut short"):
            pomona.load_image(cut, strict=True)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("size", [(160, 120), (161, 119)])
def test_heic_is_turned_and_avif_if_asked_for(size: tuple[int, int], orientation: int) -> None:
    heic = saved(scene(*size), "HEIF", exif=exif(orientation))
    for apply_exif in (False, True):
        assert_read_alike(heic, apply_exif=apply_exif)
    avif = saved(scene(*size), "AVIF", exif=exif(orientation))
    assert_read_alike(avif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(avif)))
    assert_read_alike(avif, np.asarray(upright.convert("RGB")), apply_exif=True)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_starts_no_thread(kind: str) -> None:
    photo = saved(scene(1000, 700), kind)
    threads = len(list(Path("/proc/self/task").iterdir()))
    pomona.load_image(photo)
    assert len(list(Path("/proc/self/task").iterdir())) == threads


@pytest.mark.parametrize("quality", QUALITIES)
def test_premultiplied_colours_of_an_avif_are_divided_by_their_alpha(quality: int) -> None:
    data = saved(picture("RGBA"), "AVIF", quality=quality, alpha_premultiplied=True)
    reference = np.asarray(Image.open(io.BytesIO(data)))
    difference = np.abs(pomona.load_image(data).astype(int) - reference[..., :3])
    # A level of the colour or of alpha before the division is up to 255 / alpha levels after it.
    alpha = np.maximum(reference[..., 3:], 1)
    assert (difference <= TOLERANCE + 2 * 255 / alpha).all()
    assert difference.mean() < 1


def test_a_coded_picture_may_be_larger_than_its_blocks_need() -> None:
    data = saved(scene(66, 66), "HEIF")
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    # The conformance window of a picture of 72 x 72: 3 pairs of pixels less at the right and at the
    # bottom. With 4 pairs less, the image has exactly one block.
    three, four = "00100", "00101"
    window = f"11{three}1{three}"
    at = bits.index(window, 8 * data.index(b"hvcC"))
    bits = bits[:at] + f"11{four}1{four}" + bits[at + len(window) :]
    cropped = bytearray(int(bits, 2).to_bytes(len(data), "big"))
    size = data.index(b"ispe") + 8
    cropped[size : size + 8] = (64).to_bytes(4, "big") * 2
    expected = pillow(bytes(cropped))
    assert expected.shape == (64, 64, 3)
    difference = np.abs(pomona.load_image(bytes(cropped)).astype(int) - expected)
    assert difference.max() <= TOLERANCE
