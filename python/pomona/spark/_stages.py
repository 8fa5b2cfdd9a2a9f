"""Saves pipelines of Spark ML from the driver: Spark runs a job or two for each of their stages."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Sequence

from pomona.results import spark_ml

if TYPE_CHECKING:
    from pomona.results.spark_ml import Stage
    from pomona.spark._hadoop import Folder


def save_stages(home: Folder, stages: Sequence[Stage]) -> None:
    """Save a pipeline that ``PipelineModel.load`` reads, in place of whatever is in the folder."""
    with TemporaryDirectory() as here:
        spark_ml.save(Path(here, "pipeline"), stages, engine="spark")
        home.replace_by(Path(here, "pipeline"))
