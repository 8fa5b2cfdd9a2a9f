"""The environment of EMR Serverless, unpacked in other folders by a Spark of the same version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import numpy as np
import pandas as pd
import pyspark
import pytest

import photos
from pomona import Featurizer
from services import JAVA_OPTIONS, Service
from spark_cluster import SPARK_HOME, Cluster

ROOT = Path(__file__).parents[2]
RELEASE = "emr-7.14.0"
PYTHON = "./environment/bin/python"

pytestmark = pytest.mark.skipif(
    not pyspark.__version__.startswith("3.5."), reason=f"{RELEASE} has Spark 3.5"
)


@pytest.fixture(scope="module")
def python39() -> Path:
    """The release's own Python, as it would be on the PATH of its image."""
    finder = ROOT / "python" / "tools" / "find_python.sh"
    found = subprocess.run([finder, "3.9"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"{RELEASE} has Python 3.9, which is not installed")
    return Path(found.stdout.strip())


@pytest.fixture(scope="module")
def archive() -> Path:
    """The archive, as `make serverless-run` uploads it."""
    built = ROOT / "target" / "environment" / f"{RELEASE}.tar.gz"
    assert built.exists(), f"{built} is missing: run `make {built.relative_to(ROOT)}`"
    return built


@pytest.fixture
def cluster(
    spark_environment: None, python39: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A cluster whose machines have this Python, and no packages."""
    monkeypatch.setenv("PATH", f"{python39.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for name in ("PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    running = Cluster(tmp_path)
    try:
        running.add_worker()
        yield running
    finally:
        running.stop()


def test_a_job_finds_everything_in_the_archive(
    cluster: Cluster, archive: Path, tiny_model: Path, tmp_path: Path
) -> None:
    images, output, driver = (tmp_path / name for name in ("Test", "results", "driver"))
    photos.render(images, classes=2, per_class=6, size=48)
    # EMR Serverless unpacks it for the driver too, which Spark alone does not do in client mode.
    (driver / "environment").mkdir(parents=True)
    subprocess.run(["tar", "-xzf", archive, "-C", driver / "environment"], check=True)
    shutil.copy(ROOT / "bootstrap" / "pomona_job.py", driver)

    command = [str(SPARK_HOME / "bin/spark-submit"), "--master", cluster.url]
    command += ["--driver-java-options", JAVA_OPTIONS, "--driver-memory", "512m"]
    for setting in (
        f"spark.executor.extraJavaOptions={JAVA_OPTIONS}",
        "spark.executor.memory=512m",
        "spark.ui.enabled=false",
        f"spark.archives={archive}#environment",
        f"spark.executorEnv.PYSPARK_PYTHON={PYTHON}",
    ):
        command += ["--conf", setting]
    command += ["pomona_job.py", "--images", str(images), "--output", str(output)]
    command += ["--model", str(tiny_model), "--components", "2"]
    # What spark.emr-serverless.driverEnv.* sets there.
    environment = {"PYSPARK_PYTHON": PYTHON, "PYSPARK_DRIVER_PYTHON": PYTHON}
    job = Service(
        ["sh", "-c", 'cd "$0" && exec "$@"', str(driver), *command],
        tmp_path / "job.log",
        {**cluster.env, **environment},
    )
    try:
        assert job.end() == 0, job.output
    finally:
        job.kill()

    unpacked = list(cluster.work_dir(0).glob("app-*/*/environment/bin/python"))
    assert len(unpacked) == 1, "Spark unpacked it for the executor"
    summary = json.loads((output / "summary.json").read_text())
    assert summary["versions"]["python"].startswith("3.9.")
    assert (summary["photos"], summary["errors"]) == (12, 0)
    rows = pd.concat(map(pd.read_parquet, sorted((output / "features").glob("part-*.parquet"))))
    paths = [path.replace("file:", "") for path in rows["path"]]
    expected = Featurizer(tiny_model).featurize([Path(path).read_bytes() for path in paths])
    np.testing.assert_array_equal(np.stack(rows["features"]), expected)
