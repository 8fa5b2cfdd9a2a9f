"""Principal components of features, with numpy and in one pass over them.

Each block of rows is reduced to its count, mean and scatter matrix; these are merged pairwise,
without the cancellation of sums of squares; and numpy decomposes the resulting matrix. Memory holds
a few matrices of d x d numbers, however many photos there are. `pomona.spark.fit_pca` reduces the
blocks on the executors and decomposes the merged moments with the same functions.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Callable, Iterable, NamedTuple

import numpy as np

from pomona._output import atomic_file
from pomona._parquet import lists_of, row_groups
from pomona._progress import timed
from pomona.results import LocalResults

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pomona.results import Results, Vectors
    from pomona.results.spark_ml import Projection, Scaler

#: The share of the variance that the components explain by default.
DEFAULT_VARIANCE = 0.95

#: Rows converted to float64 at once: 1,024 x 1,280 are 10 MiB.
BLOCK_ROWS = 1024

#: Tolerance for a share of the variance, for float64 sums of about a thousand ratios.
_ROUNDING = 1e-12


class Moments(NamedTuple):
    """The moments of some rows, which are all that PCA needs: d + d * d numbers."""

    #: Rows that were used.
    rows: int
    #: Rows that were left out, because they have no features, or NaN or infinite ones.
    empty: int
    nonfinite: int
    #: float64 [d]; d is 0 until a row is used.
    mean: NDArray[np.float64]
    #: float64 [d, d]: the sum over rows of the outer product of (row - mean) with itself.
    scatter: NDArray[np.float64]


#: The moments of no rows.
NOTHING = Moments(0, 0, 0, np.empty(0), np.empty((0, 0)))


@dataclass(frozen=True)
class Fit:
    """What a PCA has found, whichever engine fitted it.

    Attributes
    ----------
    k
        Number of components that are kept.
    rows
        Rows that it was fitted to.
    empty, nonfinite
        Rows that were left out, because they have no features (photos with an error), or NaN or
        infinite ones.
    standardize
        Whether each feature was divided by its standard deviation.
    explained_variance_ratio
        Share of the variance of every component, not only the k chosen ones: float64
        [min(rows, d)], descending.
    components
        float64 [k, d], orthonormal rows; the entry of largest magnitude of each is positive.
    mean, deviation
        Mean and standard deviation of each feature: float64 [d].
    """

    k: int
    rows: int
    empty: int
    nonfinite: int
    standardize: bool
    explained_variance_ratio: NDArray[np.float64]
    components: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @property
    def curve(self) -> NDArray[np.float64]:
        """Cumulative `explained_variance_ratio`, of the same shape."""
        return np.cumsum(self.explained_variance_ratio).clip(max=1.0)

    @property
    def variance(self) -> float:
        """Share of the variance that the k components explain together."""
        return float(self.curve[self.k - 1])

    def k_for(self, variance: float) -> int:
        """Return the smallest number of components that explain a share of the variance.

        Parameters
        ----------
        variance
            Above 0, at most 1.

        Raises
        ------
        ValueError
            `variance` is outside that range.
        """
        check_variance(variance)
        return int(np.argmax(self.curve >= variance - _ROUNDING)) + 1

    def stages(self) -> tuple[Scaler, Projection]:
        """Return the two stages as Spark ML saves them; see `pomona.results.spark_ml`."""
        from pomona.results.spark_ml import Projection, Scaler

        return (
            Scaler(self.mean, self.deviation, self.standardize),
            Projection(self.components, self.explained_variance_ratio[: self.k]),
        )


@dataclass(frozen=True)
class Components(Fit):
    """A PCA fitted without Spark. Its attributes are those of `pomona.spark.PCA`, but for `model`.

    Examples
    --------
    >>> from pomona.results import Vectors
    >>> line = np.array([[0, 0, 1], [1, 2, 1], [2, 4, 1]], np.float32)
    >>> pca = fit([Vectors(["a", "b", "c"], ["", "", ""], line)])
    >>> pca.k, pca.project(line).round(2).tolist()
    (1, [[-2.24], [0.0], [2.24]])
    """

    def project(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Centre features and project them onto the components.

        Parameters
        ----------
        matrix
            Features, shape (n, d).

        Returns
        -------
        numpy.ndarray
            float32, shape (n, k).
        """
        numbers: NDArray[np.floating[Any]] = matrix
        for stage in self.stages():
            numbers = stage.apply(numbers)
        return numbers.astype(np.float32)


