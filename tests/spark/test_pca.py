"""PCA: against scikit-learn, and what it does with data that has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.ml.feature import PCAModel, StandardScalerModel
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import SparseVector
from pyspark.sql import DataFrame, SparkSession
from sklearn.decomposition import PCA as ReferencePCA  # noqa: N811
from sklearn.preprocessing import StandardScaler

from pomona.results import spark_ml
from pomona.spark.pca import PCA, fit_pca

# PySpark 3.1's vectors call numpy by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:tostring:DeprecationWarning")

ROWS, D = 300, 12


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    """Features like a network's: float32, far from centred, variances from large to tiny."""
    random = np.random.RandomState(7)
    scales = 10.0 ** np.linspace(0, -4, D)
    mixed = random.normal(size=(ROWS, D)) * scales @ np.linalg.qr(random.normal(size=(D, D)))[0]
    return (mixed + 3.0).astype(np.float32)


@pytest.fixture(scope="module")
def features(spark: SparkSession, matrix: np.ndarray) -> DataFrame:
    return frame_of(spark, matrix).cache()


def frame_of(spark: SparkSession, rows: object, partitions: int = 3) -> DataFrame:
    values = [
        (number, None if row is None else [float(value) for value in row])
        for number, row in enumerate(rows)
    ]
    schema = "id int, features array<float>"
    return spark.createDataFrame(spark.sparkContext.parallelize(values, partitions), schema)


def collect(frame: DataFrame) -> np.ndarray:
    return np.array([row.pca for row in frame.orderBy("id").collect()])


def test_the_curve_is_that_of_scikit_learn(features: DataFrame, matrix: np.ndarray) -> None:
    expected = ReferencePCA().fit(matrix.astype(np.float64))
    pca = fit_pca(features)
    assert pca.rows == ROWS
    np.testing.assert_allclose(
        pca.explained_variance_ratio, expected.explained_variance_ratio_, atol=1e-6, rtol=1e-6
    )
    np.testing.assert_allclose(pca.mean, expected.mean_, rtol=1e-12)
    for target in (0.5, 0.8, 0.95, 0.999, 0.9999999):
        curve = np.cumsum(expected.explained_variance_ratio_)
        assert pca.k_for(target) == np.searchsorted(curve, target) + 1
    assert pca.k_for(1) == D
    assert pca.k == pca.k_for(0.95)
    assert pca.variance == pytest.approx(expected.explained_variance_ratio_[: pca.k].sum())


def test_projections_are_centred_and_those_of_scikit_learn_up_to_sign(
    features: DataFrame, matrix: np.ndarray
) -> None:
    expected = ReferencePCA(n_components=5).fit_transform(matrix.astype(np.float64))
    projected = collect(fit_pca(features, components=5).project(features))
    assert projected.shape == (ROWS, 5)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-6)
    signs = np.sign((projected * expected).sum(axis=0))
    np.testing.assert_allclose(projected * signs, expected, atol=1e-5)


def test_signs_do_not_depend_on_the_machine(features: DataFrame) -> None:
    components = fit_pca(features, components=D).components
    largest = np.abs(components).argmax(axis=1)
    assert (components[np.arange(D), largest] > 0).all()


def test_standardized_features_count_alike_and_constant_ones_do_not_count(
    spark: SparkSession, matrix: np.ndarray
) -> None:
    # 0.1 is no binary fraction: the variance of its sum is rounding, and must not be blown up to 1.
    constant = np.full((ROWS, 1), np.float32(0.1))
    features = frame_of(spark, np.hstack([matrix, constant]))
    scaled = StandardScaler().fit_transform(matrix.astype(np.float64))
    expected = ReferencePCA().fit(scaled)
    pca = fit_pca(features, components=3, standardize=True)
    assert pca.standardize
    ratio = pca.explained_variance_ratio
    np.testing.assert_allclose(ratio[:D], expected.explained_variance_ratio_, atol=1e-6)
    assert ratio[D] == pytest.approx(0, abs=1e-12)

    projected = collect(pca.project(features))
    reference = expected.transform(scaled)[:, :3] * np.sqrt((ROWS - 1) / ROWS)
    signs = np.sign((projected * reference).sum(axis=0))
    np.testing.assert_allclose(projected * signs, reference, atol=1e-5)


@pytest.fixture(scope="module")
def fitted(features: DataFrame) -> PCA:
    return fit_pca(features, components=2)


