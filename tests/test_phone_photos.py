"""Photos of phones, without Spark: as bytes, by paths, and by the command line."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pillow_heif
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

import pomona
from outcomes import Outcome, outcomes
from phone_photos import FOLDER, expected, make_photos, photos, write_photos
from pomona import Featurizer
from pomona._native import PathFeaturizer
from pomona.cli import main
from pomona.cli._errors import SOME_PHOTOS_FAILED

NAMES = sorted(path.name for path in FOLDER.iterdir())
ORIENTATIONS = {
    **{f"IMG_000{orientation}.JPG": orientation for orientation in range(2, 9)},
    "20240101_120001.jpg": 6,
    "IMG_0012.avif": 8,
    "Screenshot_0006.png": 6,
}
UPRIGHT = "Screenshot_0001.PNG"
#: Levels by which another decoder or encoder may change a value.
DECODER, ENCODER = 2, 16
#: Differences of features: at most by lossy compression, and at least by turning the picture.
COMPRESSION, TURN = 0.02, 0.1
OPTIONS = pytest.mark.parametrize("options", [{}, {"apply_exif": True, "strict": True}], ids=str)


@pytest.fixture(autouse=True, scope="module")
def _opener() -> None:
    pillow_heif.register_heif_opener()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder)
    return folder


def difference(some: Any, others: Any) -> Any:
    return np.abs(np.subtract(some, others, dtype=np.float64)).max()


@pytest.mark.parametrize("name", NAMES)
def test_the_pixels_are_those_of_pillow(name: str) -> None:
    data = photos()[name]
    image = Image.open(io.BytesIO(data))
    pixels = image.convert("RGB")
    tolerance = DECODER if image.format in ("HEIF", "AVIF") else 0
    assert difference(pomona.load_image(data, strict=True), pixels) <= tolerance
    upright = ImageOps.exif_transpose(image).convert("RGB")
    assert difference(pomona.load_image(data, apply_exif=True), upright) <= tolerance


def test_the_script_makes_the_kept_files() -> None:
    made = make_photos()
    assert sorted(made) == NAMES
    for path in FOLDER.iterdir():
        files = (path.read_bytes(), made[path.name])
        kept, new = (Image.open(io.BytesIO(data)) for data in files)
        assert kept.format == new.format
        assert kept.getexif() == new.getexif()
        assert difference(kept.convert("RGB"), new.convert("RGB")) <= ENCODER


def test_turned_photos_are_counted_or_turned_back_and_nothing_is_odd(tiny_model: Path) -> None:
    as_stored, turned = expected(tiny_model), expected(tiny_model, apply_exif=True, strict=True)
    for outcome in (as_stored, turned):
        assert {name for name in outcome if outcome[name].error is None} == set(NAMES)
        assert {each.warning for each in outcome.values()} == {None}
    assert {
        name: outcome.orientation
        for name, outcome in as_stored.items()
        if outcome.orientation is not None
    } == ORIENTATIONS
    assert {outcome.orientation for outcome in turned.values()} == {None}
    upright = as_stored[UPRIGHT].features
    for name in NAMES:
        lossless = name.lower().endswith(".png")
        tolerance = 0 if lossless else COMPRESSION
        assert difference(turned[name].features, upright) <= tolerance
        if name in ORIENTATIONS:
            assert difference(as_stored[name].features, upright) > TURN
        else:
            assert as_stored[name] == turned[name]


def by_bytes(images: Path, model: Path, output: Path, **options: Any) -> dict[str, Outcome]:
    names = sorted(path.name for path in images.iterdir())
    data = [(images / name).read_bytes() for name in names]
    featurizer = Featurizer(model, threads=2, batch_size=3, **options)
    batch = outcomes(featurizer.try_featurize(data))
    good = [photo for photo, outcome in zip(data, batch) if outcome.error is None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = featurizer.featurize(good)
        np.testing.assert_array_equal(features, pomona.featurize(good, model=model, **options))
    assert features.tolist() == [each.features for each in batch if each.error is None]
    return dict(zip(names, batch))


def by_paths(images: Path, model: Path, output: Path, **options: Any) -> dict[str, Outcome]:
    names = sorted(path.name for path in images.iterdir())
    stream = PathFeaturizer(Featurizer(model, batch_size=3, **options))
    stream.submit(str(images / name) for name in names)
    batch = stream.next()
    assert batch is not None
    return dict(zip(names, outcomes(batch)))


def by_folder(images: Path, model: Path, output: Path, **options: Any) -> dict[str, Outcome]:
    summary = pomona.featurize_folder(images, output, model=model, **options)
    found = rows(output)
    assert summary.photos == len(found)
    assert summary.left_out == {}
    assert summary.turned == sum(each.orientation is not None for each in found.values())
    return found


def by_command(images: Path, model: Path, output: Path, **options: Any) -> dict[str, Outcome]:
    flags = [f"--{name.replace('_', '-')}" for name in options]
    command = ["featurize", str(images), "-o", str(output), "--model", str(model), *flags]
    # With --strict, photos that fail are a failure of the command.
    assert main(command) == (SOME_PHOTOS_FAILED if options.get("strict") else 0)
    return rows(output)


def rows(output: Path) -> dict[str, Outcome]:
    return {
        Path(row["path"]).name: Outcome(*(row[field] for field in Outcome._fields))
        for row in pq.read_table(output).to_pylist()
    }


@OPTIONS
@pytest.mark.parametrize("door", [by_bytes, by_paths, by_folder, by_command])
def test_each_photo_has_the_features_of_its_bytes_among_cut_ones(
    door: Callable[..., dict[str, Outcome]],
    images: Path,
    tiny_model: Path,
    output: Path,
    options: dict[str, bool],
) -> None:
    assert door(images, tiny_model, output, **options) == expected(tiny_model, **options)


def test_the_command_counts_turned_photos_and_names_the_option(
    images: Path, tiny_model: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_command(images, tiny_model, output)
    text = capsys.readouterr().out
    turned = len(ORIENTATIONS)
    assert re.search(rf"^{turned} photos have an EXIF orientation .*--apply-exif", text, re.M)
    assert "warning" not in text
    assert "left out" not in text
    output.unlink()
    by_command(images, tiny_model, output, apply_exif=True)
    assert "EXIF" not in capsys.readouterr().out
