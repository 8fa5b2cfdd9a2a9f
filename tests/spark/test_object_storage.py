"""Photos and results on S3, through the `s3a` client that belongs to each Spark's Hadoop."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.utils import AnalysisException

import photos
from lines import only_on
from pomona import Featurizer
from pomona.cli import main
from pomona.spark import _writer, read_features
from s3 import CLIENT_JARS, PASSWORD, USER, Door, S3Server, class_path
from services import JAVA_OPTIONS, Service, wait_until

# PySpark's vectors, with NumPy 1.19 and later.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

PHOTOS = 600
ALL = "s3a://fruits/Rep1/Test"
#: Enough for a run that is disturbed.
SOME_PHOTOS = 150
SOME = "s3a://fruits/Rep1/Some"
#: Of two of the eight tasks each, one for either core.
CHUNKS = 4
#: How often the SDK tries, which makes seconds. By itself it tries 20 times, for minutes, and also
#: with a wrong key: some SDKs take that for a clock that is off.
ATTEMPTS = 4
#: The bucket that only a door leads to, with a client that soon gives up.
BEHIND_DOOR = "behind-door"
#: As that, with a client that is as patient as it is by itself.
PATIENT = "patient"
#: The bucket of runs that are killed.
KILLED = "killed"
#: The bucket that we have a wrong key to.
LOCKED = "locked"

# A Spark of its own, with the chunks that this process has.
RUN = """
import sys
from pomona.cli import main
from pomona.spark import _writer, read_features
_writer.CHUNK_PHOTOS_PER_CORE = int(sys.argv[1])
sys.exit(main(["run", *sys.argv[2:]]))
"""


class S3:
    """The server with the photos in it, and how to get there."""

    def __init__(self, server: S3Server, door: Door, contents: dict[str, bytes]) -> None:
        self.server = server
        self.door = door
        #: The photos by URI.
        self.contents = contents

    @property
    def settings(self) -> dict[str, str]:
        """Settings of Hadoop."""
        address = "http://127.0.0.1:{}".format
        return {
            "fs.s3a.endpoint": address(self.server.port),
            "fs.s3a.endpoint.region": "us-east-1",
            "fs.s3a.path.style.access": "true",
            "fs.s3a.access.key": USER,
            "fs.s3a.secret.key": PASSWORD,
            f"fs.s3a.bucket.{LOCKED}.secret.key": "not this one",
            f"fs.s3a.bucket.{PATIENT}.endpoint": address(self.door.port),
            f"fs.s3a.bucket.{BEHIND_DOOR}.endpoint": address(self.door.port),
            "fs.s3a.attempts.maximum": str(ATTEMPTS),
            f"fs.s3a.bucket.{PATIENT}.attempts.maximum": "20",
            f"fs.s3a.bucket.{BEHIND_DOOR}.retry.limit": "2",
        }

    def finished_chunks(self, bucket: str) -> int:
        keys = self.server.keys(bucket, "out/features/_pomona/")
        return sum("/chunk-" in key and key.endswith("/_SUCCESS") for key in keys)


@pytest.fixture(scope="module")
def s3(
    spark: SparkSession, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    door = Door(server, tmp_path_factory.mktemp("door"))
    try:
        for bucket in ("fruits", BEHIND_DOOR, PATIENT, KILLED, LOCKED):
            server.create(bucket)
        contents = {}
        root = some_photos(tmp_path_factory)
        for path in sorted(root.rglob("*.jpg"))[:PHOTOS]:
            contents[f"{ALL}/{path.parent.name}/{path.name}"] = path.read_bytes()
        for uri, content in list(contents.items())[:: PHOTOS // SOME_PHOTOS]:
            contents[uri.replace(ALL, SOME)] = content
        for uri, content in contents.items():
            server.put("fruits", uri.split("/", 3)[3], content)
        server.put("fruits", "tiny.onnx", tiny_model.read_bytes())
        storage = S3(server, door, contents)
        hadoop = spark.sparkContext._jsc.hadoopConfiguration()
        for name, value in storage.settings.items():
            hadoop.set(name, value)
        yield storage
    finally:
        server.service.kill()
        door.shut()


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Small chunks, so that a run has a middle; the setting's value."""
    photos_per_core = SOME_PHOTOS // CHUNKS // 2
    monkeypatch.setattr(_writer, "CHUNK_PHOTOS_PER_CORE", photos_per_core)
    return photos_per_core


