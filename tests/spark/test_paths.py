"""Photos by their paths: the features of their bytes, from a storage that does what storages do."""

from __future__ import annotations

import inspect
import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.functions import col, expr, spark_partition_id

import photos as rendered
from lines import only_on
from pomona import Featurizer, pipeline, plan
from pomona._images import Tally
from pomona._native import PathFeaturizer
from pomona.spark import (
    featurize_udf,
    read_images,
    sample_images,
)
from pomona.spark._s3 import storage_from, storage_of, why_not_by_paths
from pomona.spark.features import write_features
from pomona.spark.images import PHOTOS_PER_TASK, TASKS_PER_CORE, list_images
from s3 import PASSWORD, USER, Door, S3Server

# PySpark's vectors, with NumPy 1.19 and later.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

#: The bucket that is reached through the door, behind which there is trouble.
BUCKET = "garden"
#: Buckets that are not reached, or not by everybody.
NOWHERE, LOCKED, MISSING = "nowhere", "locked-garden", "no-such-garden"
HOSTILE_NAMES = [
    "Golden Apple/1 2.jpg",
    "Pêche d'été/é+è.jpg",
    "a%20b/3%2F.jpg",
    "[ab]{c,d}*?/6.jpg",
    "#hash;semi/8,9&=@:!$.jpg",
    '(x)~^|<y>/`"q".jpg',
]
S3A = "org.apache.hadoop.fs.s3a"
#: Objects in an answer of S3.
S3_PAGE = 1000
#: Of Hadoop's client itself, which has no part in these tests but to list.
SOON = {"attempts.maximum": "2", "retry.limit": "2"}


class Orchard:
    """A bucket, and the photos in it by their paths."""

    def __init__(self, server: S3Server, door: Door) -> None:
        self.server = server
        self.door = door
        self.contents: dict[str, bytes] = {}

    def put(self, key: str, content: bytes) -> str:
        self.server.put(BUCKET, key, content)
        path = f"s3a://{BUCKET}/{key}"
        self.contents[path] = content
        return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("rendered")
    return [path.read_bytes() for path in rendered.render(folder, classes=4, per_class=5, size=40)]


