"""Spark ML's format of saved pipelines, written and read with pyarrow, without Spark.

A classifier or a PCA is saved in this format whether Spark fitted it or not, so that both engines
of Pomona and plain PySpark (3.1 and later) can load it::

    metadata/part-00000                 JSON: the class, and the names of the stages in order
    stages/0_StandardScaler_…/
        metadata/part-00000             JSON: the class and its parameters
        data/part-00000.parquet         the fitted numbers

Each stage that Pomona saves is a named tuple, here or in `pomona.results.forest`. The stages of
numbers have a method `apply`, which computes what Spark's `transform` does, in float64.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Sequence, Union

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona._decode import DecodeOptions
from pomona.results import array_stages
from pomona.results.forest import FILE as FOREST_FILE
from pomona.results.forest import Forest, Tree, forest_of, of_parquet, tree_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pomona._typing import PathLike

#: Written into the metadata: readers convert the formats of older versions. Later versions of Spark
#: read what this one wrote as it is.
_SPARK_VERSION = "3.1.2"
_ROW_METADATA = b"org.apache.spark.sql.parquet.row.metadata"

#: What the folder of a saved pipeline has: what Spark ML writes, and the fingerprints of the photos
#: that a classifier was trained on (`pomona.classification.fingerprints`).
CONTENT = ("metadata", "stages", "trained-photos.npy")

_ML = "org.apache.spark.ml."
_FEATURIZER = "pomona.spark.transformer.ImageFeaturizer"
_FOREST = "pomona.spark.classification.forest.ForestModel"
# A saved pipeline with stages that are written in Python, and one without.
_PYTHON_PIPELINE, _JAVA_PIPELINE = "pyspark.ml.pipeline.PipelineModel", f"{_ML}PipelineModel"

_DENSE = 1


class Photos(NamedTuple):
    """The stage from photos to features: `pomona.spark.ImageFeaturizer`."""

    #: The model file, which is copied into the pipeline's folder.
    model: str
    #: The model file's SHA-256, in hexadecimal.
    sha256: str
    decode: DecodeOptions = DecodeOptions()
    input: str = "content"
    output: str = "features"


class Scaler(NamedTuple):
    """Subtract the mean, and divide by the standard deviation if `standardize`."""

    #: float64 [d]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    standardize: bool
    input: str = "features"
    output: str = "centred"

    def apply(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Scale rows; a constant feature becomes zero if `standardize`."""
        centred = matrix - self.mean
        if self.standardize:
            constant = self.deviation == 0.0
            centred *= np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, self.deviation))
        return centred


