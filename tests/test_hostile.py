"""No file that is handed in may panic, hang or exhaust the process: each gets a reason."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import pytest

import heif
import pomona
from against_pillow import compare
from heif import HEIF_SPECIMENS
from pomona import ImageError, ImageWarning
from specimens import (
    SPECIMENS,
    adobe,
    bmp_file,
    gif_file,
    jpeg_frame,
    jpeg_segment,
    noise,
    picture,
    png_chunk,
    png_file,
    png_rows,
    saved,
    tiff_file,
    tiff_strips,
    tiff_tags,
)

# Far beyond what any of these needs on a busy machine: a hang is what it finds.
TIMEOUT = 300
SUPPORT = Path(__file__).with_name("support")

ALL_SPECIMENS = {**SPECIMENS, **HEIF_SPECIMENS}
ONE_OF_EACH = {
    "JPEG": SPECIMENS["JPEG: 420"],
    "PNG": SPECIMENS["PNG: RGB"],
    "WebP": SPECIMENS["WebP: RGB at 50"],
    "GIF": SPECIMENS["GIF: P"],
    "BMP": SPECIMENS["BMP: RGB"],
    "TIFF": SPECIMENS["TIFF: RGB"],
    "HEIC": HEIF_SPECIMENS["HEIC: whole blocks"],
    "AVIF": HEIF_SPECIMENS["AVIF: 4:2:0"],
}
FORMATS = sorted(ONE_OF_EACH)


def refusal(data: bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        pomona.load_image(data, **options)
    assert caught.value.index == 0
    assert str(caught.value) == f"image 0: {caught.value.reason}"
    assert "please report it" not in caught.value.reason
    return caught.value.reason


def reason_of(data: bytes) -> str | None:
    """Why there are no pixels, or None where there are, with or without a warning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImageWarning)
            pomona.load_image(data)
    except ImageError as error:
        return error.reason
    return None


def patched(data: bytes, at: int, layout: str, *values: int) -> bytes:
    new = bytearray(data)
    struct.pack_into(layout, new, at, *values)
    return bytes(new)


def jpeg_sized(width: int, height: int) -> bytes:
    data = ONE_OF_EACH["JPEG"]
    return patched(data, jpeg_frame(data) + 1, ">HH", height, width)


def png_sized(width: int, height: int) -> bytes:
    return png_file(width, height, 8, 2, b"")


def webp_sized(width: int, height: int) -> bytes:
    """Lossless: one less than each side, in 14 bits each."""
    sides = struct.pack("<BI", 0x2F, (width - 1) | (height - 1) << 14)
    chunk = b"VP8L" + struct.pack("<I", len(sides) + 1) + sides + b"\0"
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def webp_extended(width: int, height: int) -> bytes:
    """Extended: a canvas of one less than each side, in 24 bits each."""
    inner = webp_sized(1, 1)[12:]
    sides = struct.pack("<IIH", 0, width - 1 & 0xFFFFFF, 0)
    sides = (
        bytes([0, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    chunk = b"VP8X" + struct.pack("<I", len(sides)) + sides
    return b"RIFF" + struct.pack("<I", 4 + len(chunk) + len(inner)) + b"WEBP" + chunk + inner


def webp_lossy(width: int, height: int) -> bytes:
    frame = b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", width, height) + bytes(16)
    chunk = b"VP8 " + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def gif_sized(width: int, height: int) -> bytes:
    return gif_file((width, height), (0, 0, width, height), b"\0")


def bmp_sized(width: int, height: int) -> bytes:
    return bmp_file(width, height, 24, bytes(16))


def tiff_sized(width: int, height: int) -> bytes:
    tags = tiff_tags(noise(1, 1))
    for tag, side in ((256, width), (257, height)):
        tags[tag] = side
    return tiff_file(tags, [bytes(16)])


def heif_sized(data: bytes, width: int, height: int) -> bytes:
    """Change the size that the container of a single image announces."""
    return patched(data, data.index(b"ispe") + 8, ">II", width, height)


def heif_grid(kind: str, width: int, height: int) -> bytes:
    tile = heif.saved(heif.scene(heif.TILE, heif.TILE), kind)
    return heif.grid([tile] * 4, 2, 2, width, height)


class TestBytesThatAreNoImage:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty: 0 bytes"),
            (
                b"\xff",
                r"not a JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC or AVIF image: 1 bytes that start ",
            ),
            (b"apple;banana\n" * 9, "117 bytes of text that start with "),
            (b"<!DOCTYPE html><title>403</title>", "it is an HTML page"),
            (b"\0" * 100, "it is only zero bytes"),
            (b"%PDF-1.7", "it is a PDF document"),
            (b"PK\x03\x04", "it is a ZIP archive"),
            (b"RIFF\x04\0\0\0WAVEfmt ", "16 bytes that start with "),
            (b"\x89PNX\r\n\x1a\n", "8 bytes that start with "),
        ],
        ids=["nothing", "a byte", "text", "HTML", "zeros", "PDF", "zip", "WAV", "wrong magic"],
    )
    def test_they_are_refused_for_what_they_are(self, data: bytes, reason: str) -> None:
        assert reason in refusal(data)

    def test_the_reason_shows_how_they_start(self) -> None:
        assert "apple;banana" in refusal(b"apple;banana\n" * 9)
        assert refusal(b"\x00\x01").endswith(r' start with "\x00\x01"')

    @pytest.mark.parametrize("name", FORMATS)
    def test_a_signature_alone_is_no_image(self, name: str) -> None:
        for length in range(1, 13):
            refusal(ONE_OF_EACH[name][:length])


# In MiB. The peak of getrusage is at least that of the process that started this one.
PEAK = """
import re
def peak():
    status = open("/proc/self/status").read()
    return int(re.search("VmHWM:\\s*([0-9]+)", status).group(1)) // 1024
"""

TALL = (
    PEAK
    + """
import sys
sys.path.insert(0, sys.argv[1])
import pomona
from specimens import png_file
photo = png_file(1, 1 << 20, 8, 0, bytes(2 << 20))
pixels = pomona.load_image(photo, size=(224, 224))
assert pixels.shape == (224, 224, 3) and not pixels.any()
print(peak())
"""
)


def test_a_photo_one_pixel_wide_and_a_million_tall_does_not_take_all_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TALL, str(SUPPORT)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=TIMEOUT,
    )
    # 224 pixels wide and as tall, it would take 700.
    assert int(done.stdout) < 350


