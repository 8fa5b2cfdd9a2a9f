"""Photos of a DataFrame as a table with thumbnails."""

from __future__ import annotations

import base64
import doctest
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyspark.sql import DataFrame, SparkSession

import pomona.spark.show
from photos import break_one, render
from pomona.plots import contact_sheet
from pomona.results.thumbnails import THUMBNAIL_SIDE
from pomona.similar import Neighbour
from pomona.spark import read_images, show_photos

MARKUP = "<b>Apple & pear"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of three photos of 120 pixels, one with a name like markup; and a broken one."""
    folder = tmp_path_factory.mktemp("show") / "photos"
    written = render(folder, classes=2, per_class=3, size=120)
    break_one(written)
    written[-1].parent.rename(folder / MARKUP)
    return folder


@pytest.fixture(scope="module")
def photos(spark: SparkSession, folder: Path) -> DataFrame:
    return read_images(spark, folder)


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def shown(value: Any) -> str:
    return pomona.spark.show._text(value)


def test_a_table_has_a_thumbnail_of_each_photo_and_nothing_from_elsewhere(
    photos: DataFrame,
) -> None:
    html = show_photos(photos.orderBy("path"))._repr_html_()
    assert html.count("<tr>") == 1 + 7
    found = pictures(html)
    assert [picture.size for picture in found] == [(THUMBNAIL_SIDE, THUMBNAIL_SIDE)] * 6
    assert not re.search(r"<script|https?:|file:", html)
    assert "<th>content</th>" not in html
    assert html.endswith("<p>7 photos</p>")


def test_a_photo_that_cannot_be_read_is_shown_by_its_reason(photos: DataFrame) -> None:
    table = show_photos(photos.where("path LIKE '%cut.jpg'"))
    (reason,) = table.reasons
    assert "truncated" in reason
    assert f"<td>{reason}</td>" in table._repr_html_()
    assert "cannot be read" in repr(table)
    assert table.thumbnails == [b""]


def test_names_and_values_cannot_become_markup(photos: DataFrame) -> None:
    html = show_photos(photos.where("path LIKE '%pear%'").drop("length"))._repr_html_()
    assert MARKUP not in html
    assert html.count("&lt;b&gt;Apple &amp; pear") == 9  # alt, path and label of three


def test_no_photos_are_read_but_those_shown(
    spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    paths = sorted(f"file:{path}" for path in folder.rglob("r0_*[0-9].jpg"))
    gone = [f"file:{tmp_path}/gone.jpg"] * 10
    frame = spark.createDataFrame([(path,) for path in [*paths[:2], *gone]], "path string")
    table = show_photos(frame, 2)
    assert table.reasons == [None, None]
    assert repr(table).endswith("the first 2 photos; there are more")


def test_photos_that_are_gone_or_empty_and_rows_without_a_path_say_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jpg"
    empty.touch()
    paths = [f"file:{tmp_path}/gone.jpg", f"file:{empty}", None]
    frame = spark.createDataFrame([(path,) for path in paths], "path string")
    assert show_photos(frame).reasons == [
        "the file no longer exists",
        "the file is empty",
        "the row has no path",
    ]
    assert show_photos(frame.where("path = 'nothing'"))._repr_html_().endswith("<p>0 photos</p>")


def test_text_is_a_table_of_short_lines(spark: SparkSession, folder: Path) -> None:
    path = min(folder.rglob("r0_*[0-9].jpg"))
    row = (str(path), [0.123456, 1.0, 2.0, 3.0], {"lemon": 0.9, "lime": 0.1}, "two\nlines " * 20)
    schema = "path string, features array<float>, probabilities map<string, double>, note string"
    text = repr(show_photos(spark.createDataFrame([row], schema)))
    names, rule, values, caption = text.splitlines()
    assert names.split() == ["path", "features", "probabilities", "note"]
    assert set(rule) == {"-", " "}
    assert values.startswith(f"{path.parent.name}/{path.name}  [0.1235, 1, 2, …] of 4  lemon: 0.9")
    assert len(values) < 160
    assert values.endswith("…")
    assert caption == "1 photo"


def test_what_a_search_found_is_shown_with_its_distances(spark: SparkSession, folder: Path) -> None:
    paths = sorted(f"file:{path}" for path in folder.rglob("r0_*[0-9].jpg"))
    found = [Neighbour(path, "a", distance / 8) for distance, path in enumerate(paths)]
    table = show_photos(spark.createDataFrame(found))
    assert [row.distance for row in table.rows] == [each.distance for each in found]
    assert "<td>0.125</td>" in table._repr_html_()
    sheet = contact_sheet(table.thumbnails, [shown(row.distance) for row in table.rows])
    assert sheet.get_size_inches().min() > 1


def test_a_table_needs_paths_and_a_row(photos: DataFrame) -> None:
    with pytest.raises(ValueError, match=r"no column path, .*: the columns are label, length"):
        show_photos(photos.select("label", "length"))
    with pytest.raises(ValueError, match="n is 0"):
        show_photos(photos, 0)


def test_the_examples_hold() -> None:
    assert doctest.testmod(pomona.spark.show).failed == 0
