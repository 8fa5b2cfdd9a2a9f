"""Photos to feature vectors as a stage of Spark ML pipelines."""

# ruff: noqa: N802, N803, N815 (Spark ML has camelCase Params and methods)

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyspark import keyword_only
from pyspark.ml import Transformer
from pyspark.ml.functions import array_to_vector
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasHandleInvalid, HasInputCol, HasOutputCol
from pyspark.ml.util import (
    DefaultParamsReader,
    DefaultParamsWriter,
    MLReadable,
    MLReader,
    MLWritable,
    MLWriter,
)
from pyspark.sql.functions import array, coalesce, col, lit, when
from pyspark.sql.types import BinaryType

from pomona.spark._shipping import restore, save, ship, shipped_path
from pomona.spark.udf import featurize_struct_udf, featurize_udf

if TYPE_CHECKING:
    from typing import Literal

    from pyspark.sql import DataFrame

_HANDLE_INVALID = ("keep", "skip", "error")


def _to_path(value: Any) -> str:
    return TypeConverters.toString(os.fspath(value))


def _to_handle_invalid(value: Any) -> str:
    if value not in _HANDLE_INVALID:
        raise ValueError(f"handleInvalid is {value!r}: it must be one of {_HANDLE_INVALID}")
    return str(value)


class ImageFeaturizer(
    Transformer, HasInputCol, HasOutputCol, HasHandleInvalid, MLReadable, MLWritable
):
    """Turn a column of photos into a column of feature vectors.

    A pure-Python Transformer for use alone or in a `Pipeline`, with which it is saved and loaded:
    what is saved includes the model, so it can be loaded by other applications and on other
    machines (which need this package).

    Parameters
    ----------
    inputCol : str, default "content"
        Column of encoded photos, binary.
    outputCol : str, default "features"
        Column to add: an ML vector of one double per feature. The values are float32.
    errorCol : str, optional
        Column to add: why a photo could not be read, null where it could.
    model : str or path, default "mobilenet_v2"
        A pulled model's name, a path on the driver, or a URI (``s3://``, ``s3a://``, ``hdfs://``).
    handleInvalid : {"keep", "skip", "error"}, default "keep"
        What becomes of a photo that cannot be read: it stays, with null in `outputCol`; its row is
        left out; or the job fails with an error that names the photo, by the column ``path`` if
        there is one. Most estimators refuse vectors of null, so put ``"skip"`` before them; it
        leaves out rows without a photo as well.

    Examples
    --------
    >>> from pyspark.ml import Pipeline
    >>> from pyspark.ml.feature import PCA
    >>> featurizer = ImageFeaturizer(model="mobilenet_v2", handleInvalid="skip")  # doctest: +SKIP
    >>> pca = PCA(k=50, inputCol="features", outputCol="pca")  # doctest: +SKIP
    >>> model = Pipeline(stages=[featurizer, pca]).fit(photos)  # doctest: +SKIP
    >>> model.write().save("s3://fruits/pipeline")  # doctest: +SKIP
    """

    errorCol: Param[str] = Param(
        Params._dummy(),
        "errorCol",
        "column for the reason why a photo could not be read; without it there is no such column",
        typeConverter=TypeConverters.toString,
    )
    model: Param[str] = Param(
        Params._dummy(),
        "model",
        "a pulled model's name, a path on the driver, or a URI (s3://, s3a://, hdfs://)",
        typeConverter=_to_path,
    )
    handleInvalid: Param[str] = Param(
        Params._dummy(),
        "handleInvalid",
        "what becomes of a photo that cannot be read: keep (null vector), skip (no row) or error "
        "(the job fails and names the photo)",
        typeConverter=_to_handle_invalid,
    )

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "content",
        outputCol: str = "features",
        errorCol: str | None = None,
        model: str | os.PathLike[str] = "mobilenet_v2",
        handleInvalid: Literal["keep", "skip", "error"] = "keep",
    ) -> None:
        super().__init__()
        self._setDefault(
            inputCol="content", outputCol="features", model="mobilenet_v2", handleInvalid="keep"
        )
        self._set_given()

    @keyword_only
    def setParams(
        self,
        *,
        inputCol: str = "content",
        outputCol: str = "features",
        errorCol: str | None = None,
        model: str | os.PathLike[str] = "mobilenet_v2",
        handleInvalid: Literal["keep", "skip", "error"] = "keep",
    ) -> ImageFeaturizer:
        """Set the given parameters, and leave the others."""
        return self._set_given()

    def setInputCol(self, value: str) -> ImageFeaturizer:
        """Set `inputCol`."""
        return self._set(inputCol=value)

    def setOutputCol(self, value: str) -> ImageFeaturizer:
        """Set `outputCol`."""
        return self._set(outputCol=value)

    def setErrorCol(self, value: str) -> ImageFeaturizer:
        """Set `errorCol`."""
        return self._set(errorCol=value)

    def getErrorCol(self) -> str:
        """Get `errorCol`."""
        return self.getOrDefault(self.errorCol)

    def setModel(self, value: str | os.PathLike[str]) -> ImageFeaturizer:
        """Set `model`."""
        return self._set(model=value)

    def getModel(self) -> str:
        """Get `model`."""
        return self.getOrDefault(self.model)

    def setHandleInvalid(self, value: Literal["keep", "skip", "error"]) -> ImageFeaturizer:
        """Set `handleInvalid`."""
        return self._set(handleInvalid=value)

    def write(self) -> MLWriter:
        """Return a writer that saves this stage with its model."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[ImageFeaturizer]:
        """Return a reader of saved stages."""
        return _Reader(cls)

    def _set_given(self) -> ImageFeaturizer:
        # Spark would keep a None as a value.
        given = {name: value for name, value in self._input_kwargs.items() if value is not None}
        return self._set(**given)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check_columns(dataset)
        # Without quotes, a dot would lead into a struct.
        photo = dataset["`{}`".format(self.getInputCol().replace("`", "``"))]
        result = f"{self.uid}__result"
        if self.getHandleInvalid() == "error":
            featurize = featurize_udf(self.getModel(), on_error="raise")
            named = "path" in dataset.columns
            features = featurize(photo, dataset["path"]) if named else featurize(photo)
            table = dataset.withColumn(result, features)
            features, error = col(result), lit(None).cast("string")
        else:
            table = dataset.withColumn(result, featurize_struct_udf(self.getModel())(photo))
            features, error = col(f"{result}.features"), col(f"{result}.error")
        if self.getHandleInvalid() == "skip":
            table = table.where(features.isNotNull())
        # Spark's array_to_vector fails on null, and behind a condition as well: of a vector that
        # later stages use twice, Spark computes the common part first.
        there = coalesce(features, array().cast("array<float>"))
        vector = when(features.isNotNull(), array_to_vector(there))
        table = table.withColumn(self.getOutputCol(), vector)
        if self.isDefined(self.errorCol):
            table = table.withColumn(self.getErrorCol(), error)
        return table.drop(result)

    def _check_columns(self, dataset: DataFrame) -> None:
        name = self.getInputCol()
        types = {field.name: field.dataType for field in dataset.schema}
        if name not in types:
            raise ValueError(f"there is no column {name} among {', '.join(types)}: set inputCol")
        if types[name] != BinaryType():
            raise TypeError(
                f"column {name} is {types[name].simpleString()}: ImageFeaturizer needs the "
                "photos' bytes, binary"
            )
        added = [self.getOutputCol()]
        if self.isDefined(self.errorCol):
            added.append(self.getErrorCol())
        # To Spark, names that differ in case are one; it would write one column over the other.
        there = {name.lower(): name for name in types}
        for name in added:
            if name.lower() in there:
                raise ValueError(
                    f"there is a column {there[name.lower()]} already: set another name"
                )
        if len({name.lower() for name in added}) < len(added):
            raise ValueError(f"errorCol and outputCol are both {added[0]}: set another name")


class _Writer(DefaultParamsWriter):
    """Saves parameters as every Python stage does, and the model's file beside them."""

    def saveImpl(self, path: str) -> None:
        model = ship(self.sc, self.instance.getModel())
        save(self.sc, model, f"{path}/model")
        extra = {"modelFile": model.file, "modelSha256": model.sha256}
        self.saveMetadata(self.instance, path, self.sc, extraMetadata=extra)


class _Reader(DefaultParamsReader):
    """Loads parameters as every Python stage does, and the model's file from beside them."""

    def load(self, path: str) -> ImageFeaturizer:
        featurizer: ImageFeaturizer = super().load(path)
        metadata = self.loadMetadata(path, self.sc)
        model = restore(self.sc, f"{path}/model", metadata["modelFile"], metadata["modelSha256"])
        # Not the saved file: the stage may be saved to the same folder again, which Spark empties
        # first.
        return featurizer.setModel(shipped_path(self.sc, model))