@pytest.fixture(scope="module")
def orchard(
    spark: SparkSession, images: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orchard]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    door = Door(server, tmp_path_factory.mktemp("door"))
    try:
        server.create(BUCKET)
        server.create(LOCKED)
        made = Orchard(server, door)
        for number in range(120):
            made.put(f"many/{number:03}.jpg", images[number % len(images)])
        for name, image in zip(HOSTILE_NAMES, images):
            made.put(f"odd/{name}", image)
        made.put("odd/empty.jpg", b"")
        made.put("odd/text.jpg", b"no photo at all")
        server.put(LOCKED, "photo.jpg", images[0])
        hadoop = spark.sparkContext._jsc.hadoopConfiguration()
        address = "http://127.0.0.1:{}".format
        for bucket, port, secret in (
            (BUCKET, door.port, PASSWORD),
            (MISSING, door.port, PASSWORD),
            (LOCKED, door.port, "not this one"),
            (NOWHERE, 1, PASSWORD),
        ):
            options = {
                "endpoint": address(port),
                "endpoint.region": "us-east-1",
                "path.style.access": "true",
                "access.key": USER,
                "secret.key": secret,
                **SOON,
            }
            for name, value in options.items():
                hadoop.set(f"fs.s3a.bucket.{bucket}.{name}", value)
        yield made
    finally:
        server.service.kill()
        door.shut()


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test inherits the trouble of another."""
    yield
    if "orchard" in request.fixturenames:
        request.getfixturevalue("orchard").door.trouble()


def features(model: Path, contents: list[bytes]) -> list[list[float] | None]:
    matrix, errors = Featurizer(model).try_featurize(contents)
    return [None if error else row.tolist() for row, error in zip(matrix, errors)]


def table_of(spark: SparkSession, paths: list[str | None], tasks: int = 1) -> DataFrame:
    return spark.createDataFrame(list(enumerate(paths)), "number int, path string").coalesce(tasks)


def featurized(table: DataFrame, model: Path, **options: Any) -> list[Row]:
    udf = featurize_udf(model, on_error="column", **options)
    return table.select("path", udf("path").alias("r")).select("path", "r.*").collect()


def some(orchard: Orchard, number: int = 120) -> list[str]:
    return sorted(path for path in orchard.contents if "/many/" in path)[:number]


def test_odd_names_empty_photos_and_texts_are_the_same_by_path_and_by_content(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    where = f"s3a://{BUCKET}/odd"
    listed = read_images(spark, where, content=False)
    by_path = {row.path: row for row in featurized(listed, tiny_model)}
    udf = featurize_udf(tiny_model, on_error="column")
    by_content = read_images(spark, where).select("path", udf("content").alias("r"))

    assert len(by_path) == len(HOSTILE_NAMES) + 2
    for row in by_content.select("path", "r.*").collect():
        assert by_path[row.path] == row
    names = {path.split("/odd/")[1] for path, row in by_path.items() if row.features}
    assert names == set(HOSTILE_NAMES)


def test_local_names_are_taken_as_they_are(
    spark: SparkSession, images: list[bytes], tmp_path: Path, tiny_model: Path
) -> None:
    for name, image in zip(HOSTILE_NAMES, images):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(image)
    listed = read_images(spark, tmp_path, content=False)
    rows = {row.path: row.features for row in featurized(listed, tiny_model)}
    paths = [f"file:{tmp_path}/{name}" for name in HOSTILE_NAMES]
    assert rows == dict(zip(paths, features(tiny_model, images)))
    # As users write them.
    others = [f"file://{tmp_path}/{HOSTILE_NAMES[0]}", f"{tmp_path}/{HOSTILE_NAMES[0]}", None]
    rows = featurized(table_of(spark, others), tiny_model)
    assert [row.features for row in rows] == [*features(tiny_model, images[:1] * 2), None]
    assert [row.error for row in rows] == [None] * 3


def test_a_listing_has_the_rows_of_a_reading_and_asks_no_storage(
    spark: SparkSession, folder: Path
) -> None:
    (folder / "empty.jpg").write_bytes(b"")
    listed = read_images(spark, folder, content=False)
    read = read_images(spark, folder).drop("content")
    assert listed.dtypes == read.dtypes
    expected = sorted(read.collect())
    assert len(expected) == 17
    shutil.rmtree(str(folder))
    assert sorted(listed.collect()) == expected


def test_a_listing_of_s3_has_the_rows_of_a_reading(
    spark: SparkSession, orchard: Orchard, images: list[bytes]
) -> None:
    for name in ("deep/a/b/1.jpg", "deep/2.PNG", "deep/[x]/3.jpg", "deep/a/.hidden/4.jpg"):
        orchard.put(name, images[0])
    for name in (
        "deep/.5.jpg",
        "deep/_k=v/7.jpg",
        "deep/a.jpg/8.jpeg",
        "deep/9.txt",
    ):
        orchard.put(name, b"")
    root = f"s3a://{BUCKET}"
    for where, number in (
        (f"{root}/deep", 5),
        ([f"{root}/deep/a", f"{root}/deep"], 5),
        (f"{root}/deep/[x]", 1),
        (f"{root}/deep/?", 1),
        (f"{root}/deep/*/*.jpg", 2),
        (f"{root}/deep/2.PNG", 1),
        (f"{root}/deep/a/.hidden", 1),
        (f"{root}/many", 120),
    ):
        listed = sorted(read_images(spark, where, content=False).collect())
        assert listed == sorted(read_images(spark, where).drop("content").collect())
        assert len(listed) == number, where
    for content in (True, False):
        with pytest.raises(FileNotFoundError, match="does not exist: s3a://garden/nowhere"):
            read_images(spark, f"{root}/nowhere", content=content)
        with pytest.raises(
            FileNotFoundError, match=r"s3a://garden/deep/9\.txt: .* files \(1 \.txt\)"
        ):
            read_images(spark, f"{root}/deep/9.txt", content=content)
    with pytest.raises(OSError, match="cannot list s3a://no-such-garden/x: no such"):
        read_images(spark, f"s3a://{MISSING}/x")


def test_a_listing_of_s3_counts_what_it_leaves_out(spark: SparkSession, orchard: Orchard) -> None:
    for name in ("IMG_1.HeIc", "a/2.JPEG", "a/._2.JPEG", "a/notes.txt", "b/NOTES.TXT", "b/README"):
        orchard.put(f"mixed/{name}", b"x")
    for name in (".DS_Store", ".cache/4.jpg", "b/_DSC0005.JPG", "a_$folder$", "5.jxl"):
        orchard.put(f"mixed/{name}", b"x")
    where = f"s3a://{BUCKET}/mixed"
    expected = {".txt": 2, "._*": 1, "without an extension": 1, ".DS_Store": 1, "hidden": 1}
    expected.update({"_$folder$": 1, ".jxl": 1})

    photos, tally = list_images(spark, [where, f"{where}/a"], content=False)
    assert photos.count() == 3
    assert tally == Tally(images=3, left_out=expected)
    photos, tally = list_images(spark, where)
    assert photos.count() == 2
    assert tally == Tally(images=2, left_out={**expected, "_*": 1})


def test_a_listing_has_all_of_a_folder_that_takes_several_answers(
    spark: SparkSession, orchard: Orchard
) -> None:
    for number in range(S3_PAGE + 1):
        orchard.server.put(BUCKET, f"crowd/{number}.jpg", b"x")
    where = f"s3a://{BUCKET}/crowd"
    listed = sorted(read_images(spark, where, content=False).collect())
    assert len(listed) == S3_PAGE + 1
    assert listed == sorted(read_images(spark, where).drop("content").collect())


def test_a_listing_bears_a_busy_server(
    spark: SparkSession, orchard: Orchard, images: list[bytes]
) -> None:
    for number in range(24):
        orchard.put(f"rough/{number % 8}/{number}.jpg", images[0])
    orchard.door.trouble(refuse=0.5)
    listed = read_images(spark, f"s3a://{BUCKET}/rough", content=False).collect()
    assert len({row.path for row in listed}) == 24
    assert orchard.door.counts()["refuse"]


@pytest.mark.parametrize(
    ("bucket", "trouble", "hint"),
    [
        (NOWHERE, {}, "it can't be reached: Connection refused.*check the endpoint"),
        (LOCKED, {}, "not accept the credentials.*SignatureDoesNotMatch.*check the credentials"),
        (MISSING, {}, "no such bucket.*check its name"),
        (BUCKET, {"refuse": 1, "refusal": "403 AccessDenied"}, "403 AccessDenied.*check that"),
        (BUCKET, {"refuse": 1, "refusal": "301 PermanentRedirect"}, "not in the requested region"),
    ],
)
def test_a_listing_that_can_not_be_had_says_why(
    spark: SparkSession, orchard: Orchard, bucket: str, trouble: dict[str, Any], hint: str
) -> None:
    orchard.door.trouble(**trouble)
    where = f"s3a://{bucket}/many"
    with pytest.raises(OSError, match=f"can't list s3://{bucket} at http.*{hint}") as error:
        read_images(spark, where, content=False)
    assert f"(at {where})" in str(error.value)
    assert PASSWORD not in str(error.value)


def test_a_listing_is_hadoops_where_only_hadoop_knows_the_way(
    spark: SparkSession, orchard: Orchard
) -> None:
    where = f"s3a://{BUCKET}/many"
    spark.conf.set("fs.s3.cse.enabled", "true")
    try:
        orchard.door.trouble()
        by_hadoop = read_images(spark, where, content=False).collect()
    finally:
        spark.conf.unset("fs.s3.cse.enabled")
    assert by_hadoop == read_images(spark, where, content=False).collect()
    assert len(by_hadoop) == 120


def test_a_listing_is_split_as_evenly_as_a_reading(spark: SparkSession, tmp_path: Path) -> None:
    cores = spark.sparkContext.defaultParallelism
    for number in range(3 * PHOTOS_PER_TASK * TASKS_PER_CORE * cores // 2):
        (tmp_path / f"{number}.jpg").write_bytes(b"x" * (1 + number * 7919 % 1_000))
    listed = read_images(spark, tmp_path, content=False)
    counts = [row["count"] for row in listed.groupBy(spark_partition_id()).count().collect()]
    assert len(counts) % cores == 0
    assert 0.9 * max(counts) < min(counts)
    assert max(counts) <= PHOTOS_PER_TASK


def test_examples_of_a_listing_have_their_content(spark: SparkSession, folder: Path) -> None:
    sample = sample_images(read_images(spark, folder, content=False)).collect()
    assert len(sample) == 2
    assert all(row.content.startswith(b"\xff\xd8") for row in sample)


def test_rows_stay_in_order_whatever_arrives_first(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    orchard.door.trouble(jitter=0.02)
    paths = some(orchard) * 6
    rows = featurized(table_of(spark, paths), tiny_model)
    assert [row.path for row in rows] == paths
    expected = features(tiny_model, [orchard.contents[path] for path in paths])
    assert [row.features for row in rows] == expected


def test_a_busy_server_and_broken_connections_cost_no_photo(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    orchard.door.trouble(refuse=0.2, drop=0.1, cut=0.1, seed=3)
    paths = some(orchard)
    udf = featurize_udf(tiny_model, on_error="raise")
    rows = table_of(spark, paths, 2).select(udf("path").alias("features")).collect()
    expected = features(tiny_model, [orchard.contents[path] for path in paths])
    assert [row.features for row in rows] == expected
    counts = orchard.door.counts()
    assert all(counts[what] for what in ("refuse", "drop", "cut"))


def test_no_more_photos_are_read_at_once_than_may_be(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    orchard.door.trouble(delay=0.05)
    assert len(featurized(table_of(spark, some(orchard)), tiny_model, concurrency=7)) == 120
    assert 1 < orchard.door.counts()["at_once"] <= 7


@only_on("3.1")
def test_a_photo_that_gets_no_answer_is_named_and_the_others_have_features(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    orchard.door.trouble(hang="/00[37].jpg$")
    rows = featurized(table_of(spark, some(orchard)), tiny_model, timeout=8.0)
    hung = {row.path[-7:]: row for row in rows if row.error}
    assert hung.keys() == {"003.jpg", "007.jpg"}
    for row in hung.values():
        assert row.error_kind == "storage"
        assert re.fullmatch("not read: no complete answer in .* tries, .*server hangs", row.error)

    udf = featurize_udf(tiny_model, on_error="raise", timeout=8.0)
    with pytest.raises(Exception, match=r"photo s3a://garden/many/003\.jpg: not read: "):
        table_of(spark, some(orchard, 5)).select(udf("path")).collect()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("cast(1 as int)", "a column of bytes or of paths, not of int"),
        ("named_struct('path', '/a.jpg')", "not of structs: pass one of their fields: path"),
        ("''", "the path of a photo is empty"),
    ],
)
def test_what_is_no_path_is_told_so(
    spark: SparkSession, tiny_model: Path, column: str, message: str
) -> None:
    table = table_of(spark, ["/a.jpg"]).select(expr(column).alias("path"))
    with pytest.raises(Exception, match=message):
        table.select(featurize_udf(tiny_model)("path")).collect()


def test_a_server_that_hangs_ends_the_job(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    orchard.door.trouble(hang="jpg$")
    with pytest.raises(Exception, match=r"can't read photos from s3://garden at http.*hangs"):
        featurized(table_of(spark, some(orchard)), tiny_model, timeout=0.5)


@pytest.mark.parametrize(
    ("bucket", "hint"),
    [
        (NOWHERE, "it can't be reached: Connection refused.*check the endpoint"),
        (LOCKED, "not accept the credentials.*SignatureDoesNotMatch.*check the credentials"),
        (MISSING, "no such bucket.*check its name"),
    ],
)
def test_what_would_be_the_same_for_every_photo_is_one_error(
    spark: SparkSession, orchard: Orchard, tiny_model: Path, bucket: str, hint: str
) -> None:
    paths = [f"s3a://{bucket}/{number}.jpg" for number in range(50)]
    with pytest.raises(
        Exception, match=f"can't read photos from s3://{bucket} at .*{hint}"
    ) as all_:
        featurized(table_of(spark, paths), tiny_model)
    assert PASSWORD not in str(all_.value)
    assert "not this one" not in str(all_.value)


def test_a_bucket_of_another_region_is_told(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    orchard.door.trouble(refuse=1, refusal="301 PermanentRedirect", only="jpg$")
    with pytest.raises(
        Exception, match=r"not in the requested region.*set fs\.s3a\.endpoint\.region"
    ):
        featurized(table_of(spark, some(orchard)), tiny_model)


def test_photos_that_may_not_be_read_are_rows_until_they_are_all_there_is(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    refused = {"refuse": 1, "refusal": "403 AccessDenied"}
    orchard.door.trouble(**refused, only="/00[37].jpg$")
    rows = featurized(table_of(spark, some(orchard)), tiny_model)
    assert [row.error is not None for row in rows].count(True) == 2
    orchard.door.trouble(**refused, only="jpg$")
    with pytest.raises(Exception, match=r"can't read photos.*403 AccessDenied"):
        featurized(table_of(spark, some(orchard)), tiny_model)


def test_a_photo_that_is_gone_is_an_error_and_counted(
    spark: SparkSession, orchard: Orchard, images: list[bytes], tiny_model: Path, tmp_path: Path
) -> None:
    for number in range(4):
        orchard.put(f"fading/{number}.jpg", images[number])
    listed = read_images(spark, f"s3a://{BUCKET}/fading", content=False)
    orchard.server.delete(BUCKET, "fading/2.jpg")
    written = write_features(listed, tmp_path / "features", model=tiny_model)
    assert (written.photos, written.errors, written.vanished) == (4, 1, 1)
    rows = spark.read.parquet(written.uri).where(col("error").isNotNull()).collect()
    assert [(row.path[-5:], row.error_kind) for row in rows] == [("2.jpg", "gone")]

    photos = read_images(spark, f"s3a://{BUCKET}/fading", content=False)
    written = write_features(photos, tmp_path / "features", model=tiny_model)
    assert (written.photos, written.featurized, written.vanished) == (3, 0, 0)


@only_on("3.5")
def test_what_the_storage_did_not_give_is_tried_again_and_all_else_is_not(
    spark: SparkSession, orchard: Orchard, images: list[bytes], tiny_model: Path, tmp_path: Path
) -> None:
    for number in range(6):
        orchard.put(f"later/{number}.jpg", images[number])
    orchard.put("later/text.jpg", b"no photo at all")
    images_, output = f"s3a://{BUCKET}/later", tmp_path / "output"

    def run() -> pipeline.Summary:
        return pipeline.run(spark, images_, output, model=tiny_model, components=2, progress=False)

    orchard.door.trouble(refuse=1, refusal="403 AccessDenied", only="/[14].jpg$")
    first = run()
    assert (first.photos, first.errors, first.featurized) == (7, 3, 7)
    orchard.door.trouble()
    last = run()
    assert (last.photos, last.errors, last.featurized) == (7, 1, 2)
    assert (last.retried, last.recovered) == (2, 2)
    assert last.reading == {"way": "paths", "reason": "s3a: can be read by paths"}
    assert json.loads((output / "summary.json").read_text())["reading"] == last.reading

    # The other way finds nothing to do, and so does this one after it.
    for content in (True, False):
        photos = read_images(spark, images_, content=content)
        assert write_features(photos, output / "features", model=tiny_model).featurized == 0
    rows = spark.read.parquet(str(output / "features")).collect()
    contents = [orchard.contents[row.path] for row in rows]
    assert [row.features for row in rows] == features(tiny_model, contents)


def test_settings_that_only_hadoop_follows_leave_the_reading_to_spark(
    spark: SparkSession, orchard: Orchard, tiny_model: Path
) -> None:
    name = f"fs.s3a.bucket.{BUCKET}.server-side-encryption-algorithm"
    spark.conf.set(name, "CSE-KMS")
    try:
        assert storage_of(spark).hadoops == f"{name} is CSE-KMS"
        udf = featurize_udf(tiny_model)
        with pytest.raises(Exception, match=r"can only be read by Spark, because .*CSE-KMS"):
            table_of(spark, some(orchard)).select(udf("path")).collect()
    finally:
        spark.conf.unset(name)
    assert storage_of(spark).hadoops is None


def test_a_run_says_that_and_why_spark_reads(
    spark: SparkSession, folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    def run(output: str, **options: Any) -> pipeline.Summary:
        return pipeline.run(
            spark,
            folder,
            tmp_path / output,
            model=tiny_model,
            components=2,
            progress=False,
            **options,
        )

    by_paths, by_spark = run("paths"), run("spark", by_paths=False)
    assert by_spark.reading == {
        "way": "binaryFile",
        "reason": "requested by by_paths=False (--no-paths)",
    }
    assert by_paths.reading["way"] == "paths"
    rows = [
        spark.read.parquet(str(tmp_path / output / "features")).orderBy("path").collect()
        for output in ("paths", "spark")
    ]
    assert rows[0] == rows[1]
    # What one way has done, the other need not do again.
    assert run("spark").featurized == 0


@pytest.mark.parametrize(
    ("uri", "client", "reason"),
    [
        ("file:/photos", None, None),
        ("hdfs://nn/photos", None, "only Spark reads hdfs://"),
        ("s3a://b/photos", None, None),
        ("s3n://b/photos", f"{S3A}.S3AFileSystem", None),
        (
            "s3n://b/photos",
            "org.apache.hadoop.fs.LocalFileSystem",
            "the client of s3n:// is org.apache.hadoop.fs.LocalFileSystem",
        ),
        ("s3n://b/photos", "com.example.Other", "com.example.Other not found"),
    ],
)
def test_the_scheme_and_its_client_decide_who_reads(
    spark: SparkSession, uri: str, client: str | None, reason: str | None
) -> None:
    if client is not None:
        spark.conf.set("fs.s3n.impl", client)
    try:
        found = why_not_by_paths(spark, [uri], storage_from({}))
    finally:
        spark.conf.unset("fs.s3n.impl")
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {}),
        ({"endpoint": "s3.amazonaws.com"}, {}),
        ({"endpoint": "s3.eu-west-3.amazonaws.com"}, {"region": "eu-west-3"}),
        ({"endpoint": "https://s3-eu-west-1.amazonaws.com"}, {"region": "eu-west-1"}),
        (
            {"endpoint": "s3.dualstack.eu-west-3.amazonaws.com"},
            {"endpoint": "https://s3.dualstack.eu-west-3.amazonaws.com", "region": "eu-west-3"},
        ),
        ({"endpoint": "minio:9000"}, {"endpoint": "https://minio:9000"}),
        (
            {"endpoint": "minio:9000", "connection.ssl.enabled": "false"},
            {"endpoint": "http://minio:9000"},
        ),
        (
            {"endpoint": "http://minio", "endpoint.region": "r"},
            {"endpoint": "http://minio", "region": "r"},
        ),
        ({"path.style.access": "true"}, {"path_style": "true"}),
        ({"session.token": " t "}, {"session_token": "t"}),
        (
            {"aws.credentials.provider": f"{S3A}.AnonymousAWSCredentialsProvider"},
            {"credentials": "anonymous"},
        ),
        (
            {
                "aws.credentials.provider": f"{S3A}.TemporaryAWSCredentialsProvider,\n"
                f"{S3A}.SimpleAWSCredentialsProvider"
            },
            {"credentials": "keys"},
        ),
        (
            {"aws.credentials.provider": "com.amazonaws.auth.InstanceProfileCredentialsProvider"},
            {"credentials": "instance"},
        ),
        (
            {
                "aws.credentials.provider": f"{S3A}.SimpleAWSCredentialsProvider,"
                "software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider,"
                f"{S3A}.auth.IAMInstanceCredentialsProvider"
            },
            {"credentials": "chain"},
        ),
    ],
)
def test_hadoops_settings_are_understood(values: dict[str, str], expected: dict[str, str]) -> None:
    storage = storage_from({f"fs.s3a.{name}": value for name, value in values.items()})
    assert storage.hadoops is None
    assert storage.settings == {"": {"credentials": "chain", **expected}}


def test_a_buckets_settings_are_those_of_all_and_its_own() -> None:
    storage = storage_from(
        {
            "fs.s3a.access.key": "all",
            "fs.s3a.secret.key": "secret",
            "fs.s3a.bucket.my.bucket.endpoint": "minio",
            "fs.s3a.bucket.my.bucket.endpoint.region": "r",
            "fs.s3a.bucket.other.access.key": "own",
            "fs.s3a.bucket.third.fast.upload": "true",
        }
    )
    common = {"credentials": "chain", "access_key": "all", "secret_key": "secret"}
    assert storage.settings == {
        "": common,
        "my.bucket": {**common, "endpoint": "https://minio", "region": "r"},
        "other": {**common, "access_key": "own"},
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fs.s3a.encryption.algorithm", "SSE-C"),
        ("fs.s3a.aws.credentials.provider", "com.example.Vault"),
        ("fs.s3a.proxy.host", "proxy"),
        ("fs.s3a.bucket.b.requester.pays.enabled", "true"),
        ("fs.s3.cse.enabled", "true"),
        ("hadoop.security.credential.provider.path", "jceks://x"),
    ],
)
def test_settings_without_a_counterpart_are_the_reason(name: str, value: str) -> None:
    reason = storage_from({name: value}).hadoops
    assert reason is not None
    assert name in reason
    assert storage_from({"fs.s3a.requester.pays.enabled": "false"}).hadoops is None
    assert storage_from({"fs.s3a.encryption.algorithm": "SSE-KMS"}).hadoops is None


def test_keys_are_never_shown(spark: SparkSession, orchard: Orchard, tiny_model: Path) -> None:
    storage = storage_of(spark)
    assert PASSWORD in str(storage.settings)
    assert PASSWORD not in repr(storage)
    assert pickle.loads(pickle.dumps(storage)) == storage  # noqa: S301
    table = table_of(spark, some(orchard)).withColumn("f", featurize_udf(tiny_model)("path"))
    shown = table._jdf.queryExecution().toString()
    assert "featurize(path" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("on_error", ["null", "column"])
@pytest.mark.parametrize("option", ["concurrency", "max_bytes_in_flight", "timeout"])
def test_limits_of_nothing_are_refused(
    spark: SparkSession, tiny_model: Path, on_error: Any, option: str
) -> None:
    with pytest.raises(ValueError, match=f"{option} is 0: it must be above 0"):
        featurize_udf(tiny_model, on_error=on_error, **{option: 0})


@pytest.mark.skipif(sys.version_info < (3, 10), reason="this Python shows no such signatures")
def test_the_defaults_are_the_extensions_and_those_of_plans() -> None:
    own = inspect.signature(PathFeaturizer).parameters
    options = inspect.signature(featurize_udf).parameters
    for name in ("concurrency", "max_bytes_in_flight", "timeout"):
        assert options[name].default == own[name].default
    assert options["concurrency"].default == plan.CONCURRENCY


def test_a_path_of_another_storage_is_refused(spark: SparkSession, tiny_model: Path) -> None:
    with pytest.raises(Exception, match=r"can't read hdfs://nn/1\.jpg: photos are read by .* only"):
        featurized(table_of(spark, ["hdfs://nn/1.jpg"]), tiny_model)