class Projection(NamedTuple):
    """Project onto principal components."""

    #: float64 [k, d]
    components: NDArray[np.float64]
    #: float64 [k]
    explained_variance_ratio: NDArray[np.float64]
    input: str = "centred"
    output: str = "pca"

    def apply(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Project rows, [n, d] to [n, k]."""
        return np.asarray(matrix @ self.components.T, dtype=np.float64)


class Logistic(NamedTuple):
    """A multinomial logistic regression of n classes."""

    #: float64 [n, d]
    coefficients: NDArray[np.float64]
    #: float64 [n]
    intercepts: NDArray[np.float64]
    input: str = "pca"

    def apply(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the logits of each class, [m, n]."""
        return np.asarray(matrix @ self.coefficients.T + self.intercepts, dtype=np.float64)


class LinearSVMs(NamedTuple):
    """One-vs-rest linear SVMs; Spark computes them as a logistic regression's raw predictions."""

    #: float64 [n, d]
    coefficients: NDArray[np.float64]
    #: float64 [n]
    intercepts: NDArray[np.float64]
    input: str = "pca"

    def apply(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the signed distance from the boundary of each class, [m, n]."""
        return np.asarray(matrix @ self.coefficients.T + self.intercepts, dtype=np.float64)


class ClassNames(NamedTuple):
    """The lookup of class names."""

    labels: Sequence[str]


class Sql(NamedTuple):
    """A query over the rows, which it calls ``__THIS__``; see `pomona.results.array_stages`."""

    statement: str


class Assembler(NamedTuple):
    """Columns of numbers become one of vectors; see `pomona.results.array_stages`."""

    inputs: Sequence[str]
    output: str


Stage = Union[Photos, Sql, Assembler, Scaler, Projection, Logistic, LinearSVMs, Forest, ClassNames]


def takes_arrays(scaler: Scaler, projection: Projection) -> list[Stage]:
    """Return the stages of a saved PCA, which takes arrays and vectors."""
    dimensions = scaler.mean.size
    return [
        Sql(array_stages.spread(dimensions)),
        Assembler(array_stages.columns(dimensions), array_stages.VECTORS),
        Sql(array_stages.UNPACK),
        scaler._replace(input=array_stages.VECTORS),
        projection,
    ]


def takes_vectors(stages: Sequence[Stage]) -> tuple[Scaler, Projection]:
    """Return the two stages of a saved PCA that take vectors, for a pipeline that has them."""
    scaler, projection = stages[-2:]
    if not (isinstance(scaler, Scaler) and isinstance(projection, Projection)):
        raise ValueError("the pipeline is not a saved PCA")
    return scaler._replace(input=array_stages.FEATURES), projection


def save(folder: PathLike, stages: Sequence[Stage], engine: str = "local") -> None:
    """Save a pipeline that Spark ML loads as a ``PipelineModel``.

    `engine` is what `engine_of` returns for it. A saved pipeline in `folder` is replaced once the
    new one is complete. Raises FileExistsError if the folder contains something else.
    """
    target = Path(os.path.realpath(folder))
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".pomona-{uuid.uuid4().hex}.partial")
    try:
        _write_pipeline(partial, stages, engine)
        if target.exists():
            old = target.with_name(f".pomona-{uuid.uuid4().hex}.old")
            target.rename(old)
            partial.rename(target)
            shutil.rmtree(str(old))
        else:
            partial.rename(target)
    finally:
        shutil.rmtree(str(partial), ignore_errors=True)


def check_replaceable(folder: Path) -> None:
    """Raise FileExistsError if a folder contains anything but a saved pipeline."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    # Hadoop keeps a hidden checksum beside each file.
    foreign = sorted(name for name in names if name not in CONTENT and name[0] != ".")
    if foreign:
        raise FileExistsError(
            f"{folder} contains {foreign[0]}, which is not part of a Spark ML model: choose "
            "another output"
        )


def load(folder: PathLike) -> list[Stage]:
    """Load a pipeline that Pomona saved, with or without Spark.

    Raises
    ------
    FileNotFoundError
        The folder holds no saved pipeline.
    ValueError
        It is incomplete, or has a stage that Pomona does not save.
    """
    home = Path(folder)
    if not (home / "metadata").is_dir():
        raise FileNotFoundError(f"{home} holds no saved pipeline")
    try:
        uids = _metadata(home)["paramMap"]["stageUids"]
        digits = len(str(len(uids)))
        return [
            _read_stage(home / "stages" / f"{number:0{digits}}_{uid}")
            for number, uid in enumerate(uids)
        ]
    except (OSError, LookupError, ValueError) as error:
        raise ValueError(f"{home} is not a complete pipeline saved by Pomona: {error}") from error


def engine_of(folder: PathLike) -> str:
    """Return whether a pipeline was trained on this machine, ``local``, or on Spark, ``spark``.

    Any other folder counts as Spark's.
    """
    home = Path(folder)
    return str(_metadata(home).get("engine", "spark")) if (home / "metadata").is_dir() else "spark"


def _write_pipeline(folder: Path, stages: Sequence[Stage], engine: str) -> None:
    uids = [f"{_NAMES[type(stage)]}_{_hex()}" for stage in stages]
    params: dict[str, Any] = {"stageUids": uids}
    kind = _JAVA_PIPELINE
    if any(isinstance(stage, (Photos, Forest)) for stage in stages):
        kind, params["language"] = _PYTHON_PIPELINE, "Python"
    _write_metadata(folder, kind, f"PipelineModel_{_hex()}", params, engine=engine)
    (folder / "stages").mkdir()
    digits = len(str(len(stages)))
    for number, (uid, stage) in enumerate(zip(uids, stages)):
        _write_stage(folder / "stages" / f"{number:0{digits}}_{uid}", uid, stage)


#: The names of Spark's stages before they are fitted, with which their identifiers start.
_NAMES = {
    Photos: "ImageFeaturizer",
    Sql: "SQLTransformer",
    Assembler: "VectorAssembler",
    Scaler: "StandardScaler",
    Projection: "PCA",
    Logistic: "LogisticRegression",
    LinearSVMs: "LinearSVM",
    Forest: "ForestModel",
    ClassNames: "IndexToString",
}


def _write_stage(folder: Path, uid: str, stage: Stage) -> None:
    if isinstance(stage, Photos):
        name, mark = Path(stage.model).stem, f"-{stage.sha256[:16]}"
        file = f"{name}.onnx" if name.endswith(mark) else f"{name}{mark}.onnx"
        params: dict[str, Any] = {
            "inputCol": stage.input,
            "outputCol": stage.output,
            "model": os.fspath(stage.model),
            "handleInvalid": "skip",
            "applyExif": stage.decode.apply_exif,
            "strict": stage.decode.strict,
            "maxPixels": stage.decode.max_pixels,
            "decode": stage.decode.decode,
        }
        _write_metadata(folder, _FEATURIZER, uid, params, modelFile=file, modelSha256=stage.sha256)
        (folder / "model").mkdir()
        shutil.copyfile(stage.model, str(folder / "model" / file))
    elif isinstance(stage, Sql):
        params = {"statement": stage.statement}
        _write_metadata(folder, f"{_ML}feature.SQLTransformer", uid, params)
    elif isinstance(stage, Assembler):
        params = {"inputCols": list(stage.inputs), "outputCol": stage.output}
        params["handleInvalid"] = array_stages.INVALID
        _write_metadata(folder, f"{_ML}feature.VectorAssembler", uid, params)
    elif isinstance(stage, Scaler):
        params = {"withMean": True, "withStd": stage.standardize}
        params.update(inputCol=stage.input, outputCol=stage.output)
        _write_metadata(folder, f"{_ML}feature.StandardScalerModel", uid, params)
        _write_row(
            folder / "data",
            [("std", _VECTOR, _vector(stage.deviation)), ("mean", _VECTOR, _vector(stage.mean))],
        )
    elif isinstance(stage, Projection):
        params = {"k": len(stage.components), "inputCol": stage.input, "outputCol": stage.output}
        _write_metadata(folder, f"{_ML}feature.PCAModel", uid, params)
        ratio = _vector(stage.explained_variance_ratio)
        _write_row(
            folder / "data",
            [
                ("pc", _MATRIX, _matrix(stage.components.T)),
                ("explainedVariance", _VECTOR, ratio),
            ],
        )
    elif isinstance(stage, (Logistic, LinearSVMs)):
        params = _classifier_params(stage.input)
        if isinstance(stage, LinearSVMs):
            params["probabilityCol"] = ""
        _write_metadata(folder, f"{_ML}classification.LogisticRegressionModel", uid, params)
        classes, features = stage.coefficients.shape
        _write_row(
            folder / "data",
            [
                ("numClasses", pa.int32(), classes),
                ("numFeatures", pa.int32(), features),
                ("interceptVector", _VECTOR, _vector(stage.intercepts)),
                ("coefficientMatrix", _MATRIX, _matrix(stage.coefficients)),
                ("isMultinomial", pa.bool_(), True),
            ],
        )
    elif isinstance(stage, Forest):
        _write_forest(folder, uid, stage)
    else:
        params = {"inputCol": "class", "outputCol": "predicted", "labels": list(stage.labels)}
        _write_metadata(folder, f"{_ML}feature.IndexToString", uid, params)


def _read_stage(folder: Path) -> Stage:
    metadata = _metadata(folder)
    kind, given = metadata["class"], metadata["paramMap"]
    params = {**metadata.get("defaultParamMap", {}), **given}
    if kind == _FEATURIZER:
        return Photos(
            str(folder / "model" / metadata["modelFile"]),
            metadata["modelSha256"],
            # Stages that were saved before 0.2.0 have no options.
            DecodeOptions(
                **{
                    option: params[param]
                    for option, param in _DECODE_PARAMS.items()
                    if param in params
                }
            ),
            params["inputCol"],
            params["outputCol"],
        )
    if kind == f"{_ML}feature.SQLTransformer":
        return Sql(params["statement"])
    if kind == f"{_ML}feature.VectorAssembler":
        return Assembler(params["inputCols"], params["outputCol"])
    if kind == f"{_ML}feature.StandardScalerModel":
        row = _read_row(folder / "data")
        mean, deviation = _from_vector(row["mean"]), _from_vector(row["std"])
        standardize = params["withStd"]
        return Scaler(mean, deviation, standardize, params["inputCol"], params["outputCol"])
    if kind == f"{_ML}feature.PCAModel":
        row = _read_row(folder / "data")
        ratio = _from_vector(row["explainedVariance"])
        components = _from_matrix(row["pc"]).T
        return Projection(components, ratio, params["inputCol"], params["outputCol"])
    if kind == f"{_ML}classification.LogisticRegressionModel":
        row = _read_row(folder / "data")
        stage = LinearSVMs if given.get("probabilityCol") == "" else Logistic
        coefficients = _from_matrix(row["coefficientMatrix"])
        return stage(coefficients, _from_vector(row["interceptVector"]), params["featuresCol"])
    if kind == f"{_ML}classification.RandomForestClassificationModel":
        trees = list(_read_trees(folder / "data"))
        numbers = metadata["numFeatures"], metadata["numClasses"]
        return forest_of(trees, *numbers, params["featuresCol"])
    if kind == _FOREST:
        content = (folder / "data" / FOREST_FILE).read_bytes()
        numbers = metadata["numFeatures"], metadata["numClasses"]
        return of_parquet(content, *numbers, params["featuresCol"])
    if kind == f"{_ML}feature.IndexToString":
        return ClassNames(params["labels"])
    raise ValueError(f"{folder.name} is a stage that Pomona does not save: {kind}")


_DECODE_PARAMS = {
    "apply_exif": "applyExif",
    "strict": "strict",
    "max_pixels": "maxPixels",
    "decode": "decode",
}


def _classifier_params(features: str) -> dict[str, Any]:
    return {
        "featuresCol": features,
        "labelCol": "target",
        "predictionCol": "class",
        "rawPredictionCol": "scores",
        "probabilityCol": "probability",
    }


def _write_forest(folder: Path, uid: str, forest: Forest) -> None:
    numbers = {"numFeatures": forest.features, "numClasses": forest.kinds}
    _write_metadata(folder, _FOREST, uid, _classifier_params(forest.input), **numbers)
    (folder / "data").mkdir()
    (folder / "data" / FOREST_FILE).write_bytes(forest.parquet())


def _read_trees(folder: Path) -> Iterator[Tree]:
    table = _read_table(folder).combine_chunks()
    nodes = table.column("nodeData").chunk(0)
    tree = table.column("treeID").to_numpy()
    ids = _numbers(nodes, "id")
    splits = nodes.field("split")
    thresholds = splits.field("leftCategoriesOrThreshold")
    inner = _numbers(nodes, "leftChild") >= 0
    threshold = np.zeros(len(ids))
    threshold[inner] = thresholds.flatten().to_numpy()
    counts = nodes.field("impurityStats").flatten().to_numpy().reshape(len(ids), -1)
    order = np.lexsort((ids, tree))
    features = _numbers(splits, "featureIndex")
    left, right = _numbers(nodes, "leftChild"), _numbers(nodes, "rightChild")
    ends = np.flatnonzero(np.diff(tree[order])) + 1
    for rows in np.split(order, ends):
        yield tree_of(features[rows], left[rows], right[rows], threshold[rows], counts[rows])


def _numbers(struct: pa.StructArray, field: str) -> NDArray[Any]:
    return np.asarray(struct.field(field).to_numpy(zero_copy_only=False))


# Metadata.


def _description(kind: str, uid: str, params: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {
        "class": kind,
        "timestamp": int(time.time() * 1000),
        "sparkVersion": _SPARK_VERSION,
        "uid": uid,
        "paramMap": params,
        "defaultParamMap": {},
        **extra,
    }


def _write_metadata(
    folder: Path, kind: str, uid: str, params: dict[str, Any], **extra: Any
) -> None:
    home = folder / "metadata"
    home.mkdir(parents=True)
    text = json.dumps(_description(kind, uid, params, **extra))
    (home / "part-00000").write_text(text + "\n", encoding="utf-8")
    (home / "_SUCCESS").touch()


def _metadata(folder: Path) -> Any:
    (file,) = (folder / "metadata").glob("part-*")
    return json.loads(file.read_text(encoding="utf-8").splitlines()[0])


def _hex() -> str:
    return uuid.uuid4().hex[:12]


# Tables, in the types of Spark.


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_INTEGERS = pa.list_(_required("element", pa.int32()))
_DOUBLES = pa.list_(_required("element", pa.float64()))
_VECTOR = pa.struct(
    [
        _required("type", pa.int8()),
        ("size", pa.int32()),
        ("indices", _INTEGERS),
        ("values", _DOUBLES),
    ]
)
_MATRIX = pa.struct(
    [
        _required("type", pa.int8()),
        _required("numRows", pa.int32()),
        _required("numCols", pa.int32()),
        ("colPtrs", _INTEGERS),
        ("rowIndices", _INTEGERS),
        ("values", _DOUBLES),
        _required("isTransposed", pa.bool_()),
    ]
)
#: Spark's names of types, and the classes of its user-defined ones.
_PRIMITIVES = {
    pa.int8(): "byte",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.string(): "string",
}
_CLASSES = {_VECTOR: "ml.linalg.VectorUDT", _MATRIX: "ml.linalg.MatrixUDT"}


def _spark_type(kind: pa.DataType) -> Any:
    """Describe a type as Spark does, so that it reads vectors and matrices as such."""
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    if pa.types.is_list(kind):
        return {
            "type": "array",
            "elementType": _spark_type(kind.value_type),
            "containsNull": kind.value_field.nullable,
        }
    struct = _spark_struct(kind)
    if kind not in _CLASSES:
        return struct
    name = _CLASSES[kind]
    return {
        "type": "udt",
        "class": f"org.apache.spark.{name}",
        "pyClass": f"pyspark.{name}",
        "sqlType": struct,
    }


def _spark_struct(fields: Any) -> dict[str, Any]:
    described = [
        {
            "name": field.name,
            "type": _spark_type(field.type),
            "nullable": field.nullable,
            "metadata": {},
        }
        for field in fields
    ]
    return {"type": "struct", "fields": described}


def _write_row(folder: Path, values: Sequence[tuple[str, pa.DataType, Any]]) -> None:
    _write_table(folder, [(name, pa.array([value], kind)) for name, kind, value in values])


def _write_table(folder: Path, columns: Sequence[tuple[str, pa.Array]]) -> None:
    folder.mkdir()
    nested = (pa.types.is_struct, pa.types.is_string)
    fields = [
        pa.field(name, column.type, nullable=any(is_a(column.type) for is_a in nested))
        for name, column in columns
    ]
    schema = pa.schema(fields, {_ROW_METADATA: json.dumps(_spark_struct(fields)).encode()})
    table = pa.Table.from_arrays([column for _, column in columns], schema=schema)
    pq.write_table(table, str(folder / "part-00000.parquet"))
    (folder / "_SUCCESS").touch()


def _read_table(folder: Path) -> pa.Table:
    files = sorted(path for path in folder.glob("*.parquet") if path.name[0] not in "._")
    # Files are opened one by one: a dataset would read partition columns from folder names.
    return pa.concat_tables([pq.ParquetFile(str(file)).read() for file in files])


def _read_row(folder: Path) -> Any:
    return _read_table(folder).to_pylist()[0]


def _vector(values: NDArray[np.float64]) -> dict[str, Any]:
    return {"type": _DENSE, "values": np.asarray(values, dtype=np.float64)}


def _matrix(values: NDArray[np.float64]) -> dict[str, Any]:
    rows, columns = values.shape
    return {
        "type": _DENSE,
        "numRows": rows,
        "numCols": columns,
        "values": np.asarray(values, dtype=np.float64).ravel(order="F"),
        "isTransposed": False,
    }


def _from_vector(value: dict[str, Any]) -> NDArray[np.float64]:
    values = np.array(value["values"], dtype=np.float64)
    if value["type"] == _DENSE:
        return values
    dense = np.zeros(value["size"])
    dense[value["indices"]] = values
    return dense


def _from_matrix(value: dict[str, Any]) -> NDArray[np.float64]:
    values = np.array(value["values"], dtype=np.float64)
    shape = (value["numRows"], value["numCols"])
    # A transposed matrix is stored row by row, all others column by column.
    stored = shape if value["isTransposed"] else shape[::-1]
    if value["type"] == _DENSE:
        dense = values.reshape(stored)
    else:
        dense = np.zeros(stored)
        lines = np.repeat(np.arange(stored[0]), np.diff(value["colPtrs"]))
        dense[lines, value["rowIndices"]] = values
    return np.ascontiguousarray(dense if value["isTransposed"] else dense.T)
