"""JPEGs of cameras and phones are read as Pillow reads them, and damage is a warning."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import pomona
from phone_photos import MP4, SEFT, ultra_hdr, xmp_segment
from pomona import Featurizer, ImageError, ImageWarning
from specimens import (
    ORIENTATION_TAG,
    after_start,
    jpeg_frame,
    jpeg_segment,
    noise,
    picture,
    saved,
)

SIDE = 64
START, END, SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
DAMAGED = "parts of the picture are damaged or missing"
TRUNCATED = "truncated JPEG: it ends before"
TURNS = range(2, 9)


def jpeg(mode: str = "RGB", side: int = SIDE, **options: object) -> bytes:
    return saved(picture(mode, side, side), "JPEG", **options)


WHOLE = jpeg(quality=90)
PROGRESSIVE = jpeg(quality=90, progressive=True)
# With restart markers. Pillow's option of that name needs Pillow 10.2.
RESTARTED = jpeg(quality=90, restart_marker_rows=1)
KINDS = {"baseline": WHOLE, "progressive": PROGRESSIVE, "restart markers": RESTARTED}


def before_scan(data: bytes, *segments: bytes) -> bytes:
    """Insert segments before the header of the first scan."""
    at = data.index(SCAN)
    return data[:at] + b"".join(segments) + data[at:]


def scans(data: bytes) -> list[int]:
    """Return the offsets of the headers of all scans."""
    return [at for at in range(len(data)) if data[at : at + 2] == SCAN]


def data_of_scan(data: bytes) -> tuple[int, int]:
    """Return the offsets of the start and the end of the data of a JPEG's only scan."""
    header = data.index(SCAN) + 2
    return header + struct.unpack_from(">H", data, header)[0], len(data) - len(END)


