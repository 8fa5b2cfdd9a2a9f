"""Reading photos: what is found, how it is labelled, how it is split into tasks."""

from __future__ import annotations

import os
import shutil
import unicodedata
import warnings
from pathlib import Path

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, input_file_name, lit, regexp_extract, spark_partition_id

from pomona._images import IMAGE_EXTENSIONS, Tally, find_images, label_of
from pomona.spark import read_images, sample_images
from pomona.spark.images import BYTES_PER_TASK, PHOTOS_PER_TASK, TASKS_PER_CORE, list_images

HOSTILE_NAMES = [
    "Apple Braeburn/1.jpg",
    "Pêche d'été/2.jpg",
    "a%20b/3%2F.jpg",
    "c+d/4 5.jpg",
    "[ab]{c,d}*?/6.jpg",
    "back\\slash/7.jpg",
    "#hash;semi/8,9.jpg",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in HOSTILE_NAMES:
        write(tmp_path / name, name.encode())
    return tmp_path


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def task_sizes(photos: DataFrame) -> list[int]:
    counts = photos.groupBy(spark_partition_id()).count().collect()
    return sorted(row["count"] for row in counts)


def labels(photos: DataFrame) -> list[str]:
    return sorted(row.label for row in photos.select("label").collect())


def test_rows_hold_each_photo_with_its_path_label_size_and_time(
    spark: SparkSession, tmp_path: Path
) -> None:
    photo = tmp_path / "Test" / "Kiwi" / "0_100.jpg"
    write(photo, b"the bytes")
    os.utime(photo, (1_600_000_000, 1_600_000_000))

    photos = read_images(spark, tmp_path)

    assert photos.dtypes == [
        ("path", "string"),
        ("label", "string"),
        ("length", "bigint"),
        ("modificationTime", "timestamp"),
        ("content", "binary"),
    ]
    row = photos.collect()[0]
    assert row.path == f"file:{photo}"
    assert (row.label, row.length, bytes(row.content)) == ("Kiwi", 9, b"the bytes")
    assert row.modificationTime.timestamp() == 1_600_000_000


def test_names_with_spaces_accents_and_signs_arrive_as_they_are(
    spark: SparkSession, tree: Path
) -> None:
    rows = read_images(spark, tree).collect()

    assert sorted(row.path for row in rows) == sorted(f"file:{tree}/{n}" for n in HOSTILE_NAMES)
    for row in rows:
        name = bytes(row.content).decode()
        assert row.path.endswith(name)
        assert row.label == name.split("/")[0]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_folder_or_file_is_found_by_its_exact_name(
    spark: SparkSession, tree: Path, name: str
) -> None:
    folder = name.split("/")[0]
    assert labels(read_images(spark, tree / folder)) == [folder]
    assert labels(read_images(spark, str(tree / name))) == [folder]


def test_a_photo_of_0_bytes_is_a_row_as_any_other(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "Kiwi" / "1.jpg", b"x")
    write(tmp_path / "Fig" / "2.jpg", b"")
    write(tmp_path / "Fig" / "3.txt", b"")
    os.utime(tmp_path / "Fig" / "2.jpg", (1_600_000_000, 1_600_000_000.25))

    rows = {row.label: row for row in read_images(spark, tmp_path).collect()}

    assert set(rows) == {"Kiwi", "Fig"}
    assert rows["Fig"].path == f"file:{tmp_path}/Fig/2.jpg"
    assert (rows["Fig"].length, bytes(rows["Fig"].content)) == (0, b"")
    assert rows["Fig"].modificationTime.timestamp() == 1_600_000_000.25
    (tmp_path / "Kiwi" / "1.jpg").unlink()
    assert labels(read_images(spark, tmp_path)) == ["Fig"]


def test_every_ending_of_a_photo_is_found_in_any_case_and_nothing_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    for ending in IMAGE_EXTENSIONS:
        write(tmp_path / f"lower{ending}", b"x")
        write(tmp_path / f"upper{ending.upper()}", b"x")
        write(tmp_path / f"title{ending.title()}", b"x")
        write(tmp_path / f"mixed{ending[:2]}{ending[2:].upper()}", b"x")
    for name in ("readme.txt", "Thumbs.db", "jpg", "a.jpg.txt", "a.npy", "_SUCCESS"):
        write(tmp_path / name, b"x")

    for content in (True, False):
        assert read_images(spark, tmp_path, content=content).count() == 4 * len(IMAGE_EXTENSIONS)


@pytest.mark.parametrize("content", [True, False])
def test_what_is_left_out_is_counted_by_kind_as_on_one_machine(
    spark: SparkSession, tmp_path: Path, content: bool
) -> None:
    for name in ("a/IMG_1.HeIc", "a/2.jpg", "a/notes.TXT", "b/notes.txt", "b/README", "b/3.cr2"):
        write(tmp_path / name, b"x")
    for name in ("a/._2.jpg", "a/.DS_Store", "a/.hidden.jpg", ".cache/4.jpg", "b/_DSC0005.JPG"):
        write(tmp_path / name, b"x")

    # Folders that overlap are counted once.
    photos, tally = list_images(spark, [tmp_path, f"file://{tmp_path}/a"], content=content)

    local = Tally()
    names = [Path(path).name for path in find_images(tmp_path, tally=local)]
    left_out = dict(local.left_out)
    assert sorted(names) == ["2.jpg", "IMG_1.HeIc", "_DSC0005.JPG"]
    if content:
        # Spark hides it, and nothing in Python can change that.
        names.remove("_DSC0005.JPG")
        left_out["_*"] = 1
    assert sorted(row.path.rpartition("/")[2] for row in photos.collect()) == sorted(names)
    assert tally == Tally(images=len(names), left_out=left_out)


@pytest.mark.parametrize("content", [True, False])
def test_links_accents_and_odd_folders_give_the_photos_of_one_machine(
    spark: SparkSession, tmp_path: Path, content: bool
) -> None:
    folder = tmp_path / "photos"
    decomposed = unicodedata.normalize("NFD", "Pâte")
    for name in ("Kiwi/1.jpg", "Pâte/2.jpg", f"{decomposed}/3.jpg", "album.jpg/4.jpg"):
        write(folder / name, b"x")
    write(tmp_path / "outside" / "5.jpg", b"x")
    for name, target in (
        ("Alias", "Kiwi"),
        ("Kiwi/loop", folder),
        ("Pâte/loop", folder),
        ("Fig", "../outside"),
    ):
        (folder / name).symlink_to(target)

    photos, tally = list_images(spark, folder, content=content)

    rows = {row.path: row.label for row in photos.collect()}
    local = Tally()
    expected = {f"file:{path}": label_of(path) for path in find_images(folder, tally=local)}
    assert rows == expected
    assert sorted(rows.values()) == ["Fig", "Kiwi", "Pâte", "Pâte", "album.jpg"]
    assert tally == local
    assert tally == Tally(5, {"links to folders": 3}, decomposed={decomposed})


def test_a_colon_in_a_name_is_read_by_path_and_refused_where_hadoop_reads(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in ("Kiwi/10:30.jpg", "Kiwi: green/2.jpg"):
        write(tmp_path / name, b"x")
    rows = read_images(spark, tmp_path, content=False).collect()
    assert sorted(row.label for row in rows) == ["Kiwi", "Kiwi: green"]
    with pytest.raises(ValueError, match=r"Kiwi/10:30\.jpg: Hadoop cannot open .* \(1 here\)"):
        read_images(spark, tmp_path)
    (row,) = read_images(spark, tmp_path / "Kiwi: green").collect()
    assert bytes(row.content) == b"x"


def test_links_that_dangle_and_names_that_are_not_utf_8_are_counted(
    spark: SparkSession, tmp_path: Path
) -> None:
    write(tmp_path / "Kiwi" / "1.jpg", b"x")
    (tmp_path / "Kiwi" / "2.jpg").symlink_to("nowhere")
    write(tmp_path / "Kiwi" / os.fsdecode(b"caf\xe9.jpg"), b"x")
    _, tally = list_images(spark, tmp_path, content=False)
    assert tally == Tally(images=1, left_out={"broken links": 1, "names that are not UTF-8": 1})


def test_photos_that_spark_hides_are_no_part_of_a_sample(
    spark: SparkSession, tmp_path: Path
) -> None:
    for name in ("Kiwi/_DSC1.jpg", "Kiwi/2.jpg", "Kiwi/_a=b.jpg", "Fig/_DSC3.jpg"):
        write(tmp_path / name, b"x")
    photos = read_images(spark, tmp_path, content=False)
    assert photos.count() == 4
    assert labels(sample_images(photos, 9)) == ["Kiwi", "Kiwi"]
    with pytest.raises(FileNotFoundError, match=r"1 _\* \(photos that Spark's reader skips\)"):
        read_images(spark, tmp_path / "Fig")


def test_a_list_of_paths_and_a_glob_are_read(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("Training/Kiwi/1.jpg", "Test/Kiwi/2.jpg", "Test/Lime/3.jpg", "Other/Fig/4.jpg"):
        write(tmp_path / name, b"x")

    assert labels(read_images(spark, [tmp_path / "Training", f"file://{tmp_path}/Other"])) == [
        "Fig",
        "Kiwi",
    ]
    assert labels(read_images(spark, f"{tmp_path}/T*/Kiwi")) == ["Kiwi", "Kiwi"]


def test_a_label_can_be_a_column_expression_or_null(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "Test" / "Kiwi" / "12_r.jpg", b"x")

    number = regexp_extract("path", "/([0-9]+)_", 1).cast("int")
    photos = read_images(spark, tmp_path, label=number)
    assert photos.dtypes[1] == ("label", "string")
    assert labels(photos) == ["12"]
    assert read_images(spark, tmp_path, label=None).collect()[0].label is None
    assert read_images(spark, tmp_path, label=None).dtypes == photos.dtypes
    assert labels(read_images(spark, tmp_path, label=lit("fruit"))) == ["fruit"]


@pytest.mark.parametrize("label", ["folder", 3])
def test_a_label_that_means_nothing_is_refused(
    spark: SparkSession, tree: Path, label: object
) -> None:
    with pytest.raises(ValueError, match='must be "parent", a Column or None'):
        read_images(spark, tree, label=label)


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_doubled_slashes_are_cleaned_with_a_warning(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    write(tmp_path / "Rep1" / "Test" / "Kiwi" / "1.jpg", b"x")

    with pytest.warns(UserWarning, match="double slashes") as caught:
        photos = read_images(spark, f"{scheme}{tmp_path}/Rep1//Test")

    assert [Path(warning.filename).name for warning in caught] == [Path(__file__).name]
    assert labels(photos) == ["Kiwi"]


def test_a_clean_path_gives_no_warning(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "Kiwi" / "1.jpg", b"x")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        read_images(spark, f"file://{tmp_path}/")


def test_a_folder_without_photos_says_what_was_looked_for_and_what_is_there(
    spark: SparkSession, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as empty:
        read_images(spark, tmp_path)
    write(tmp_path / "deep" / "notes.txt", b"x")
    write(tmp_path / "features.parquet", b"x")
    with pytest.raises(FileNotFoundError) as texts:
        read_images(spark, tmp_path)

    for error in (empty, texts):
        assert f"no photo under {tmp_path}: looked in all subfolders" in str(error.value)
        assert ".jpg, .jpeg, " in str(error.value)
    assert str(empty.value).endswith("found no files")
    assert str(texts.value).endswith("found only other files (1 .parquet, 1 .txt)")


def test_a_path_that_does_not_exist_is_named(spark: SparkSession, tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"does not exist: file:.*/nowhere"):
        read_images(spark, [tree, tree / "nowhere"])


def test_no_path_at_all_is_refused(spark: SparkSession) -> None:
    with pytest.raises(ValueError, match="no path"):
        read_images(spark, [])


@pytest.mark.parametrize("content", [True, False])
def test_what_can_be_no_path_is_refused(spark: SparkSession, content: bool) -> None:
    with pytest.raises(ValueError, match="name of a folder is empty"):
        read_images(spark, "", content=content)
    with pytest.raises(ValueError, match="not UTF-8"):
        read_images(spark, os.fsdecode(b"/caf\xe9"), content=content)
    with pytest.raises(OSError, match="cannot list file:: "):
        read_images(spark, "file:", content=content)


def test_a_file_system_that_refuses_is_quoted(spark: SparkSession) -> None:
    with pytest.raises(OSError, match=r'cannot list nosuch://b/photos: .*scheme "nosuch"') as error:
        read_images(spark, "nosuch://b/photos")
    assert isinstance(error.value.__cause__, Py4JJavaError)


def test_many_small_photos_make_tasks_of_some_hundreds(spark: SparkSession, tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")

    sizes = task_sizes(read_images(spark, tmp_path))

    assert sum(sizes) == 10_000
    assert PHOTOS_PER_TASK // 2 < max(sizes) <= PHOTOS_PER_TASK


@pytest.mark.parametrize("number", [801, 3_000, 6_100])
def test_all_cores_have_work_to_the_end(spark: SparkSession, tmp_path: Path, number: int) -> None:
    for photo in range(number):
        (tmp_path / f"{photo}.jpg").write_bytes(b"x" * (1 + photo * 7919 % 15_000))

    sizes = task_sizes(read_images(spark, tmp_path))

    assert len(sizes) % spark.sparkContext.defaultParallelism == 0
    assert min(sizes) > 0.9 * max(sizes)


def test_few_photos_still_keep_every_core_busy(spark: SparkSession, tmp_path: Path) -> None:
    for number in range(80):
        write(tmp_path / f"{number}.jpg", b"x" * 5000)

    sizes = task_sizes(read_images(spark, tmp_path))

    assert len(sizes) == TASKS_PER_CORE * spark.sparkContext.defaultParallelism
    assert max(sizes) == min(sizes)


def test_large_photos_are_bounded_by_bytes(spark: SparkSession, tmp_path: Path) -> None:
    for number in range(40):
        with (tmp_path / f"{number}.jpg").open("wb") as file:
            file.truncate(20 * 1024 * 1024)  # sparse: takes no disk

    photos = read_images(spark, tmp_path).select("length")

    by_task = photos.groupBy(spark_partition_id()).sum("length").collect()
    assert max(row["sum(length)"] for row in by_task) <= BYTES_PER_TASK


def test_the_sizes_of_tasks_hold_in_views_and_joins_and_leave_the_session_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    for number in range(500):
        write(tmp_path / "photos" / "Kiwi" / f"{number}.jpg", b"x")
    spark.range(500).write.parquet(str(tmp_path / "numbers"))
    sized = {
        key: spark.conf.get(key)
        for key in ("spark.sql.files.openCostInBytes", "spark.sql.files.maxPartitionBytes")
    }

    photos = read_images(spark, tmp_path / "photos")
    tasks = photos.rdd.getNumPartitions()
    photos.createOrReplaceTempView("photos")
    view = spark.sql("SELECT path, length(content) AS size FROM photos WHERE label = 'Kiwi'")

    assert view.rdd.getNumPartitions() == tasks
    assert photos.where(col("length") > 0).select("path").rdd.getNumPartitions() == tasks
    assert {key: spark.conf.get(key) for key in sized} == sized
    assert spark.catalog.currentDatabase() == "default"
    spark.catalog.dropTempView("photos")


def test_settings_of_the_session_reach_the_reader(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.jpg", b"x")
    write(tmp_path / "b" / "2.jpg", b"x")
    spark.conf.set("spark.sql.files.ignoreMissingFiles", "true")
    try:
        photos = read_images(spark, tmp_path)
        shutil.rmtree(str(tmp_path / "a"))
        assert labels(photos) == ["b"]
    finally:
        spark.conf.unset("spark.sql.files.ignoreMissingFiles")


def test_missing_photos_are_left_out_by_request_and_in_no_other_query(
    spark: SparkSession, tmp_path: Path
) -> None:
    write(tmp_path / "a" / "1.jpg", b"x")
    write(tmp_path / "b" / "2.jpg", b"x")
    tolerant, strict = (
        read_images(spark, tmp_path, ignore_missing=True),
        read_images(spark, tmp_path),
    )
    shutil.rmtree(str(tmp_path / "a"))
    assert [row.content for row in tolerant.collect()] == [b"x"]
    assert spark.conf.get("spark.sql.files.ignoreMissingFiles", None) in (None, "false")
    with pytest.raises(Exception, match=r"a/1\.jpg does not exist"):
        strict.select("content").collect()


def test_a_photo_that_vanishes_after_the_listing_is_named(
    spark: SparkSession, tmp_path: Path
) -> None:
    write(tmp_path / "Kiwi" / "1.jpg", b"x")
    write(tmp_path / "Kiwi" / "2.jpg", b"x")
    photos = read_images(spark, tmp_path)
    (tmp_path / "Kiwi" / "2.jpg").unlink()

    with pytest.raises(Exception, match=r"Kiwi/2\.jpg does not exist"):
        photos.select("content").collect()


def test_content_is_not_read_where_it_is_not_used(spark: SparkSession, tmp_path: Path) -> None:
    write(tmp_path / "Kiwi" / "1.jpg", b"x")
    photo = tmp_path / "Kiwi" / "huge.jpg"
    with photo.open("wb") as file:
        file.truncate(3 * 1024**3)  # sparse; more than Spark could ever put into a row

    rows = read_images(spark, tmp_path).select("length", input_file_name()).collect()

    assert sorted(row.length for row in rows) == [1, 3 * 1024**3]


def test_a_sample_has_a_few_photos_of_each_label_and_reads_no_other(
    spark: SparkSession, folder: Path
) -> None:
    photos = read_images(spark, folder)
    sample = {row.label: row.path for row in sample_images(photos).collect()}
    assert set(sample) == {label.name for label in folder.iterdir()}
    # Spark can read no file of more than 2 GiB, and says so when it is asked to.
    for path in folder.glob("*/*.jpg"):
        if f"file:{path}" not in sample.values():
            os.truncate(path, 2**31)
    rows = sample_images(photos).collect()
    assert {row.path for row in rows} == set(sample.values())
    assert all(row.content.startswith(b"\xff\xd8") for row in rows)


def test_a_sample_keeps_labels_and_takes_all_where_there_are_few(
    spark: SparkSession, folder: Path
) -> None:
    odd = next(folder.glob("*/*.jpg")).with_name("[odd] name, {1}.jpg")
    odd.write_bytes(next(folder.glob("*/*.jpg")).read_bytes())
    photos = read_images(spark, folder, label=lit("fruit"))
    sample = sample_images(photos, per_label=99)
    assert sample.columns == photos.columns
    assert sample.count() == 17
    assert {row.label for row in sample.select("label").collect()} == {"fruit"}
    with pytest.raises(ValueError, match="per_label is 0"):
        sample_images(photos, 0)