def test_a_side_that_no_photo_has_is_refused() -> None:
    reason = refusal(png_file(1, 3_000_000, 8, 0, bytes(2 * 3_000_000)))
    assert reason == "too long: 1 x 3000000 pixels, the limit is 1048576 wide and high"


class TestTruncation:
    @pytest.mark.parametrize("name", FORMATS)
    def test_a_file_cut_at_any_seventh_byte_is_refused(self, name: str) -> None:
        whole = ONE_OF_EACH[name]
        # The resolution of a TIFF, which follows its directory, and the checksums and last chunk of
        # a PNG are not needed for the pixels.
        last = len(whole) - 24 if name in ("PNG", "TIFF") else len(whole)
        for length in range(0, last, 7):
            refusal(whole[:length])

    # The first of several frames, pages or images is complete in the first half. Of a HEIC grid the
    # last tiles may be missing.
    COMPLETE_IN_HALF = frozenset(
        {
            "TIFF: several pages",
            "GIF: animated",
            "PNG: animated",
            "HEIC: several",
            "HEIC: grid",
            "HEIC: grid of 4:4:4",
        }
    )

    @pytest.mark.parametrize("name", sorted(ALL_SPECIMENS.keys() - COMPLETE_IN_HALF))
    def test_the_first_half_of_any_kind_of_file_is_refused(self, name: str) -> None:
        whole = ALL_SPECIMENS[name]
        refusal(whole[: len(whole) // 2])

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "GIF", "HEIC", "AVIF"])
    def test_a_photo_that_was_cut_off_is_called_truncated(self, name: str) -> None:
        whole = ONE_OF_EACH[name]
        for share in (0.3, 0.6, 0.9):
            reason = refusal(whole[: int(len(whole) * share)])
            assert reason.startswith(f"truncated {name}: ")


class TestTrailingData:
    @pytest.mark.parametrize("name", FORMATS)
    def test_it_is_accepted_without_a_warning(self, name: str) -> None:
        whole = ONE_OF_EACH[name]
        expected = pomona.load_image(whole)
        for garbage in (b"\0", bytes(1000), b"<html>", whole):
            assert (pomona.load_image(whole + garbage, strict=True) == expected).all()

    def test_allow_trailing_is_deprecated(self) -> None:
        whole = ONE_OF_EACH["JPEG"]
        for value in (False, True):
            with pytest.warns(DeprecationWarning, match="allow_trailing"):
                pomona.load_image(whole + b"<html>", allow_trailing=value)

    def test_the_pictures_behind_a_phone_photo_belong_to_it(self) -> None:
        whole = ONE_OF_EACH["JPEG"]
        several = whole[:2] + jpeg_segment(0xE2, b"MPF\0" + bytes(20)) + whole[2:] + whole
        assert (pomona.load_image(several) == pomona.load_image(whole)).all()