def pillow(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def read_silently(data: bytes) -> np.ndarray:
    """Read a photo by every door; nothing may be said about it, not even strictly."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = pomona.load_image(data, strict=True)
        np.testing.assert_array_equal(pomona.load_image(data), pixels)
    return pixels


def read_with_warning(data: bytes, model: Path) -> tuple[np.ndarray, str]:
    """Read a damaged photo, which strict=True refuses for the reason of the warning."""
    with pytest.warns(ImageWarning) as caught:
        pixels = pomona.load_image(data)
    (warning,) = caught
    reason = str(warning.message).replace("image 0: ", "")
    batch = Featurizer(model).try_featurize([data, WHOLE])
    assert batch.errors == [None, None]
    assert batch.warnings == [reason, None]
    with pytest.raises(ImageError, match=DAMAGED) as refused:
        pomona.load_image(data, strict=True)
    assert reason in refused.value.reason
    strict = Featurizer(model, strict=True).try_featurize([data, WHOLE])
    assert [error is None for error in strict.errors] == [False, True]
    assert strict.errors[0].kind == "image"
    assert np.isnan(strict.features[0]).all()
    assert strict.warnings == [None, None]
    return pixels, reason


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        pomona.load_image(data)
    return caught.value.reason


# What phones append.

TRAILERS = {
    "Samsung's SEFT": SEFT,
    "a motion photo's video": MP4,
    "a motion photo with SEFT": MP4 + SEFT,
    "another JPEG": jpeg("L", 24),
    "a cut JPEG": WHOLE[: len(WHOLE) // 2],
    "zeros": bytes(4096),
    "ones": b"\xff" * 64,
    "a newline": b"\r\n",
    "a byte": b"\0",
    "a start marker": START,
    "more end markers": END * 3,
    "a segment that is cut": b"\xff\xe1\xff\xff",
    "text": b"<!-- served by cache 7 -->",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trailer", TRAILERS)
def test_bytes_after_the_end_are_not_mentioned(kind: str, trailer: str) -> None:
    data = KINDS[kind] + TRAILERS[trailer]
    np.testing.assert_array_equal(read_silently(data), pillow(data))


def test_the_first_picture_of_an_mpo_is_the_photo() -> None:
    pages = [picture(width=SIDE, height=SIDE, seed=seed) for seed in (1, 2)]
    data = saved(pages[0], "MPO", save_all=True, append_images=pages[1:], quality=90)
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_array_equal(read_silently(data), pillow(saved(pages[0], "JPEG", quality=90)))


def test_a_gain_map_is_not_part_of_the_photo() -> None:
    data = ultra_hdr(WHOLE, gain_map=jpeg("L", SIDE // 4))
    assert Image.open(io.BytesIO(data))._getmp()[0xB001] == 2, "pictures"
    np.testing.assert_array_equal(read_silently(data), pillow(WHOLE))


# The end marker.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rest", [b"", b"\xff", b"\xff" * 20, b"\r\n", b"\0", SEFT, bytes(4096)])
def test_the_end_marker_may_be_missing(kind: str, rest: bytes) -> None:
    """Pillow refuses some of these, depending on where its buffers end."""
    data = KINDS[kind]
    np.testing.assert_array_equal(read_silently(data[: -len(END)] + rest), pillow(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.97])
def test_a_cut_photo_is_truncated(kind: str, share: float) -> None:
    data = KINDS[kind]
    start = data.index(SCAN)
    cut = data[: start + 14 + int((len(data) - start - 16) * share)]
    assert TRUNCATED in refusal(cut)
    with pytest.raises(OSError, match="truncated"):
        pillow(cut)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("to_full_length", [True, False])
def test_zeros_do_not_complete_a_cut_photo(
    share: float, to_full_length: bool, tiny_model: Path
) -> None:
    """Interrupted copies are filled with zeros, which libjpeg and Pillow take for data."""
    start, end = data_of_scan(WHOLE)
    cut = WHOLE[: start + int((end - start) * share)]
    data = cut + bytes(len(WHOLE) - len(cut) if to_full_length else 9000)
    pixels, reason = read_with_warning(data, tiny_model)
    assert reason == f"{DAMAGED} (zeros take the place of the last ones)"
    # Pillow refuses some of these, depending on where its buffers end.
    with contextlib.suppress(OSError):
        np.testing.assert_array_equal(pixels, pillow(data))


# Damage before the end marker.


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_early_end_marker_is_damage(share: float, tiny_model: Path) -> None:
    start, end = data_of_scan(WHOLE)
    cut = WHOLE[: start + int((end - start) * share)]
    pixels, reason = read_with_warning(cut + END, tiny_model)
    np.testing.assert_array_equal(pixels, pillow(cut + END))
    assert reason == f"{DAMAGED} (premature end of data segment)"


@pytest.mark.parametrize("marker", [b"\xff\xd9", b"\xff\xd3", b"\xff\xe5"])
def test_a_marker_in_the_data_is_damage(marker: bytes, tiny_model: Path) -> None:
    """The last one looks like a segment, whose length leads beyond the end marker."""
    start, end = data_of_scan(WHOLE)
    at = (start + end) // 2
    data = WHOLE[:at] + marker + WHOLE[at + len(marker) :]
    pixels, _ = read_with_warning(data, tiny_model)
    np.testing.assert_array_equal(pixels, pillow(data))


def test_a_missing_restart_interval_is_damage(tiny_model: Path) -> None:
    second, third = (RESTARTED.index(bytes([0xFF, 0xD0 + number])) for number in (0, 1))
    data = RESTARTED[:second] + RESTARTED[third:]
    pixels, reason = read_with_warning(data, tiny_model)
    np.testing.assert_array_equal(pixels, pillow(data))
    assert reason.startswith(DAMAGED)


def test_missing_scans_of_a_progressive_photo_are_damage(tiny_model: Path) -> None:
    """libjpeg and Pillow show what the other scans give."""
    offsets = scans(PROGRESSIVE)
    assert len(offsets) > 4
    for at in offsets[1:]:
        # The tables of a scan precede it; without the scan they mean nothing.
        data = PROGRESSIVE[:at] + END
        pixels, reason = read_with_warning(data, tiny_model)
        np.testing.assert_array_equal(pixels, pillow(data))
        assert reason == f"{DAMAGED} (scans are missing)"
        assert TRUNCATED in refusal(PROGRESSIVE[:at])


def in_three_scans() -> bytes:
    """A sequential JPEG whose three components have a scan each."""
    planes = [
        saved(Image.fromarray(noise(SIDE, SIDE, 1, seed)[..., 0]), "JPEG") for seed in (1, 2, 3)
    ]
    frame = jpeg_frame(planes[0])
    components = b"".join(bytes([name, 0x11, 0]) for name in (1, 2, 3))
    header = jpeg_segment(0xC0, planes[0][frame : frame + 5] + b"\x03" + components)
    tables = planes[0].index(b"\xff\xc4")
    data = planes[0][: frame - 4] + header + planes[0][tables : planes[0].index(SCAN)]
    for name, plane in zip((1, 2, 3), planes):
        start, end = data_of_scan(plane)
        data += jpeg_segment(0xDA, bytes([1, name, 0, 0, 63, 0])) + plane[start:end]
    return data + END


def test_a_missing_colour_is_damage(tiny_model: Path) -> None:
    whole = in_three_scans()
    np.testing.assert_array_equal(read_silently(whole), pillow(whole))
    for at in scans(whole)[1:]:
        data = whole[:at] + END
        pixels, reason = read_with_warning(data, tiny_model)
        np.testing.assert_array_equal(pixels, pillow(data))
        assert reason == f"{DAMAGED} (scans are missing)"


# Oddities of the header.

ICC_OUT_OF_ORDER = jpeg_segment(0xE2, b"ICC_PROFILE\0\x05\x03" + bytes(20))
ODD_HEADERS = {
    "an unknown version of JFIF": WHOLE[:11] + b"\x09" + WHOLE[12:],
    "an ICC marker out of order": after_start(WHOLE, ICC_OUT_OF_ORDER),
    "an unknown Adobe transform": after_start(
        WHOLE, jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\x07")
    ),
    "bytes before a marker": before_scan(WHOLE, b"\x00\x11\x22"),
    "fill bytes": before_scan(WHOLE, b"\xff" * 5),
    "two of them": after_start(before_scan(WHOLE, b"\x11"), ICC_OUT_OF_ORDER),
    "bytes before the end marker": WHOLE[: -len(END)] + b"\x11" * 5 + END,
    "EXIF that is cut": after_start(WHOLE, jpeg_segment(0xE1, b"Exif\0\0II*\0")),
    "a thumbnail": after_start(WHOLE, jpeg_segment(0xE1, b"Exif\0\0" + WHOLE[: len(WHOLE) // 2])),
}


@pytest.mark.parametrize("oddity", ODD_HEADERS)
def test_an_odd_header_is_not_mentioned(oddity: str) -> None:
    data = ODD_HEADERS[oddity]
    np.testing.assert_array_equal(read_silently(data), pillow(data))


@pytest.mark.parametrize("oddity", ["an ICC marker out of order", "bytes before a marker"])
def test_an_odd_header_does_not_hide_damage(oddity: str, tiny_model: Path) -> None:
    data = ODD_HEADERS[oddity]
    data = data[: len(data) - 300] + END
    pixels, reason = read_with_warning(data, tiny_model)
    np.testing.assert_array_equal(pixels, pillow(data))
    assert reason == f"{DAMAGED} (premature end of data segment)"


# Orientation.


def exif_segment(orientation: int, order: str, kind: str = "H") -> bytes:
    """EXIF of one tag, as SHORT ("H") or LONG ("I"), in the byte order "<" or ">"."""
    code = {"H": 3, "I": 4}[kind]
    value = struct.pack(order + kind, orientation).ljust(4, b"\0")
    tag = struct.pack(order + "HHI", ORIENTATION_TAG, code, 1) + value
    tiff = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, 1) + tag + bytes(4)
    return jpeg_segment(0xE1, b"Exif\0\0" + tiff)


def turned_photos(orientation: int) -> list[bytes]:
    attribute = f'<rdf:Description tiff:Orientation="{orientation}"/>'
    element = f"<tiff:Orientation>{orientation}</tiff:Orientation>"
    oblong = saved(picture(width=61, height=43), "JPEG", quality=90)
    return [
        after_start(oblong, *segments)
        for segments in (
            [exif_segment(orientation, "<")],
            [exif_segment(orientation, ">")],
            [exif_segment(orientation, "<", "I")],
            [xmp_segment(attribute)],
            [xmp_segment(element)],
            [exif_segment(orientation, ">"), xmp_segment('tiff:Orientation="2"')],
        )
    ]


@pytest.mark.parametrize("orientation", TURNS)
def test_a_turned_photo_is_turned_on_request_and_counted_otherwise(
    orientation: int, tiny_model: Path
) -> None:
    photos = turned_photos(orientation)
    for data in photos:
        np.testing.assert_array_equal(read_silently(data), pillow(data))
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        turned = pomona.load_image(data, apply_exif=True)
        np.testing.assert_array_equal(turned, np.asarray(upright))
        assert Image.open(io.BytesIO(data)).getexif().get(ORIENTATION_TAG) == orientation
    batch = Featurizer(tiny_model).try_featurize(photos)
    assert batch.orientations == [orientation] * len(photos)
    batch = Featurizer(tiny_model, apply_exif=True).try_featurize(photos)
    assert batch.orientations == [None] * len(photos)


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_upright_photo_has_no_orientation(orientation: int, tiny_model: Path) -> None:
    photos = [*turned_photos(orientation)[:5], WHOLE]
    assert Featurizer(tiny_model).try_featurize(photos).orientations == [None] * len(photos)
    upright = pomona.load_image(photos[0], apply_exif=True)
    np.testing.assert_array_equal(upright, pillow(photos[0]))


def test_a_turned_and_damaged_photo_has_both_notes(tiny_model: Path) -> None:
    data = after_start(WHOLE, exif_segment(6, "<"))
    batch = Featurizer(tiny_model).try_featurize([data[:-300] + END + SEFT])
    assert batch.orientations == [6]
    assert batch.warnings == [f"{DAMAGED} (premature end of data segment)"]


# The fast mode.


@pytest.mark.parametrize("side", [100, 126])
def test_fast_mode_decodes_small_photos_exactly(side: int) -> None:
    data = jpeg(side=side, quality=90)
    size = (SIDE, SIDE)
    fast = pomona.load_image(data, size=size, decode="fast")
    np.testing.assert_array_equal(fast, pomona.load_image(data, size=size))


def drafted(data: bytes, scale: int) -> np.ndarray:
    """Decode a JPEG at a smaller scale by Pillow, and resize it."""
    draft = Image.open(io.BytesIO(data))
    width, height = draft.size
    draft.draft("RGB", (width // scale, height // scale))
    assert draft.size == (-(-width // scale), -(-height // scale))
    return pomona.load_image(saved(draft.convert("RGB"), "PNG"), size=(SIDE, SIDE))


def read_fast(data: bytes) -> np.ndarray:
    return pomona.load_image(data, size=(SIDE, SIDE), decode="fast")


@pytest.mark.parametrize(("side", "scale"), [(300, 2), (700, 4), (1100, 8)])
def test_fast_mode_is_the_draft_of_pillow(side: int, scale: int) -> None:
    data = jpeg(side=side, quality=90)
    np.testing.assert_array_equal(read_fast(data), drafted(data, scale))


@pytest.mark.parametrize(("side", "scale", "mean"), [(300, 2, 0), (700, 4, 0.5), (1100, 8, 0.5)])
def test_fast_mode_is_close_to_the_draft_of_a_progressive_photo(
    side: int, scale: int, mean: float
) -> None:
    data = jpeg(side=side, quality=90, progressive=True)
    difference = np.abs(read_fast(data).astype(int) - drafted(data, scale))
    assert difference.mean() <= mean
    assert difference.max() <= 8 * mean


def test_fast_mode_skips_the_scans_that_refine_a_progressive_photo() -> None:
    data = jpeg(side=700, quality=90, progressive=True)
    last = scans(data)[-1]
    header = data[last : last + 10]
    assert header == SCAN + b"\0\x08\x01\x01\0\x01\x3f\x10", "it refines the luminance"
    broken = data[: last + 10] + b"\x55" * 300 + END
    np.testing.assert_array_equal(read_fast(broken), read_fast(data))
    with pytest.warns(ImageWarning, match=DAMAGED):
        pomona.load_image(broken, size=(SIDE, SIDE))


def test_fast_mode_refuses_a_truncated_progressive_photo() -> None:
    data = jpeg(side=700, quality=90, progressive=True)
    for cut in scans(data)[-1] + 10, len(data) - 300:
        with pytest.raises(ImageError, match=TRUNCATED):
            read_fast(data[:cut])


def test_fast_mode_keeps_the_orientation_of_a_progressive_photo(tiny_model: Path) -> None:
    data = after_start(
        jpeg(side=700, quality=90, progressive=True), exif_segment(6, "<"), jpeg_segment(0xE1, SEFT)
    )
    batch = Featurizer(tiny_model, decode="fast").try_featurize([data + SEFT])
    assert (batch.errors, batch.warnings, batch.orientations) == ([None], [None], [6])


def test_damage_is_stated_in_fast_mode_too(tiny_model: Path) -> None:
    data = jpeg(side=300, quality=90)
    data = data[: len(data) // 2] + END
    batch = Featurizer(tiny_model, decode="fast").try_featurize([data])
    assert batch.errors == [None]
    assert batch.warnings == [f"{DAMAGED} (premature end of data segment)"]