def fit(
    blocks: Iterable[Vectors],
    *,
    variance: float | None = None,
    components: int | None = None,
    standardize: bool = False,
) -> Components:
    """Fit a PCA to features.

    Parameters
    ----------
    blocks
        Features from `pomona.results.Results.vectors`, read once.
    variance
        Keep the fewest components that explain this share of the variance, 0.95 by default. Above
        0; 1 keeps every component that has any variance.
    components
        Keep this many components instead.
    standardize
        Divide each feature by its standard deviation first, so that all have the same weight. A
        constant feature then becomes zero.

    Raises
    ------
    ValueError
        `variance` or `components` is out of range, or both are given; there are fewer than two rows
        with features; or the features are constant or of different lengths.
    """
    check_target(variance, components)
    moments = NOTHING
    for block in blocks:
        for start in range(0, len(block.matrix), BLOCK_ROWS):
            moments = merge(moments, moments_of(block.matrix[start : start + BLOCK_ROWS]))
    return decompose(moments, variance=variance, components=components, standardize=standardize)


def write_pca(
    results: LocalResults,
    *,
    variance: float | None = None,
    components: int | None = None,
    standardize: bool = False,
) -> Components:
    """Fit a PCA to results on this machine, and save it with them.

    Written are ``pca/part-00000.parquet`` (path, label and the column ``pca``, list<float32>),
    ``pca_model/`` (a Spark ``PipelineModel``, as `pomona run` saves it) and ``summary.json``.
    Should the process be killed in between, the results count as having no PCA.

    Parameters
    ----------
    results
        The results; their ``summary`` is updated.
    variance, components, standardize
        As for `fit`.

    Returns
    -------
    Components
        The PCA, whose `k` components are saved.

    Raises
    ------
    ValueError
        The PCA cannot be fitted: see `fit`. The results are unchanged.
    OSError
        The results cannot be read or written.

    Examples
    --------
    >>> from pomona import LocalResults
    >>> pca = write_pca(LocalResults("fruits.parquet"), variance=0.9)  # doctest: +SKIP
    >>> pca.k, pca.variance  # doctest: +SKIP
    (61, 0.9012)
    """
    from pomona.results import spark_ml

    check_target(variance, components)
    summary = results.summary
    if summary["errors"] == summary["photos"]:
        path, reason = summary["first_errors"][0]
        raise ValueError(
            f"no PCA: none of the {summary['photos']:,} photos of {results.source} could be read, "
            f"e.g. {path}: {reason}; the column error of the features has all reasons"
        )
    seconds: dict[str, float] = {}
    with timed(seconds, "pca"):
        pca = fit(
            results.vectors("features"),
            variance=variance,
            components=components,
            standardize=standardize,
        )
    errors = summary["errors"]
    pca = replace(pca, empty=errors, nonfinite=summary["photos"] - errors - pca.rows)
    with timed(seconds, "projection"), results.replaced_folder("pca") as folder:
        _write_projection(folder / "part-00000.parquet", pca, results.vectors("features"))
        # From here on, the results have no PCA until all of it is saved.
        results.write_summary(pca_summary(None))
    with timed(seconds, "model"):
        spark_ml.save(results.home / "pca_model", spark_ml.takes_arrays(*pca.stages()))
    results.write_summary(finished_summary(summary, pca, variance, components, seconds))
    return pca


def _write_projection(path: Path, pca: Components, blocks: Iterable[Vectors]) -> None:
    import pyarrow as pa

    schema = pa.schema(
        [("path", pa.string()), ("label", pa.string()), ("pca", pa.list_(pa.float32()))]
    )
    with atomic_file(path) as file, row_groups(file, schema) as write:
        for block in blocks:
            columns = [
                pa.array(block.paths, pa.string()),
                pa.array([label or None for label in block.labels], pa.string()),
                lists_of(pca.project(block.matrix)),
            ]
            write(pa.Table.from_arrays(columns, schema=schema))


def ensure_pca(results: Results, progress: Callable[[str], None] = lambda _: None) -> None:
    """Fit a PCA with the default settings to results that have none.

    Parameters
    ----------
    results
        The results.
    progress
        Called with a description of the fit before it starts, if there is one.

    Raises
    ------
    ValueError
        The PCA cannot be fitted, or the results are not on this machine.
    """
    if results.summary["k"]:
        return
    if not isinstance(results, LocalResults):
        raise ValueError(
            f"{results.uri} has no PCA: `pomona pca {results.uri}` fits one, on Spark because the "
            "results are not on this machine"
        )
    progress(f"fitting a PCA, because there is none yet (variance {DEFAULT_VARIANCE})")
    write_pca(results)


def pca_summary(pca: Fit | None, variance: float | None = None) -> dict[str, Any]:
    """Return the keys of ``summary.json`` about a PCA; `variance` is the share asked for."""
    if pca is None:
        return {"k": 0, "variance": None, "variance_explained": 0.0, "variance_curve": []}
    return {
        "dim": int(pca.mean.size),
        "k": int(pca.k),
        "variance": variance,
        "variance_explained": pca.variance,
        "variance_curve": pca.curve.tolist(),
        "standardize": pca.standardize,
    }