class TestSizes:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (jpeg_sized(0, 9), "zero-sized JPEG: 0 x 9 pixels"),
            (jpeg_sized(9, 0), "zero-sized JPEG: 9 x 0 pixels"),
            (png_sized(0, 9), "PNG"),
            (png_sized(9, 0), "PNG"),
            (webp_lossy(0, 9), "WebP"),
            (webp_lossy(9, 0), "WebP"),
            (gif_sized(0, 9), "zero-sized GIF: 0 x 9 pixels"),
            (gif_sized(9, 0), "zero-sized GIF: 9 x 0 pixels"),
            (bmp_sized(0, 9), "BMP"),
            (bmp_sized(9, 0), "BMP"),
            (tiff_sized(0, 9), "TIFF"),
            (tiff_sized(9, 0), "TIFF"),
            (heif_sized(ONE_OF_EACH["HEIC"], 0, 9), "zero-sized HEIC: 0 x 9 pixels"),
            (heif_sized(ONE_OF_EACH["HEIC"], 9, 0), "zero-sized HEIC: 9 x 0 pixels"),
            (heif_sized(ONE_OF_EACH["AVIF"], 0, 9), "zero-sized AVIF: 0 x 9 pixels"),
            (heif_sized(ONE_OF_EACH["AVIF"], 9, 0), "zero-sized AVIF: 9 x 0 pixels"),
            (heif_grid("HEIF", 0, 9), "zero-sized HEIC: 0 x 9 pixels"),
            (heif_grid("AVIF", 9, 0), "zero-sized AVIF: 9 x 0 pixels"),
        ],
    )
    def test_an_image_without_pixels_is_refused(self, data: bytes, reason: str) -> None:
        assert reason in refusal(data)

    def test_max_pixels_is_the_last_size_that_is_read(self) -> None:
        for data in ONE_OF_EACH.values():
            height, width, _ = pomona.load_image(data).shape
            assert pomona.load_image(data, max_pixels=height * width).shape == (height, width, 3)
            reason = refusal(data, max_pixels=height * width - 1)
            assert reason == (
                f"too large: {width} x {height} pixels, "
                f"the limit (max_pixels) is {height * width - 1}"
            )


BOMBS = {
    "JPEG": jpeg_sized(65500, 65500),
    "progressive JPEG": patched(
        SPECIMENS["JPEG: progressive 420"],
        jpeg_frame(SPECIMENS["JPEG: progressive 420"]) + 1,
        ">HH",
        65500,
        65500,
    ),
    "PNG": png_sized(60000, 60000),
    "PNG at its widest": png_sized(0x7FFFFFFF, 0x7FFFFFFF),
    "lossless WebP": webp_sized(16000, 16000),
    "lossy WebP": webp_lossy(16383, 16383),
    "extended WebP": webp_extended(1 << 24, 255),
    "GIF": gif_sized(65535, 65535),
    "BMP": bmp_sized(60000, 60000),
    "TIFF": tiff_sized(60000, 60000),
    "HEIC": heif_sized(ONE_OF_EACH["HEIC"], 60000, 60000),
    "AVIF": heif_sized(ONE_OF_EACH["AVIF"], 60000, 60000),
    "HEIC at its widest": heif_sized(ONE_OF_EACH["HEIC"], 0xFFFFFFFF, 0xFFFFFFFF),
    "HEIC grid": heif_grid("HEIF", 60000, 60000),
    "AVIF grid": heif_grid("AVIF", 60000, 60000),
}

# Decompress to far more than they are, beside a small image.
ZEROS = zlib.compress(bytes(400 << 20), 9)
SMALL = {
    "PNG with a text bomb": png_file(
        *(61, 43, 8, 2, png_rows(noise(61, 43))), png_chunk(b"zTXt", b"Comment\0\0" + ZEROS)
    ),
    "PNG with a profile bomb": png_file(
        *(61, 43, 8, 2, png_rows(noise(61, 43))), png_chunk(b"iCCP", b"profile\0\0" + ZEROS)
    ),
    "PNG with too many rows": png_file(61, 43, 8, 2, bytes(400 << 20)),
}

PEAK_OF_EACH = (
    PEAK
    + """
import json, sys
import pomona

files = json.load(sys.stdin)
pomona.load_image(bytes.fromhex(files.pop("warm-up")))
out = {}
for name, data in files.items():
    data = bytes.fromhex(data)
    before = peak()
    try:
        pomona.load_image(data)
        reason = None
    except pomona.ImageError as error:
        reason = error.reason
    out[name] = peak() - before, reason
print(json.dumps(out))
"""
)


