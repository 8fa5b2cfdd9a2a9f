"""TIFFs of every kind are read as Pillow reads them, or refused by name."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from pomona import ImageError, load_image
from tiff_files import DEFLATE, HEIGHT, WIDTH, photo, samples, specimens, tiff

# Kinds that Pillow reads and Pomona refuses, with the reason.
REFUSED = {
    "RGB, LZMA": "LZMA compression",
}

# libtiff loses the alignment of rows that start at words, and reads noise.
BETTER = ("dithered, tiff_raw_16",)


def pillow(data: bytes) -> np.ndarray | None:
    """Return Pillow's pixels, or None if it does not read the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except (OSError, ValueError, SyntaxError):
            return None


def decoded(data: bytes, **options: bool) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(load_image(data, **options))


def test_pixels_are_pillows(capsys: pytest.CaptureFixture[str]) -> None:
    equal, different, only_pillow, only_pomona = [], [], {}, []
    for name, data in specimens():
        expected = pillow(data)
        try:
            pixels = decoded(data)
        except ImageError as error:
            if expected is not None:
                only_pillow[name] = str(error)
            continue
        if expected is None:
            only_pomona.append(name)
        elif pixels.shape == expected.shape and np.abs(pixels - expected.astype(int)).max() <= 2:
            equal.append(name)
        else:
            different.append(name)
    with capsys.disabled():
        print(
            f"\nTIFF: {len(equal)} equal, {len(different)} different, "
            f"{len(only_pillow)} only Pillow, {len(only_pomona)} only Pomona"
        )
    assert [name for name in different if not name.startswith(BETTER)] == []
    assert only_pillow.keys() == REFUSED.keys()
    for name, reason in REFUSED.items():
        assert f"unsupported TIFF: {reason}" in only_pillow[name]
    assert len(equal) > 750


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({259: 50000}, "Zstandard compression"),
        ({259: 34712}, "JPEG 2000 compression"),
        ({259: 6}, "old-style JPEG compression"),
        ({259: 12345}, "compression 12345"),
        ({262: 32803, 277: 1, 258: 8}, "colour filter array of unsigned integers of 8 bits"),
        ({262: 1, 277: 1, 258: 16, 339: 3}, "grey of floats of 16 bits"),
        ({258: [32, 32, 32]}, "RGB of unsigned integers of 32, 32, 32 bits"),
        ({262: 6}, "uncompressed YCbCr"),
        ({258: [8, 8]}, "3 samples of 2 depths"),
        ({339: [1, 1, 3]}, "samples of different formats"),
    ],
)
def test_unknown_kinds_are_named(tags: dict[int, object], reason: str) -> None:
    fixed = {256: WIDTH, 257: HEIGHT, 258: [8] * 3, 259: 1, 262: 2, 277: 3}
    data = tiff({**fixed, **tags}, [photo(3).tobytes()])
    with pytest.raises(ImageError, match=f"unsupported TIFF: {reason}"):
        load_image(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("apply_exif", [False, True])
def test_the_orientation_is_always_applied(orientation: int, apply_exif: bool) -> None:
    data = samples(photo(3), 2, orientation=orientation)
    upright = load_image(data, apply_exif=apply_exif)
    np.testing.assert_array_equal(upright, pillow(data))


def test_only_grey_that_is_clipped_has_a_warning() -> None:
    dark, bright = (samples(photo(1, "u2") >> shift, 1) for shift in (8, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(dark, strict=True)
    with pytest.warns(UserWarning, match="16-bit grey levels above 255 are clipped to 255"):
        load_image(bright)
    with pytest.raises(ImageError, match="16-bit grey levels above 255 are clipped to 255"):
        load_image(bright, strict=True)


@pytest.mark.parametrize("tags", [{"counts": [10] * 4}, {"counts": [1 << 20] * 4}])
def test_compressed_data_that_end_early_are_refused(tags: dict[str, list[int]]) -> None:
    data = samples(photo(3), 2, compression=DEFLATE, **tags)
    assert pillow(data) is None
    with pytest.raises(ImageError, match="truncated TIFF: strip or tile 0 is incomplete"):
        load_image(data)


def test_samples_that_end_early_are_refused() -> None:
    fixed = {256: WIDTH, 257: HEIGHT, 258: [8] * 3, 259: 1, 262: 2, 277: 3}
    data = tiff({**fixed, 273: 5000}, [photo(3).tobytes()])
    assert pillow(data) is None
    with pytest.raises(ImageError, match="truncated TIFF: strip or tile 0 is incomplete"):
        load_image(data)


def test_strips_that_are_missing_are_black_and_have_a_warning() -> None:
    fixed = {256: WIDTH, 257: HEIGHT, 258: [8] * 3, 259: 1, 262: 2, 277: 3, 278: 10}
    data = tiff(fixed, [photo(3)[:10].tobytes(), photo(3)[10:20].tobytes()])
    with pytest.warns(UserWarning, match="strips or tiles are missing"):
        pixels = load_image(data)
    np.testing.assert_array_equal(pixels, pillow(data))
    with pytest.raises(ImageError, match="strips or tiles are missing"):
        load_image(data, strict=True)
