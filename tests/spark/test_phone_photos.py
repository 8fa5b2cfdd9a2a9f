"""Photos of phones on Spark: the features of their bytes, however they are read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable

import pytest
from pyspark.sql import Row, SparkSession

from outcomes import Outcome
from phone_photos import expected, photos, write_photos
from pomona import pipeline
from pomona.cli import main
from pomona.spark import featurize_udf, read_images

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

OPTIONS = pytest.mark.parametrize("options", [{}, {"apply_exif": True, "strict": True}], ids=str)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_photos(folder)
    return folder


def by_name(rows: list[Row]) -> dict[str, Outcome]:
    return {
        Path(row.path).name: Outcome(*(row[field] for field in Outcome._fields)) for row in rows
    }


def featurized(spark: SparkSession, images: Path, column: str, **options: Any) -> list[Row]:
    table = read_images(spark, images, content=column == "content")
    udf = featurize_udf(on_error="column", **options)
    # One task reads all photos, so that the cut ones come between the others.
    return table.coalesce(1).select("path", udf(column).alias("r")).select("path", "r.*").collect()


def by_content(spark: SparkSession, images: Path, output: Path, **options: Any) -> list[Row]:
    return featurized(spark, images, "content", **options)


def by_paths(spark: SparkSession, images: Path, output: Path, **options: Any) -> list[Row]:
    return featurized(spark, images, "path", **options)


def by_run(spark: SparkSession, images: Path, output: Path, **options: Any) -> list[Row]:
    pipeline.run(spark, images, output, components=3, by_paths=False, progress=False, **options)
    return spark.read.parquet(str(output / "features")).collect()


def by_command(
    spark: SparkSession, images: Path, output: Path, *, model: Path, **options: Any
) -> list[Row]:
    command = ["run", "--images", str(images), "--output", str(output), "--model", str(model)]
    flags = [f"--{name.replace('_', '-')}" for name in options]
    assert main([*command, "--components", "3", *flags]) == 0
    return spark.read.parquet(str(output / "features")).collect()


@OPTIONS
@pytest.mark.parametrize("door", [by_content, by_paths, by_run, by_command])
def test_each_photo_has_the_features_of_its_bytes_among_cut_ones(
    door: Callable[..., list[Row]],
    spark: SparkSession,
    images: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, bool],
) -> None:
    reference = expected(tiny_model, **options)
    rows = door(spark, images, tmp_path / "results", model=tiny_model, **options)
    assert len(rows) == len(reference)
    assert by_name(rows) == reference
    turned = sum(outcome.orientation is not None for outcome in reference.values())
    assert (turned > 0) != bool(options)
    if door in (by_run, by_command):
        summary = json.loads((tmp_path / "results/summary.json").read_text())
        assert (summary["photos"], summary["left_out"]) == (len(rows), {})
        assert (summary["turned"], summary["warnings"]) == (turned, 0)
    if door is by_command:
        text = capsys.readouterr().out
        line = re.search(r"^(\d+) photos have an EXIF orientation .*--apply-exif", text, re.M)
        assert (line and int(line[1])) == (turned or None)
        assert "warning" not in text


@pytest.mark.parametrize("content", [True, False], ids=["content", "paths"])
def test_photos_of_every_name_are_listed(spark: SparkSession, images: Path, content: bool) -> None:
    rows = read_images(spark, images, content=content).collect()
    sizes = {Path(row.path).name: row.length for row in rows}
    assert sizes == {name: len(data) for name, data in photos().items()}
    if content:
        assert {Path(row.path).name: bytes(row.content) for row in rows} == photos()
