"""A run on a cluster of Spark's own, whose processes are killed while it goes on.

The cluster is one master and two workers of one core each, all on this machine, in client mode:
Spark's standalone clusters have no cluster mode for Python.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Iterator

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import helper, numpy_helper

import photos
from lines import only_on
from pomona import Featurizer
from services import JAVA_OPTIONS, Service, children
from spark_cluster import SPARK_HOME, Cluster

JOB = Path(__file__).parents[2] / "bootstrap" / "pomona_job.py"
PHOTOS = 192
#: Together some 20 ms of a core for each photo, so that a run has a middle.
SLOW_MODEL_SIDE = 160
SLOW_MODEL_LAYERS = 60


@pytest.fixture
def cluster(spark_environment: None, tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    try:
        running.add_worker()
        running.add_worker()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    photos.render(folder, classes=12, per_class=PHOTOS // 12, size=48)
    return folder


@only_on("3.5")
def test_a_run_outlives_an_executor_and_a_worker(
    cluster: Cluster, images: Path, tiny_model: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    make_slow_model(tiny_model, models / "slow.onnx")
    output = tmp_path / "results"
    first, second = cluster.workers
    command = [str(SPARK_HOME / "bin/spark-submit"), "--master", cluster.url]
    command += ["--driver-java-options", JAVA_OPTIONS, "--driver-memory", "512m"]
    command += ["--conf", f"spark.executor.extraJavaOptions={JAVA_OPTIONS}"]
    command += ["--conf", "spark.executor.memory=512m", "--conf", "spark.ui.enabled=false"]
    command += [str(JOB), "--images", str(images), "--output", str(output), "--model", "slow"]
    command += ["--components", "3"]
    run = Service(command, tmp_path / "run.log", {**cluster.env, "POMONA_HOME": str(models)})
    try:
        run.wait_for(lambda: is_there(output, "part-*.parquet"), "write the first photos")
        (executor,) = run.wait_for(lambda: children(first.pid), "have an executor on each worker")
        os.kill(executor, signal.SIGKILL)
        run.wait_for(lambda: set(children(first.pid)) - {executor}, "get another executor")
        run.wait_for(lambda: is_there(output, "task_*"), "finish the first photos")
        second.kill()
        assert not (output / "features" / "_SUCCESS").exists(), "the run was over too soon"
        assert run.end() == 0, run.output
    finally:
        run.kill()

    assert f"{PHOTOS} photos, 0 errors; " in run.output
    for worker in range(2):
        assert list(cluster.work_dir(worker).rglob("*.onnx")), "Spark brought the model"
    rows = pd.concat(map(pd.read_parquet, sorted((output / "features").glob("part-*.parquet"))))
    assert sorted(rows["path"]) == sorted(f"file:{path}" for path in images.rglob("*.jpg"))
    check_features(rows, models / "slow.onnx", images)


def check_features(rows: pd.DataFrame, model: Path, images: Path) -> None:
    featurizer = Featurizer(model)
    for label, group in rows.groupby("label"):
        paths = [images / label / path.rpartition("/")[2] for path in group["path"]]
        expected = featurizer.featurize([path.read_bytes() for path in paths])
        np.testing.assert_allclose(np.stack(group["features"]), expected, rtol=1e-5, atol=1e-6)


def make_slow_model(tiny: Path, target: Path) -> None:
    """Put layers between the first and the last of the tiny model, and larger images before it."""
    model = onnx.load(str(tiny))
    graph = model.graph
    for side in graph.input[0].type.tensor_type.shape.dim[1:3]:
        side.dim_value = SLOW_MODEL_SIDE
    channels = graph.output[0].type.tensor_type.shape.dim[1].dim_value
    # Of such a variance that the last layer's features are about as large as the first one's.
    deviation = np.sqrt(2 / (9 * channels))
    kernel = np.random.RandomState(0).normal(scale=deviation, size=(channels, channels, 3, 3))
    graph.initializer.append(numpy_helper.from_array(kernel.astype(np.float32), "mixer"))
    place = [node.op_type for node in graph.node].index("GlobalAveragePool")
    last = graph.node[place].input[0]
    for number in range(SLOW_MODEL_LAYERS):
        mixed, active = f"mixed{number}", f"active{number}"
        conv = helper.make_node("Conv", [last, "mixer"], [mixed], pads=[1, 1, 1, 1])
        graph.node.insert(place, conv)
        graph.node.insert(place + 1, helper.make_node("Relu", [mixed], [active]))
        place, last = place + 2, active
    graph.node[place].input[0] = last
    onnx.save(model, str(target))


def is_there(folder: Path, pattern: str) -> bool:
    """Look for a file or folder at any depth, while Spark moves some away."""
    with suppress(FileNotFoundError):
        return any(folder.rglob(pattern))
    return False
