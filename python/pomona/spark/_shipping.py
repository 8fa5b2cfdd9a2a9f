"""Sends models to the executors, and loads them there.

The driver adds the model file to Spark's own file distribution, under a name derived from its
content; a UDF carries only that name and the checksum. Each Python worker verifies its executor's
copy once and keeps the session that it builds from it for all its tasks. Executors need neither
internet access nor ``$POMONA_HOME``.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pyspark import SparkContext, SparkFiles

from pomona import Featurizer, ModelError
from pomona.models.store import resolve, sha256_of
from pomona.spark._hadoop import HADOOP_ERRORS, why

if TYPE_CHECKING:
    from pomona import DecodeOptions

_URI = re.compile("[A-Za-z][A-Za-z0-9+.-]*:/")
_UNSAFE_IN_NAMES = re.compile("[^A-Za-z0-9_.-]+")


class ShippedModel(NamedTuple):
    """A model as the closure of a UDF refers to it."""

    #: The name in the model's metadata.
    name: str
    #: The name of the distributed file, which differs for two models of the same name.
    file: str
    #: Checksum of the file, hexadecimal.
    sha256: str


def active_context() -> SparkContext:
    """Return the running SparkContext, or raise RuntimeError."""
    context = SparkContext._active_spark_context
    if context is None:
        raise RuntimeError(
            "no Spark session is running: start one with SparkSession.builder.getOrCreate()"
        )
    return context


def threads_per_task(context: SparkContext) -> int:
    """Return the number of threads that a task may use: the cores that Spark reserves for it."""
    return int(context.getConf().get("spark.task.cpus", "1"))


def ship(context: SparkContext, model: str | os.PathLike[str]) -> ShippedModel:
    """Send a model to every executor, including future ones.

    The model is the name of a pulled one, a path on the driver, or a URI of a file system that
    Spark's Hadoop knows.
    """
    with tempfile.TemporaryDirectory(prefix="pomona-", dir=context._temp_dir) as folder:
        copy = Path(folder, "model.onnx")
        name = _fetch(context, os.fspath(model), copy)
        sha256 = sha256_of(copy)
        shipped = ShippedModel(
            name, f"{_UNSAFE_IN_NAMES.sub('_', name)}-{sha256[:16]}.onnx", sha256
        )
        # Executors fetch this file when they start, so it exists as long as the application. It is
        # a copy, because the user may replace the original in the meantime.
        served = shipped_path(context, shipped)
        if not served.exists():
            copy.replace(served)
            context.addFile(str(served))
    return shipped


def shipped_path(context: SparkContext, model: ShippedModel) -> Path:
    """Return the driver's copy of a shipped model, which exists as long as the application."""
    return Path(context._temp_dir, model.file)


def save(context: SparkContext, model: ShippedModel, folder: str) -> None:
    """Copy a shipped model into a folder on any Hadoop file system."""
    hadoop = context._jvm.org.apache.hadoop.fs
    target = hadoop.Path(folder, model.file)
    file_system = target.getFileSystem(context._jsc.hadoopConfiguration())
    source = hadoop.Path(f"file://{shipped_path(context, model)}")
    file_system.copyFromLocalFile(False, True, source, target)


def restore(context: SparkContext, folder: str, file: str, sha256: str) -> ShippedModel:
    """Ship a model that `save` wrote, or raise ModelError if the file is not the saved one."""
    path = context._jvm.org.apache.hadoop.fs.Path(folder, file)
    file_system = path.getFileSystem(context._jsc.hadoopConfiguration())
    uri = file_system.makeQualified(path).toString()
    model = ship(context, uri)
    if model.sha256 != sha256:
        raise ModelError(
            f"model {uri} is damaged: its sha256 is {model.sha256}, but {sha256} was saved"
        )
    return model


@functools.lru_cache(maxsize=2)
def load(model: ShippedModel, threads: int, decode: DecodeOptions) -> Featurizer:
    """Build this Python worker's session for a model and options; later calls return the same."""
    path = Path(SparkFiles.get(model.file))
    name = f"model {model.name} on executor {socket.gethostname()}: {path}"
    wanted = (
        f"expected sha256 {model.sha256}; restart the executor or the application to send the "
        "model again"
    )
    try:
        size, found = path.stat().st_size, sha256_of(path)
    except OSError as error:
        raise ModelError(f"{name} cannot be read: {error.strerror}; {wanted}") from error
    if found != model.sha256:
        raise ModelError(f"{name} is damaged: {size} bytes with sha256 {found}; {wanted}")
    return Featurizer(path, threads=threads, **decode.keywords())


def _fetch(context: SparkContext, model: str, target: Path) -> str:
    """Copy a model to the driver's disk, check it against the contract and return its name."""
    if not _URI.match(model):
        source = _resolve(context, model)
        name = Featurizer(source).model_name
        shutil.copyfile(source, target)
        return name
    hadoop = context._jvm.org.apache.hadoop.fs
    try:
        uri = hadoop.Path(model)
        file_system = uri.getFileSystem(context._jsc.hadoopConfiguration())
        # The raw local file system writes no .crc file next to the target.
        file_system.copyToLocalFile(False, uri, hadoop.Path(f"file://{target}"), True)
        return Featurizer(target).model_name
    except HADOOP_ERRORS as error:
        raise ModelError(f"model {model} cannot be read: {why(error)}") from error
    except ModelError as error:
        raise ModelError(f"model {model}: {error}") from error


def _resolve(context: SparkContext, model: str) -> str:
    """Find a model on the driver's machine; in cluster mode, an error explains which that is."""
    try:
        return resolve(model)
    except ModelError as error:
        if context.getConf().get("spark.submit.deployMode") != "cluster":
            raise
        raise ModelError(
            f"{error} In cluster mode, models are looked up on the node that runs the driver, not "
            "on the machine that submitted it: use an s3:// or hdfs:// URI, or send the file with "
            "spark-submit --files FILE.onnx and use its name, FILE.onnx"
        ) from error
