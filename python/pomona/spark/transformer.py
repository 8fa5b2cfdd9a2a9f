"""Photos to feature vectors as a stage of Spark ML pipelines."""

# ruff: noqa: N802, N803, N815 (Spark ML has camelCase Params and methods)

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Callable

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
from pyspark.sql.functions import array, coalesce, col, when
from pyspark.sql.types import BinaryType, StringType

from pomona._decode import DecodeOptions
from pomona._errors import ERROR_COLUMNS, NOTE_COLUMNS
from pomona.spark._s3 import storage_of
from pomona.spark._session import active_session
from pomona.spark._shipping import active_context, restore, save, ship, shipped_path
from pomona.spark.udf import CONCURRENCY, MAX_BYTES_IN_FLIGHT, TIMEOUT, ReadOptions, make_udf

if TYPE_CHECKING:
    from typing import Literal

    from pyspark.sql import DataFrame

    from pomona._decode import DecodeMode

_HANDLE_INVALID = ("keep", "skip", "error")

_DEFAULTS = DecodeOptions()


def _to_path(value: Any) -> str:
    return TypeConverters.toString(os.fspath(value))


def _to_handle_invalid(value: Any) -> str:
    if value not in _HANDLE_INVALID:
        raise ValueError(f"handleInvalid is {value!r}: it must be one of {_HANDLE_INVALID}")
    return str(value)


def _to_max_pixels(value: Any) -> int:
    return DecodeOptions(max_pixels=TypeConverters.toInt(value)).max_pixels


def _to_decode(value: Any) -> DecodeMode:
    return DecodeOptions(decode=value).decode


def _param(
    name: str, doc: str, convert: Callable[[Any], Any] = TypeConverters.toString
) -> Param[Any]:
    return Param(Params._dummy(), name, doc, typeConverter=convert)