@pytest.mark.filterwarnings("default:.* has double slashes")
def test_a_run_from_s3_to_s3(
    s3: S3, spark: SparkSession, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("s3a://fruits/Rep1//Test", "s3a://fruits/out") == 0
    shown, complaint = capsys.readouterr()
    assert "pomona: warning: 's3a://fruits/Rep1//Test' has double slashes: " in complaint
    assert f"{PHOTOS} photos, 0 errors; {PHOTOS} featurized now" in shown
    check_features(s3, spark.read.parquet("s3a://fruits/out/features"), tiny_model, ALL)
    projected = spark.read.parquet("s3a://fruits/out/pca")
    assert projected.select("path").distinct().count() == PHOTOS
    assert len(PipelineModel.load("s3a://fruits/out/pca_model").stages) > 0
    assert json.loads(s3.server.get("fruits", "out/summary.json"))["k"] == 3
    left = s3.server.keys("fruits", "out/")
    assert not [key for key in left if "chunk-" in key or "_temporary" in key]

    s3.server.put("fruits", "Rep1/Test/New/new.jpg", next(iter(s3.contents.values())))
    try:
        assert run(ALL, "s3a://fruits/out") == 0
    finally:
        s3.server.delete("fruits", "Rep1/Test/New/new.jpg")
    assert f"{PHOTOS + 1} photos, 0 errors; 1 featurized now" in capsys.readouterr().out


@only_on("3.1")
def test_a_report_of_results_on_s3_is_written_beside_them(
    s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    one_class = min(s3.contents).rpartition("/")[0]
    assert run(one_class, "s3a://fruits/told") == 0
    capsys.readouterr()
    assert main(["report", "s3a://fruits/told", "--sample", "6"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("s3a://fruits/told/report/index.html: a sample of 6 photos of ")
    keys = s3.server.keys("fruits", "told/report/")
    assert third.startswith("findings.csv next to it: ")
    written = ["index.html", "findings.csv", *second.partition(": ")[2].split(", ")]
    assert sorted(keys) == sorted(f"told/report/{name}" for name in written)
    assert s3.server.get("fruits", "told/report/index.html").rstrip().endswith(b"</html>")
    assert s3.server.get("fruits", "told/report/photos.png").startswith(b"\x89PNG")


@pytest.mark.parametrize("role", ["images", "output", "model"])
@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        (
            f"s3a://{LOCKED}/key",
            "(access denied|does not accept the credentials).*: check the credentials",
        ),
        ("s3a://no-such-bucket/key", "no such bucket.*: check its name"),
        ("s3://fruits/key", "use s3a://"),
    ],
)
def test_what_s3_refuses_is_one_line_that_says_where_and_what_to_do(
    s3: S3, capsys: pytest.CaptureFixture[str], role: str, uri: str, hint: str
) -> None:
    given = {"images": ALL, "output": "s3a://fruits/refused"}
    assert run(**{**given, role: uri}) == 1
    message = capsys.readouterr().err
    assert message.startswith("pomona: ")
    assert message.count("\n") == 1
    assert uri in message
    assert re.search(hint, message)


def test_a_prefix_that_is_not_there_is_named_and_the_output_left_alone(
    s3: S3, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.server.put("fruits", "earlier/summary.json", b"{}")
    assert run("s3a://fruits/Tset", "s3a://fruits/earlier") == 1
    assert "does not exist: s3a://fruits/Tset" in capsys.readouterr().err
    assert s3.server.keys("fruits", "earlier/") == ["earlier/summary.json"]


@only_on("3.5")
def test_a_server_that_dies_ends_the_run_and_the_next_run_goes_on(
    s3: S3, spark: SparkSession, tiny_model: Path, chunks: int, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"s3a://{BEHIND_DOOR}/out"
    # So that there is time to shut it before the last chunk; the next one that opens has none.
    s3.door.trouble(delay=0.05)
    with ThreadPoolExecutor(1) as pool:
        shut = pool.submit(shut_after_a_chunk, s3, BEHIND_DOOR)
        code = run(SOME, output)
        shut.result()
    s3.door.open()
    assert code == 1
    message = capsys.readouterr().err.splitlines()[-1]
    # Who notices first, a task of Spark's or the driver between two chunks, is a matter of luck.
    assert re.match(
        "pomona: (Spark failed|cannot .*behind-door.*): the server does not answer: ", message
    )

    assert 0 < s3.finished_chunks(BEHIND_DOOR) < CHUNKS
    assert run(SOME, output) == 0
    assert f"{SOME_PHOTOS} photos, 0 errors; " in capsys.readouterr().out
    check_features(s3, spark.read.parquet(f"{output}/features"), tiny_model, SOME)
    summary = json.loads(s3.server.get(BEHIND_DOOR, "out/summary.json"))
    assert 0 < summary["featurized"] < SOME_PHOTOS


def test_a_server_that_is_away_for_a_moment_is_waited_for(
    s3: S3, spark: SparkSession, tiny_model: Path, chunks: int
) -> None:
    output = f"s3a://{PATIENT}/out"
    with ThreadPoolExecutor(1) as pool:
        opened = pool.submit(lambda: (shut_after_a_chunk(s3, PATIENT), s3.door.open()))
        code = run(SOME, output)
        opened.result()
    assert code == 0
    check_features(s3, spark.read.parquet(f"{output}/features"), tiny_model, SOME)


@only_on("4.0")
def test_a_driver_killed_on_s3_leaves_the_set_before_or_none(
    s3: S3, spark: SparkSession, tiny_model: Path, tmp_path: Path, chunks: int
) -> None:
    images, output = SOME, f"s3a://{KILLED}/out"
    written = f"{output}/features"

    first = start_process(s3, tmp_path / "first.log", chunks, arguments(images, output))
    try:
        first.wait_for(lambda: s3.finished_chunks(KILLED) >= 2, "finish two chunks")
    finally:
        first.kill()
    assert visible(s3) == []
    with pytest.raises(AnalysisException):
        spark.read.parquet(written)

    assert run(images, output) == 0
    summary = json.loads(s3.server.get(KILLED, "out/summary.json"))
    assert summary["photos"] == SOME_PHOTOS
    assert 0 < summary["featurized"] < SOME_PHOTOS
    check_features(s3, spark.read.parquet(written), tiny_model, SOME)

    before = visible(s3)
    command = [*arguments(images, output), "--no-resume"]
    again = start_process(s3, tmp_path / "again.log", chunks, command)
    try:
        again.wait_for(lambda: s3.finished_chunks(KILLED), "finish a chunk")
        assert visible(s3) == before
        # The one comes before the other.
        again.wait_for(
            lambda: (
                s3.server.keys(KILLED, "out/features/_temporary/") or set(visible(s3)) - set(before)
            ),
            "publish the features",
        )
    finally:
        again.kill()
    assert "out/features/_SUCCESS" not in visible(s3)
    check_features(s3, read_features(spark, written), tiny_model, SOME)

    assert run(images, output) == 0
    check_features(s3, spark.read.parquet(written), tiny_model, SOME)


def run(images: str, output: str, model: str = "s3a://fruits/tiny.onnx") -> int:
    return main(["run", *arguments(images, output, model)])


def arguments(images: str, output: str, model: str = "s3a://fruits/tiny.onnx") -> list[str]:
    return ["--images", images, "--output", output, "--model", model, "--components", "3"]


def start_process(s3: S3, log: Path, chunks: int, command: list[str]) -> Service:
    """Start `pomona run` in a process that can be killed."""
    options = ["--master", "local[2]", "--driver-class-path", class_path(CLIENT_JARS)]
    options += ["--driver-java-options", JAVA_OPTIONS, "--conf", "spark.ui.enabled=false"]
    for name, value in s3.settings.items():
        options += ["--conf", f"spark.hadoop.{name}={value}"]
    submit = " ".join(map(shlex.quote, [*options, "pyspark-shell"]))
    env = {**os.environ, "PYSPARK_SUBMIT_ARGS": submit}
    return Service([sys.executable, "-c", RUN, str(chunks), *command], log, env)


def visible(s3: S3) -> list[str]:
    """The objects that readers of the features take for theirs, and the mark of a finished set."""
    keys = s3.server.keys(KILLED, "out/features/")
    return [key for key in keys if key.count("/") == 2 and not key.endswith("/")]


def shut_after_a_chunk(s3: S3, bucket: str) -> None:
    wait_until(lambda: s3.finished_chunks(bucket), "the run to finish a chunk")
    s3.door.shut()


def check_features(s3: S3, table: DataFrame, model: Path, images: str) -> None:
    rows = table.select("path", "label", "features").toPandas().sort_values("path")
    assert list(rows["path"]) == sorted(uri for uri in s3.contents if uri.startswith(images))
    assert list(rows["label"]) == [path.split("/")[-2] for path in rows["path"]]
    expected = Featurizer(model).featurize([s3.contents[path] for path in rows["path"]])
    np.testing.assert_allclose(np.stack(rows["features"]), expected, rtol=1e-6)


def some_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real photos where there are some, else rendered ones."""
    real = os.environ.get("POMONA_PHOTOS")
    if real:
        return Path(real) / "fruits-360-100x100" / "Test"
    folder = tmp_path_factory.mktemp("rendered")
    photos.render(folder, classes=12, per_class=PHOTOS // 12, size=48)
    return folder