@pytest.fixture(scope="module", params=["spark", "without spark"])
def saved(
    request: pytest.FixtureRequest, fitted: PCA, tmp_path_factory: pytest.TempPathFactory
) -> PipelineModel:
    """A PCA model that was saved with and without Spark, as plain PySpark loads it."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    if request.param == "spark":
        fitted.model.write().save(str(folder))
        assert [type(stage) for stage in spark_ml.load(folder)] == [
            spark_ml.Sql, spark_ml.Assembler, spark_ml.Sql, spark_ml.Scaler, spark_ml.Projection,
        ]  # fmt: skip
    else:
        fitted.model.write().save(str(folder.with_name("spark")))
        stages = spark_ml.load(folder.with_name("spark"))
        spark_ml.save(folder, spark_ml.takes_arrays(*spark_ml.takes_vectors(stages)))
    return PipelineModel.load(str(folder))


def test_plain_pyspark_applies_the_saved_model_to_arrays_and_vectors(
    features: DataFrame, fitted: PCA, saved: PipelineModel
) -> None:
    assert isinstance(saved.stages[-2], StandardScalerModel)
    assert isinstance(saved.stages[-1], PCAModel)
    expected = collect(fitted.project(features))
    vectors = array_to_vector("features")
    for frame in (
        features,
        features.withColumn("features", features["features"].cast("array<double>")),
        features.withColumn("features", vectors),
    ):
        applied = saved.transform(frame)
        assert applied.columns[:2] == ["id", "features"]
        applied = applied.withColumn("vectors", vector_to_array("features_vector"))
        np.testing.assert_allclose(
            collect(applied.withColumn("pca", vector_to_array("pca"))), expected, atol=1e-6
        )
        # Text in between loses nothing.
        exact = applied.join(features.select("id", features["features"].alias("given")), "id")
        assert exact.where("vectors != CAST(given AS array<double>)").count() == 0


def test_photos_without_features_have_no_components(
    spark: SparkSession, matrix: np.ndarray, saved: PipelineModel
) -> None:
    rows = [None, [np.nan] * D, [*matrix[0]], [*matrix[1][:-1], np.inf]]
    applied = saved.transform(frame_of(spark, rows)).withColumn("pca", vector_to_array("pca"))
    assert np.isfinite(collect(applied)).all(axis=1).tolist() == [False, False, True, False]


def test_features_of_another_length_are_refused(spark: SparkSession, saved: PipelineModel) -> None:
    sparse = spark.createDataFrame([(1, SparseVector(D, {0: 1.0}))], ["id", "features"])
    for frame in (frame_of(spark, [[1.0] * (D - 1)]), frame_of(spark, [[1.0] * (D + 1)]), sparse):
        with pytest.raises(Exception, match=f"dense and of length {D}"):
            saved.transform(frame).select("pca").collect()


def test_rows_that_cannot_count_are_left_out_and_counted(
    spark: SparkSession, matrix: np.ndarray
) -> None:
    rows = [*matrix, None, None, [np.nan] * D, [np.inf] + [0.0] * (D - 1)]
    pca = fit_pca(frame_of(spark, rows))
    assert (pca.rows, pca.empty, pca.nonfinite) == (ROWS, 2, 2)
    expected = ReferencePCA().fit(matrix.astype(np.float64)).explained_variance_ratio_
    np.testing.assert_allclose(pca.explained_variance_ratio, expected, atol=1e-6)


def test_rows_with_an_error_do_not_count(spark: SparkSession) -> None:
    rows = [([1.0, 0.0], None), ([2.0, 1.0], None), ([9.0, 9.0], "doubtful")]
    frame = spark.createDataFrame(rows, "features array<double>, error string")
    assert fit_pca(frame, components=1).rows == 2


def test_vector_columns_are_taken(features: DataFrame) -> None:
    vectors = features.withColumn("features", array_to_vector("features"))
    np.testing.assert_allclose(
        fit_pca(vectors).explained_variance_ratio, fit_pca(features).explained_variance_ratio
    )


def test_features_are_read_from_a_folder(features: DataFrame, tmp_path: Path) -> None:
    features.write.parquet(str(tmp_path / "features"))
    assert fit_pca(tmp_path / "features").rows == ROWS


def test_fewer_rows_than_features_have_as_many_components_as_rows(
    spark: SparkSession, matrix: np.ndarray
) -> None:
    features = frame_of(spark, matrix[:5])
    pca = fit_pca(features, variance=1)
    assert pca.explained_variance_ratio.shape == (5,)
    assert pca.k == 4
    with pytest.raises(ValueError, match="components is 6, but 5 rows of 12 features"):
        fit_pca(features, components=6)


def test_what_cannot_be_fitted_says_why(spark: SparkSession, matrix: np.ndarray) -> None:
    none = spark.createDataFrame([], "features array<float>")
    with pytest.raises(ValueError, match="at least 2 rows with features and found 0"):
        fit_pca(none)
    with pytest.raises(ValueError, match=r"found 1: 1 rows have no features"):
        fit_pca(frame_of(spark, [matrix[0], None]))
    with pytest.raises(ValueError, match="are identical: there is no variance"):
        fit_pca(frame_of(spark, [matrix[0]] * 7))
    with pytest.raises(ValueError, match="no column features among path"):
        fit_pca(spark.createDataFrame([("a",)], "path string"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1,2", "3,5"], "string"),
        ([["a"], ["b"]], "array<string>"),
        ([[[1.0]], [[2.0]]], "array<array<float>>"),
        ([(1.0, 2.0)], "struct<a:float,b:float>"),
    ],
)
def test_what_are_no_features_is_refused_before_any_work(
    spark: SparkSession, values: list, kind: str
) -> None:
    frame = spark.createDataFrame([(value,) for value in values], f"features {kind}")
    with pytest.raises(ValueError, match=f"column features is {kind}, it must be an array of"):
        fit_pca(frame)


def test_features_of_two_lengths_are_refused(spark: SparkSession) -> None:
    with pytest.raises(Exception, match=r"features of length 2 and of length 3: are they of two"):
        fit_pca(frame_of(spark, [[1, 2], [1, 2, 3]], partitions=1))


def test_the_old_name_of_components_warns_and_works(features: DataFrame) -> None:
    with pytest.warns(DeprecationWarning, match="use components="):
        assert fit_pca(features, k=2).k == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variance": 0}, "above 0"),
        ({"variance": 1.5}, "1.5 % is 0.015"),
        ({"variance": 95}, "95 % is 0.95"),
        ({"variance": float("nan")}, "above 0"),
        ({"variance": "0.95"}, "is '0.95', it must be a share"),
        ({"components": 0}, "positive integer"),
        ({"components": 2.5}, "positive integer"),
        ({"components": True}, "positive integer"),
        ({"components": 2, "variance": 0.9}, "not both"),
    ],
)
def test_targets_that_make_no_sense_are_refused_before_any_work(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_pca("there is no such folder", **wrong)