class ImageFeaturizer(
    Transformer, HasInputCol, HasOutputCol, HasHandleInvalid, MLReadable, MLWritable
):
    """Turn a column of photos, bytes or paths, into a column of feature vectors.

    A pure-Python Transformer, for use alone or as a stage of a `Pipeline`. A saved stage includes
    the model file, so other applications and machines can load it; they need this package.

    Parameters
    ----------
    inputCol : str, default "content"
        Column of photos: their bytes (binary), or their paths (string), which each task reads
        itself, many at a time, as `featurize_udf` does.
    outputCol : str, default "features"
        Column to add: an ML vector of one double per feature. The values are float32.
    errorCol : str, optional
        Column to add: why a photo has no features; null where it has.
    errorKindCol : str, optional
        Column to add: the `pomona.ImageError.kind` of that error.
    errorVersionCol : str, optional
        Column to add: the version of Pomona that reported that error.
    warningCol : str, optional
        Column to add: why the pixels may not be those of the original photo; null for an intact
        photo and for one without features.
    orientationCol : str, optional
        Column to add: the EXIF orientation, 2 to 8, of a photo that was not turned accordingly,
        because `applyExif` is false; null for all others.
    model : str or path, default "mobilenet_v2"
        The name of a pulled model, a path on the driver, or a URI (``s3://``, ``s3a://``,
        ``hdfs://``).
    handleInvalid : {"keep", "skip", "error"}, default "keep"
        What to do about a photo that cannot be featurized: keep its row, with null in `outputCol`;
        skip its row; or fail the job with an error that names the photo, by the column ``path`` if
        there is one. Most estimators refuse null vectors: use ``"skip"`` before them, which also
        skips rows without a photo.
    concurrency, maxBytesInFlight, timeout : optional
        For a column of paths, as for `featurize_udf`.
    applyExif : bool, default False
        Whether to turn a photo as its EXIF orientation says.
    strict : bool, default False
        Whether a photo that would have a warning cannot be featurized.
    maxPixels : int, default 178956970
        Photos of more pixels cannot be featurized.
    decode : {"exact", "fast"}, default "exact"
        ``"fast"`` decodes large JPEGs at a fraction of their size. It and the three options before
        it are the fields of `pomona.DecodeOptions`.

    Examples
    --------
    >>> from pyspark.ml import Pipeline
    >>> from pyspark.ml.feature import PCA
    >>> featurizer = ImageFeaturizer(model="mobilenet_v2", handleInvalid="skip")  # doctest: +SKIP
    >>> pca = PCA(k=50, inputCol="features", outputCol="pca")  # doctest: +SKIP
    >>> model = Pipeline(stages=[featurizer, pca]).fit(photos)  # doctest: +SKIP
    >>> model.write().save("s3://fruits/pipeline")  # doctest: +SKIP
    """

    errorCol: Param[str] = _param(
        "errorCol", "column for the reason why a photo has no features; no such column if not set"
    )
    errorKindCol: Param[str] = _param(
        "errorKindCol", "column for the kind of that reason; no such column if not set"
    )
    errorVersionCol: Param[str] = _param(
        "errorVersionCol",
        "column for the version of Pomona that reported it; no such column if not set",
    )
    warningCol: Param[str] = _param(
        "warningCol",
        "column for the reason why the pixels may not be those of the original photo; no such "
        "column if not set",
    )
    orientationCol: Param[str] = _param(
        "orientationCol",
        "column for the EXIF orientation (2 to 8) of a photo that was not turned accordingly; no "
        "such column if not set",
    )
    model: Param[str] = _param(
        "model",
        "the name of a pulled model, a path on the driver, or a URI (s3://, s3a://, hdfs://)",
        _to_path,
    )
    handleInvalid: Param[str] = _param(
        "handleInvalid",
        "what to do about a photo that cannot be featurized: keep (null vector), skip (no row) or "
        "error (the job fails and names the photo)",
        _to_handle_invalid,
    )
    concurrency: Param[int] = _param(
        "concurrency",
        "photos that a task reads at the same time, given their paths",
        TypeConverters.toInt,
    )
    maxBytesInFlight: Param[int] = _param(
        "maxBytesInFlight",
        "bytes of photos that a task holds in memory, given their paths",
        TypeConverters.toInt,
    )
    timeout: Param[float] = _param(
        "timeout",
        "seconds that the storage may take for a photo, given its path",
        TypeConverters.toFloat,
    )
    applyExif: Param[bool] = _param(
        "applyExif",
        "whether to turn a photo as its EXIF orientation says",
        TypeConverters.toBoolean,
    )
    strict: Param[bool] = _param(
        "strict",
        "whether a photo that would have a warning cannot be featurized",
        TypeConverters.toBoolean,
    )
    maxPixels: Param[int] = _param(
        "maxPixels", "photos of more pixels cannot be featurized", _to_max_pixels
    )
    decode: Param[str] = _param(
        "decode",
        "how large JPEGs are decoded: exact (every pixel) or fast (at a fraction of their size)",
        _to_decode,
    )

    @keyword_only
    def __init__(
        self,
        *,
        inputCol: str = "content",
        outputCol: str = "features",
        errorCol: str | None = None,
        errorKindCol: str | None = None,
        errorVersionCol: str | None = None,
        warningCol: str | None = None,
        orientationCol: str | None = None,
        model: str | os.PathLike[str] = "mobilenet_v2",
        handleInvalid: Literal["keep", "skip", "error"] = "keep",
        concurrency: int = CONCURRENCY,
        maxBytesInFlight: int = MAX_BYTES_IN_FLIGHT,
        timeout: float = TIMEOUT,
        applyExif: bool = _DEFAULTS.apply_exif,
        strict: bool = _DEFAULTS.strict,
        maxPixels: int = _DEFAULTS.max_pixels,
        decode: DecodeMode = _DEFAULTS.decode,
    ) -> None:
        super().__init__()
        self._setDefault(
            inputCol="content",
            outputCol="features",
            model="mobilenet_v2",
            handleInvalid="keep",
            concurrency=CONCURRENCY,
            maxBytesInFlight=MAX_BYTES_IN_FLIGHT,
            timeout=TIMEOUT,
            **decode_params(_DEFAULTS),
        )
        self._set_given()

    @keyword_only
    def setParams(self, **params: Any) -> ImageFeaturizer:
        """Set the given parameters, which are those of the class, and leave the others."""
        unknown = [name for name in params if not self.hasParam(name)]
        if unknown:
            raise TypeError(f"setParams() got an unexpected keyword argument {unknown[0]!r}")
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

    def setErrorKindCol(self, value: str) -> ImageFeaturizer:
        """Set `errorKindCol`."""
        return self._set(errorKindCol=value)

    def setErrorVersionCol(self, value: str) -> ImageFeaturizer:
        """Set `errorVersionCol`."""
        return self._set(errorVersionCol=value)

    def setWarningCol(self, value: str) -> ImageFeaturizer:
        """Set `warningCol`."""
        return self._set(warningCol=value)

    def setOrientationCol(self, value: str) -> ImageFeaturizer:
        """Set `orientationCol`."""
        return self._set(orientationCol=value)

    def setModel(self, value: str | os.PathLike[str]) -> ImageFeaturizer:
        """Set `model`."""
        return self._set(model=value)

    def getModel(self) -> str:
        """Get `model`."""
        return self.getOrDefault(self.model)

    def setHandleInvalid(self, value: Literal["keep", "skip", "error"]) -> ImageFeaturizer:
        """Set `handleInvalid`."""
        return self._set(handleInvalid=value)

    def decode_options(self) -> DecodeOptions:
        """Return the parameters that say how photos are decoded."""
        return DecodeOptions(
            apply_exif=self.getOrDefault(self.applyExif),
            strict=self.getOrDefault(self.strict),
            max_pixels=self.getOrDefault(self.maxPixels),
            decode=self.getOrDefault(self.decode),
        )

    def write(self) -> MLWriter:
        """Return a writer that saves this stage with its model."""
        return _Writer(self)

    @classmethod
    def read(cls) -> MLReader[ImageFeaturizer]:
        """Return a reader of saved stages."""
        return _Reader(cls)

    def _set_given(self) -> ImageFeaturizer:
        # Spark would store None as a value.
        given = {name: value for name, value in self._input_kwargs.items() if value is not None}
        return self._set(**given)

    def _transform(self, dataset: DataFrame) -> DataFrame:
        self._check_columns(dataset)
        # Unquoted, a dot in the name would select a field of a struct.
        photo = dataset["`{}`".format(self.getInputCol().replace("`", "``"))]
        reading = ReadOptions(
            self.getOrDefault(self.concurrency),
            self.getOrDefault(self.maxBytesInFlight),
            self.getOrDefault(self.timeout),
        )
        reading.check()
        failing = self.getHandleInvalid() == "error"
        featurize = make_udf(
            ship(active_context(), self.getModel()),
            self.decode_options(),
            storage_of(active_session()),
            reading,
            raising=failing,
        )
        named = failing and "path" in dataset.columns
        result = f"{self.uid}__result"
        column = featurize(photo, dataset["path"]) if named else featurize(photo)
        features = col(f"{result}.features")
        table = dataset.withColumn(result, column)
        if self.getHandleInvalid() == "skip":
            table = table.where(features.isNotNull())
        # Spark's array_to_vector fails on null, even inside a condition: where later stages use the
        # vector twice, Spark computes the common subexpression first.
        present = coalesce(features, array().cast("array<float>"))
        vector = when(features.isNotNull(), array_to_vector(present))
        table = table.withColumn(self.getOutputCol(), vector)
        for param, field in self.result_params().items():
            if self.isDefined(param):
                table = table.withColumn(self.getOrDefault(param), col(f"{result}.{field}"))
        return table.drop(result)

    def result_params(self) -> dict[Param[str], str]:
        """Return the parameters that name columns of errors and notes, and the field of each."""
        errors = (self.errorCol, self.errorKindCol, self.errorVersionCol)
        notes = (self.warningCol, self.orientationCol)
        return dict(zip((*errors, *notes), (*ERROR_COLUMNS, *NOTE_COLUMNS)))

    def _check_columns(self, dataset: DataFrame) -> None:
        name = self.getInputCol()
        types = {field.name: field.dataType for field in dataset.schema}
        if name not in types:
            raise ValueError(f"no column {name} among {', '.join(types)}: set inputCol")
        if types[name] not in (BinaryType(), StringType()):
            raise TypeError(
                f"column {name} is {types[name].simpleString()}: ImageFeaturizer takes the bytes "
                "of photos (binary) or their paths (string)"
            )
        params = (self.outputCol, *self.result_params())
        added = [self.getOrDefault(param) for param in params if self.isDefined(param)]
        # Spark ignores case in names: it would overwrite the other column.
        existing = {name.lower(): name for name in types}
        for name in added:
            if name.lower() in existing:
                raise ValueError(
                    f"column {existing[name.lower()]} already exists: set another name"
                )
        if len({name.lower() for name in added}) < len(added):
            raise ValueError(
                f"two of the output columns {', '.join(added)} have the same name: set another one"
            )


def decode_params(options: DecodeOptions) -> dict[str, Any]:
    """Return options as the parameters of an `ImageFeaturizer`."""
    return {
        "applyExif": options.apply_exif,
        "strict": options.strict,
        "maxPixels": options.max_pixels,
        "decode": options.decode,
    }


class _Writer(DefaultParamsWriter):
    """Saves the parameters as Python stages do, and the model file next to them."""

    def saveImpl(self, path: str) -> None:
        model = ship(self.sc, self.instance.getModel())
        save(self.sc, model, f"{path}/model")
        extra = {"modelFile": model.file, "modelSha256": model.sha256}
        self.saveMetadata(self.instance, path, self.sc, extraMetadata=extra)


class _Reader(DefaultParamsReader):
    """Loads the parameters as Python stages do, and the model file next to them."""

    def load(self, path: str) -> ImageFeaturizer:
        featurizer: ImageFeaturizer = super().load(path)
        metadata = self.loadMetadata(path, self.sc)
        model = restore(self.sc, f"{path}/model", metadata["modelFile"], metadata["modelSha256"])
        # A copy of the saved file: the stage may be saved to the same folder again, which Spark
        # empties first.
        return featurizer.setModel(shipped_path(self.sc, model))