def finished_summary(
    summary: dict[str, Any],
    pca: Fit,
    variance: float | None,
    components: int | None,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Return what changes in a summary once a PCA is saved, which took `seconds` a stage."""
    target = None if components else DEFAULT_VARIANCE if variance is None else variance
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    return {
        **pca_summary(pca, target),
        "seconds": {**summary["seconds"], **seconds},
        "versions": {**summary["versions"], **versions},
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def check_target(variance: float | None, components: int | None) -> None:
    """Raise ValueError unless this is a valid share of the variance or number of components."""
    if variance is not None and components is not None:
        raise ValueError("give variance or components, not both")
    if variance is not None:
        check_variance(variance)
    if components is not None:
        check_components(components)


def check_variance(variance: float) -> None:
    """Raise ValueError unless this is a share of the variance."""
    if isinstance(variance, bool) or not isinstance(variance, (int, float, np.number)):
        raise ValueError(f"variance is {variance!r}, it must be a share such as 0.95")
    if not 0.0 < variance <= 1.0:
        hint = f": {variance:g} % is {variance / 100:g}" if 1.0 < variance <= 100.0 else ""
        raise ValueError(f"variance is {variance}, it must be a share above 0 and at most 1{hint}")


def check_components(number: int) -> None:
    """Raise ValueError unless this is a number of components."""
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise ValueError(f"components is {number!r}, it must be a positive integer")


def moments_of(matrix: NDArray[Any], empty: int = 0) -> Moments:
    """Compute the moments of a block of rows; `empty` more rows have no features."""
    numbers = matrix.astype(np.float64)
    numbers = numbers[np.isfinite(numbers).all(axis=1)]
    nonfinite = len(matrix) - len(numbers)
    if not len(numbers):
        return NOTHING._replace(empty=empty, nonfinite=nonfinite)
    mean = numbers.mean(axis=0)
    numbers -= mean
    return Moments(len(numbers), empty, nonfinite, mean, numbers.T @ numbers)


def merge(one: Moments, other: Moments) -> Moments:
    """Merge moments by the pairwise update of Chan, Golub and LeVeque (1979), for matrices."""
    empty, nonfinite = one.empty + other.empty, one.nonfinite + other.nonfinite
    if not one.rows or not other.rows:
        return (one if one.rows else other)._replace(empty=empty, nonfinite=nonfinite)
    check_one_length(one.mean.size, other.mean.size)
    rows = one.rows + other.rows
    difference = other.mean - one.mean
    mean = one.mean + difference * (other.rows / rows)
    scatter = one.scatter + other.scatter
    scatter += np.outer(difference, difference) * (one.rows * other.rows / rows)
    return Moments(rows, empty, nonfinite, mean, scatter)


def check_one_length(one: int, other: int) -> None:
    """Raise ValueError if features have two lengths."""
    if one != other:
        raise ValueError(f"features of length {one} and of length {other}: are they of two models?")


def decompose(
    moments: Moments,
    *,
    variance: float | None,
    components: int | None,
    standardize: bool,
) -> Components:
    """Compute the principal components of rows from their moments; see `fit`."""
    left_out = (
        f"{moments.empty} rows have no features and {moments.nonfinite} have NaN or infinite ones"
    )
    if moments.rows < 2:
        raise ValueError(
            f"PCA needs at least 2 rows with features and found {moments.rows}: {left_out}"
        )
    deviation = np.sqrt(_variances(moments))
    if not deviation.any():
        raise ValueError(
            f"the features of all {moments.rows} rows are identical: there is no variance"
        )
    covariance = moments.scatter / (moments.rows - 1)
    if standardize:
        scale = _inverse(deviation)
        covariance *= np.outer(scale, scale)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    most = min(moments.rows, moments.mean.size)
    eigenvalues = eigenvalues[::-1].clip(min=0.0)
    ratio = eigenvalues[:most] / eigenvalues.sum()
    if components is not None and components > most:
        raise ValueError(
            f"components is {components}, but {moments.rows} rows of {moments.mean.size} features "
            f"have at most {most} ({left_out})"
        )
    axes = vectors[:, ::-1][:, :most].T
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(most), largest])[:, np.newaxis]
    pca = Components(
        k=most,
        rows=moments.rows,
        empty=moments.empty,
        nonfinite=moments.nonfinite,
        standardize=standardize,
        explained_variance_ratio=ratio,
        components=axes,
        mean=moments.mean,
        deviation=deviation,
    )
    k = components or pca.k_for(DEFAULT_VARIANCE if variance is None else variance)
    return replace(pca, k=int(k), components=axes[:k].copy())


def _variances(moments: Moments) -> NDArray[np.float64]:
    """Return each feature's variance; exactly 0 where it is only the rounding of its mean."""
    variances = np.diag(moments.scatter) / (moments.rows - 1)
    noise = moments.rows * np.finfo(np.float64).eps * np.abs(moments.mean)
    return np.where(variances > noise**2, variances, 0.0)


def _inverse(deviation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / deviation, and 0 for a constant feature."""
    return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
