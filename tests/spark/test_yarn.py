"""`bootstrap/pomona_job.py` under spark-submit on YARN, with everything on HDFS."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Iterator

import pandas as pd
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession
from test_cluster import JOB, check_features

import photos
from keeper import Kept
from services import Service
from yarn import SPARK_HOME, MiniCluster

ALL = "/fruits"
CLASSES, PER_CLASS = 3, 7
#: A folder as people name theirs.
ACCENTED = "Pomme d'été, rouge"


@pytest.fixture(scope="module")
def images(yarn: MiniCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that are on HDFS too, one of them broken."""
    folder = tmp_path_factory.mktemp("fruits") / "photos"
    rendered = photos.render(folder, classes=CLASSES, per_class=PER_CLASS)
    photos.break_one(rendered)
    rendered[0].parent.rename(folder / ACCENTED)
    yarn.put(folder, ALL)
    return folder


@pytest.fixture
def runs(yarn: MiniCluster, tmp_path: Path) -> Iterator[Runs]:
    submitted = Runs(yarn, tmp_path)
    yield submitted
    for service in submitted.services:
        service.kill()


class Runs:
    """What a test submits, from a machine with models of its own."""

    def __init__(self, yarn: MiniCluster, folder: Path) -> None:
        self.services: list[Service] = []
        self.models = folder / "models"
        self._folder = folder
        self._env = yarn.environment(folder / "conf", yarn.spark_settings())
        self._env["POMONA_HOME"] = str(self.models)

    def submit(self, mode: str, *arguments: str, options: tuple[str, ...] = ()) -> Service:
        command = [str(SPARK_HOME / "bin/spark-submit"), "--master", "yarn", "--deploy-mode", mode]
        command += [*options, str(JOB), *arguments, "--components", "3"]
        service = Kept(command, self._folder / "spark-submit.log", self._env)
        self.services.append(service)
        return service


def test_client_mode_with_a_model_of_the_drivers(
    yarn: MiniCluster, runs: Runs, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    runs.models.mkdir()
    (runs.models / "mine.onnx").write_bytes(tiny_model.read_bytes())
    run = runs.submit("client", "--images", ALL, "--output", "/from-client", "--model", "mine")
    assert run.end() == 0, run.output
    assert f"{CLASSES * PER_CLASS + 1} photos, 1 error; " in run.output
    assert outcome(yarn) == ("pomona run", "SUCCEEDED")
    assert re.search(r"Fetching spark://\S+/tiny-\w+\.onnx", yarn.logs()), "Spark brought the model"
    check_results(yarn, "/from-client", images, tiny_model, tmp_path)


def test_cluster_mode_with_a_model_on_hdfs(
    yarn: MiniCluster,
    runs: Runs,
    images: Path,
    tiny_model: Path,
    tmp_path: Path,
    spark: SparkSession,
) -> None:
    yarn.put(tiny_model, "/models/tiny.onnx")
    run = runs.submit(
        "cluster",
        "--images",
        ALL,
        "--output",
        "/from-cluster",
        "--model",
        "hdfs:///models/tiny.onnx",
    )
    what = f"Pomona: featurize {CLASSES * PER_CLASS + 1} photos, chunk 1 of 1"
    run.wait_for(
        lambda: what in yarn.spark_jobs(), f"show {what} in Spark's UI, behind YARN's proxy"
    )
    assert run.end() == 0, run.output
    assert outcome(yarn) == (JOB.name, "SUCCEEDED")
    assert f"{CLASSES * PER_CLASS + 1} photos, 1 error; " in yarn.logs()
    results = check_results(yarn, "/from-cluster", images, tiny_model, tmp_path)
    model = PipelineModel.load(str(results / "pca_model"))
    assert model.stages[-1].getK() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "/no such folder"], "pomona: .*/no such folder"),
        (["--images", ALL, "--model", "mine"], "pomona: .*'mine'.* In cluster mode, .* --files"),
    ],
    ids=["no photos", "a model that only the submitting machine has"],
)
def test_a_run_that_fails_in_cluster_mode_fails_its_application(
    yarn: MiniCluster, runs: Runs, images: Path, arguments: list[str], message: str
) -> None:
    run = runs.submit("cluster", *arguments, "--output", "/nowhere")
    assert run.end() == 1
    assert outcome(yarn) == (JOB.name, "FAILED")
    assert "exited with status 1" in yarn.last_application().getDiagnostics()
    lines = yarn.logs().splitlines()
    (said,) = [line for line in lines if line.startswith("pomona: ")]
    assert re.match(message, said), said
    assert not yarn.exists("/nowhere")


def outcome(yarn: MiniCluster) -> tuple[str, str]:
    """Name and status of the last application, as YARN lists it."""
    report = yarn.last_application()
    return report.getName(), report.getFinalApplicationStatus().toString()


def check_results(yarn: MiniCluster, output: str, images: Path, model: Path, folder: Path) -> Path:
    """Compare a run's results with what a Featurizer makes of the same photos."""
    results = yarn.get(output, folder / "results")
    features, pca = (table(results / name) for name in ("features", "pca"))
    failed = features[features["error"].notnull()]
    assert list(failed["path"]) == [f"{yarn.hdfs}{ALL}/{ACCENTED}/r0_cut.jpg"]
    assert "truncated" in failed["error"].iloc[0]
    whole = features[features["error"].isnull()]
    uris = [f"{yarn.hdfs}{ALL}/{path.relative_to(images)}" for path in images.rglob("r0_[0-9]*")]
    assert sorted(whole["path"]) == sorted(pca["path"]) == sorted(uris)
    check_features(whole, model, images)
    assert {len(row) for row in pca["pca"]} == {3}
    summary = json.loads((results / "summary.json").read_text())
    assert (summary["photos"], summary["errors"], summary["k"]) == (len(features), 1, 3)
    assert summary["reading"] == {"way": "binaryFile", "reason": "only Spark reads hdfs://"}
    return results


def table(folder: Path) -> pd.DataFrame:
    return pd.concat(map(pd.read_parquet, sorted(folder.glob("part-*.parquet"))))
