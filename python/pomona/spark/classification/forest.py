"""Random forests as a stage of Spark ML pipelines, small enough for many classes."""

# ruff: noqa: N802 (Spark ML has camelCase methods)

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
)
from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql.functions import col, pandas_udf

from pomona.results.forest import FILE, Forest, of_parquet
from pomona.spark._hadoop import Folder
from pomona.spark._session import active_session, session_of

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class ForestModel(
    Transformer,
    HasFeaturesCol,
    HasLabelCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
    MLReadable,
    MLWritable,
):
    """Predict classes with a random forest: Spark's columns of one, computed with numpy.

    The columns are ``rawPredictionCol``, a vector of votes; ``probabilityCol``, a vector of their
    shares; and ``predictionCol``, the index of the class with the most votes. The forest is sent to
    each executor once.

    Parameters
    ----------
    forest : Forest, optional
        The nodes. Only a stage that is being loaded has none.
    """

    def __init__(self, forest: Forest | None = None) -> None:
        super().__init__()
        self._forest = forest

    @property
    def forest(self) -> Forest:
        """The nodes."""
        if self._forest is None:
            raise ValueError("this ForestModel has no forest: load it from where it was saved")
        return self._forest

    @property
    def numFeatures(self) -> int:
        """Length of the vectors that it takes."""
        return self.forest.features

    @property
    def numClasses(self) -> int:
        """Number of classes."""
        return self.forest.kinds

    def write(self) -> MLWriter:
        """Return a writer that saves this stage with its nodes."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[ForestModel]:
        """Return a reader of saved stages."""
        return _Reader(cls)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        shared = session_of(dataset).sparkContext.broadcast(tuple(self.forest))

        def vote(features: pd.Series) -> pd.DataFrame:
            votes = Forest(*shared.value).apply(np.stack(features.to_numpy()))
            shares = votes / votes.sum(axis=1, keepdims=True)
            columns = {"votes": list(votes), "shares": list(shares)}
            return pd.DataFrame({**columns, "most": votes.argmax(axis=1).astype(np.float64)})

        # Objects, because Spark 3.1 does not understand annotations that are text.
        vote.__annotations__ = {"features": pd.Series, "return": pd.DataFrame}
        schema = "votes array<double>, shares array<double>, most double"
        result = f"{self.uid}__result"
        # Spark would compute what is deterministic again for each of the three columns.
        voted = pandas_udf(vote, schema).asNondeterministic()
        table = dataset.withColumn(result, voted(vector_to_array(self.getFeaturesCol())))
        for name, column in (
            (self.getRawPredictionCol(), array_to_vector(col(f"{result}.votes"))),
            (self.getProbabilityCol(), array_to_vector(col(f"{result}.shares"))),
            (self.getPredictionCol(), col(f"{result}.most")),
        ):
            table = table.withColumn(name, column)
        return table.drop(result)


class _Writer(DefaultParamsWriter):
    """Saves the parameters as Python stages do, and the nodes as Parquet."""

    def saveImpl(self, path: str) -> None:
        numbers = {
            "numFeatures": self.instance.numFeatures,
            "numClasses": self.instance.numClasses,
        }
        self.saveMetadata(self.instance, path, self.sc, extraMetadata=numbers)
        (Folder(active_session(), path) / "data" / FILE).write_bytes(self.instance.forest.parquet())


class _Reader(DefaultParamsReader):
    """Loads the parameters as Python stages do, and the nodes."""

    def load(self, path: str) -> ForestModel:
        model: ForestModel = super().load(path)
        metadata = self.loadMetadata(path, self.sc)
        content = (Folder(active_session(), path) / "data" / FILE).read_bytes()
        numbers = metadata["numFeatures"], metadata["numClasses"]
        model._forest = of_parquet(content, *numbers, model.getFeaturesCol())
        return model