def measured(files: dict[str, bytes]) -> dict[str, tuple[int, str | None]]:
    """Decode each file in a process of its own kind: MiB by which the peak grew, and the reason."""
    request = {"warm-up": ONE_OF_EACH["PNG"], **files}
    done = subprocess.run(
        [sys.executable, "-c", PEAK_OF_EACH],
        input=json.dumps({name: data.hex() for name, data in request.items()}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


class TestBombs:
    def test_a_huge_header_is_refused_before_memory_is_taken_for_it(self) -> None:
        for name, (grown, reason) in measured(BOMBS).items():
            assert reason is not None, name
            assert re.search("too large: |Memory limit exceeded", reason), (name, reason)
            assert grown < 32, (name, grown)

    def test_a_small_image_with_a_bomb_beside_it_takes_little_memory(self) -> None:
        for name, (grown, _) in measured(SMALL).items():
            assert grown < 200, (name, grown)

    def test_a_limit_of_its_own_guards_a_small_machine(self) -> None:
        assert refusal(png_sized(2000, 2000), max_pixels=1_000_000).startswith("too large: ")


def scans(count: int, side: int = 2000) -> bytes:
    """A progressive JPEG that goes over all its blocks once more, `count` times."""
    data = saved(picture("L", side, side), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    # Refining a coefficient that never is: an empty scan, all of it one run of zero blocks.
    table = jpeg_segment(0xC4, bytes([0x10] + [1] + [0] * 15 + [0xE0]))
    again = jpeg_segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + b"\x00" * 8
    return data[:first] + table + again * count + b"\xff\xd9"


class TestDamagedJpeg:
    def test_thousands_of_scans_are_refused(self) -> None:
        assert "can't decode JPEG: " in refusal(scans(5000))

    def test_hundreds_are_refused_where_each_takes_long(self) -> None:
        assert reason_of(scans(150)) is None
        assert "can't decode JPEG: " in refusal(scans(150, side=5000))

    def test_flipped_bits_in_the_data_are_found_or_harmless(self) -> None:
        data = ONE_OF_EACH["JPEG"]
        start = data.index(b"\xff\xda") + 14
        flipped = [patched(data, at, "B", data[at] ^ 0x10) for at in range(start, len(data) - 2, 5)]
        reasons = [reason_of(each) for each in flipped]
        found = [reason for reason in reasons if reason is not None]
        assert found
        for reason in found:
            assert reason.startswith(("can't decode JPEG: ", "truncated JPEG: ")), reason

    @pytest.mark.parametrize(
        ("at", "value", "reason"),
        [
            (0, 12, "Unsupported JPEG data precision 12"),
            (0, 16, "Unsupported JPEG data precision 16"),
            (5, 0, "Empty JPEG image"),
            (5, 2, "Bogus marker length"),
            (7, 0x00, "Bogus sampling factors"),
            (7, 0x55, "Bogus sampling factors"),
        ],
    )
    def test_a_frame_header_that_is_not_read_says_why(
        self, at: int, value: int, reason: str
    ) -> None:
        data = ONE_OF_EACH["JPEG"]
        assert reason in refusal(patched(data, jpeg_frame(data) + at, "B", value))

    def test_two_components_are_refused(self) -> None:
        data = SPECIMENS["JPEG: grey"]
        frame = jpeg_frame(data)
        two = bytearray(data)
        two[frame + 5] = 2
        two[frame + 9 : frame + 9] = bytes([2, 0x11, 0])
        struct.pack_into(">H", two, frame - 2, 14)
        assert refusal(bytes(two)).startswith("can't decode JPEG: ")

    @pytest.mark.parametrize("process", [0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF])
    def test_a_process_that_no_camera_uses_is_refused(self, process: int) -> None:
        data = ONE_OF_EACH["JPEG"]
        assert refusal(patched(data, jpeg_frame(data) - 3, "B", process)).startswith("can't decode")

    def test_nothing_but_markers_is_refused(self) -> None:
        refusal(b"\xff\xd8\xff\xd9")
        refusal(b"\xff\xd8" + adobe(0) + b"\xff\xd9")
        refusal(b"\xff\xd8" + b"\xff" * 100_000)
        refusal(b"\xff\xd8" + jpeg_segment(0xE1, bytes(60_000)) * 100)


class TestDamagedPng:
    @pytest.mark.parametrize("length", [1, 2, 4, 767])
    def test_of_a_palette_with_a_part_of_a_colour_the_others_count(self, length: int) -> None:
        palette = png_chunk(b"PLTE", bytes([7] * length))
        data = png_file(9, 9, 8, 3, png_rows(noise(9, 9, 1)), palette)
        assert compare("palette", data).outcome == "equal"

    def test_without_a_palette_every_index_is_black_as_in_pillow(self) -> None:
        for chunks in ([], [png_chunk(b"PLTE", b"")]):
            data = png_file(9, 9, 8, 3, png_rows(noise(9, 9, 1)), *chunks)
            assert compare("no palette", data).outcome == "equal"
            assert not pomona.load_image(data).any()


class TestDamagedTiff:
    def test_directories_that_lead_in_a_circle_end(self) -> None:
        data = tiff_strips(noise(9, 9))
        directory = struct.unpack_from("<I", data, 4)[0]
        count = struct.unpack_from("<H", data, directory)[0]
        link = directory + 2 + 12 * count
        # Only the first image is read, as in Pillow.
        assert reason_of(patched(data, link, "<I", directory)) is None

    def test_a_long_chain_of_directories_ends(self) -> None:
        empty = b"".join(struct.pack("<HI", 0, 8 + 6 * (at + 1)) for at in range(100_000))
        refusal(b"II*\0" + struct.pack("<I", 8) + empty)

    def test_a_directory_at_itself_is_refused(self) -> None:
        for at in (0, 4, 8, 0xFFFFFFFF):
            refusal(b"II*\0" + struct.pack("<I", at) + bytes(64))

    @pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 273, 277, 278, 279])
    @pytest.mark.parametrize("count", [0, 1 << 16, 0xFFFFFFFF])
    def test_a_tag_of_too_many_values_is_refused_or_ignored(self, tag: int, count: int) -> None:
        data = tiff_strips(noise(9, 9))
        directory = struct.unpack_from("<I", data, 4)[0]
        entries = range(directory + 2, len(data), 12)
        at = next(at for at in entries if struct.unpack_from("<H", data, at)[0] == tag)
        reason = reason_of(patched(data, at + 4, "<I", count))
        assert reason is None or "please report it" not in reason


class TestDamagedHeif:
    @pytest.mark.parametrize("name", ["HEIC", "AVIF"])
    def test_a_picture_that_is_larger_than_announced_is_refused(self, name: str) -> None:
        kind = "HEIF" if name == "HEIC" else "AVIF"
        photo = heif.saved(heif.scene(256, 192), kind)
        announced = heif_sized(photo, heif.TILE, heif.TILE)
        assert refusal(announced).startswith(f"can't decode {name}: ")
        assert refusal(announced, max_pixels=heif.TILE**2).startswith(f"can't decode {name}: ")

    def test_an_avif_without_coded_data_is_refused_quietly(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        # The number of extents, after the header of the box and what else the item has.
        extents = ONE_OF_EACH["AVIF"].index(b"iloc") + 16
        empty = patched(ONE_OF_EACH["AVIF"], extents, ">H", 0)
        assert refusal(empty) == "can't decode AVIF: no picture"
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("name", ["HEIC", "AVIF"])
    def test_a_grid_that_consists_of_itself_is_refused(self, name: str) -> None:
        photo = HEIF_SPECIMENS[f"{name}: grid"]
        # The first of the grid's tiles, after its own number and the number of tiles.
        assert refusal(patched(photo, photo.index(b"dimg") + 8, ">H", 1))

    @pytest.mark.parametrize("name", ["HEIC", "AVIF"])
    def test_a_damaged_photo_does_not_change_the_next(self, name: str, tiny_model: Path) -> None:
        photo = ONE_OF_EACH[name]
        featurizer = pomona.Featurizer(tiny_model)
        expected = featurizer.featurize([photo])
        start = photo.index(b"mdat") + 4
        for at in range(start, len(photo), 11):
            damaged = patched(photo, at, "B", photo[at] ^ 0x55)
            features, errors = featurizer.try_featurize([photo, damaged, photo])
            assert errors[0] is errors[2] is None
            assert (features[[0, 2]] == expected).all()


class TestManyDamagedFiles:
    @pytest.mark.parametrize("name", FORMATS)
    def test_none_panics_hangs_or_leaks(self, name: str) -> None:
        done = subprocess.run(
            [sys.executable, str(SUPPORT / "fuzz.py"), name, "--count", "3000"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        assert (done.returncode, done.stderr) == (0, "")
        report = json.loads(done.stdout)
        assert report["panics"] == []
        assert report["refused"] > 500
        assert report["decoded"] > 50
        assert report["grown_mib"] < 32
