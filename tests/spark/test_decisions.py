"""Decisions of a person about photos, which a run carries out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from lines import only_on
from pomona import pipeline
from pomona.findings import check
from pomona.spark import SparkResults, read_images

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")


@only_on("4.0")
def test_a_later_run_relabels_and_leaves_out_and_featurizes_nothing_again(
    spark: SparkSession, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    output, table = tmp_path / "results", tmp_path / "findings.csv"
    options = {"model": tiny_model, "progress": False}
    pipeline.run(spark, folder, output, **options)
    before = {row.path: row for row in spark.read.parquet(str(output / "features")).collect()}

    photos = sorted(folder.rglob("*.jpg"))
    # One as results spell it, one as a file manager does.
    table.write_text(
        f"path;decision\nfile:{photos[0]};leave out\n{photos[1]};relabel: Pêche\n", "utf-8-sig"
    )
    summary = pipeline.run(spark, folder, output, decisions=table, **options)

    after = {row.path: row for row in spark.read.parquet(str(output / "features")).collect()}
    assert (summary.featurized, summary.photos) == (0, len(before) - 1)
    assert summary.decided == {"left out": 1, "relabelled": 1}
    assert "by decision: 1 left out, 1 relabelled" in str(summary)
    assert before.keys() - after.keys() == {f"file:{photos[0]}"}
    for path, row in after.items():
        expected = "Pêche" if path == f"file:{photos[1]}" else before[path].label
        assert row == before[path].__class__(**{**before[path].asDict(), "label": expected})
    again = pipeline.run(spark, folder, output, **options)
    assert (again.featurized, again.photos, again.decided) == (1, len(before), {})


def test_photos_that_are_read_have_the_decisions_too(
    spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "findings.csv"
    first, second, *_ = sorted(folder.rglob("*.jpg"))
    table.write_text(f"path,decision\n{first},leave out\n{second},relabel: new\n")
    rows = {
        row.path: row for row in read_images(spark, folder, decisions=f"file://{table}").collect()
    }
    assert f"file:{first}" not in rows
    assert rows[f"file:{second}"].label == "new"
    assert bytes(rows[f"file:{second}"].content) == second.read_bytes()


def test_a_decision_about_an_unknown_photo_is_refused_and_changes_nothing(
    spark: SparkSession, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    table = tmp_path / "findings.csv"
    table.write_text("path,decision\n/elsewhere/a.jpg,leave out\n")
    with pytest.raises(ValueError, match=r"findings.csv, line 2: there is no photo /elsewhere/a"):
        pipeline.run(spark, folder, tmp_path / "out", model=tiny_model, decisions=table)
    assert not (tmp_path / "out").exists()


def test_spark_finds_what_is_found_without_it(
    spark: SparkSession, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from PIL import Image

    from pomona.results import LocalResults

    first = min(folder.rglob("*.jpg"))
    shutil.copy(first, first.with_name("copy.jpg"))
    Image.new("RGB", (64, 64), "white").save(first.with_name("white.png"))
    Image.new("RGB", (8, 8), "red").save(first.with_name("small.png"))
    output = tmp_path / "results"
    pipeline.run(spark, folder, output, model=tiny_model, progress=False)
    found = check(SparkResults(spark, str(output)))
    assert {"duplicate", "blank", "tiny"} <= {group.kind for group in found.groups}
    assert list(found) == list(check(LocalResults(str(output))))
