"""The whole job: photos -> features -> PCA -> Parquet.

The output folder of a run::

    features/      path, label, features array<float>, error …; see `pomona.spark.write_features`
    pca/           path, label, pca array<float>; photos with an error have no row
    pca_model/     a saved Spark PipelineModel, which plain PySpark loads
    summary.json   counts, variance curve, times; written last: if it exists, the run is complete
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Sequence

import numpy as np
from pyspark.sql.functions import col

import pomona
from pomona._arguments import list_of_paths
from pomona._decode import gather_options
from pomona._progress import report_listing, timed
from pomona.pca import DEFAULT_VARIANCE, check_target, pca_summary
from pomona.results.summary import LISTED_ERRORS
from pomona.results.summary import Summary as Summary  # public here
from pomona.spark._decisions import decide, load_decisions
from pomona.spark._hadoop import Folder
from pomona.spark._s3 import storage_of, why_not_by_paths
from pomona.spark._session import described
from pomona.spark.features import prepare, read_features
from pomona.spark.images import list_images
from pomona.spark.pca import fit_pca, save_pca

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords
    from pomona._typing import PathLike


def run(
    spark: SparkSession,
    images: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    model: PathLike = "mobilenet_v2",
    variance: float | None = None,
    components: int | None = None,
    standardize: bool = False,
    resume: bool = True,
    retry_errors: bool = False,
    label: str | Column | None = "parent",
    by_paths: bool = True,
    decisions: PathLike | None = None,
    chunk_photos: int | None = None,
    progress: bool = True,
    **decode_options: Unpack[DecodeKeywords],
) -> Summary:
    """Featurize photos, fit a PCA, and write features, projections, model and summary.

    Each photo is read and featurized once: the features are written first, and everything else
    reads them from there. Run again after a kill or with more photos, it featurizes only photos
    that have no features yet.

    Parameters
    ----------
    spark
        The session to run on. Its settings do not change.
    images
        Folders of photos, as for `pomona.spark.read_images`.
    output
        A folder for the results, outside the folders of photos.
    model
        A name, a path on the driver or a URI.
    variance
        Keep the fewest principal components that explain this share of the variance, 0.95 by
        default.
    components
        Keep this many principal components instead.
    standardize
        Divide each feature by its standard deviation before the PCA.
    resume
        False featurizes every photo again, also with another model or other options.
    retry_errors
        Try every photo again that has an error from an earlier run. Otherwise only photos whose
        error may have passed are tried again: the storage did not deliver them, for example, or a
        faulty version of Pomona reported it.
    label
        As for `pomona.spark.read_images`.
    by_paths
        Each task reads its photos itself, many at a time, where that is possible. False makes
        Spark's ``binaryFile`` read them one after another, which also happens where only Spark's
        Hadoop can read them. The features are identical.
    decisions
        A ``findings.csv`` with decisions (`pomona.decisions`): photos to leave out and to relabel.
        Features that exist are kept; without the file, the next run undoes its decisions.
    chunk_photos
        As for `pomona.spark.features.write_features`.
    progress
        Show a progress line on standard error.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`.

    Returns
    -------
    Summary
        The content of ``summary.json``. Photos that cannot be featurized are counted, and are rows
        of ``features`` with an error.

    Raises
    ------
    FileNotFoundError
        There are no photos.
    ModelError
        The model cannot be used, or the output holds features of another model.
    TypeError
        An option does not exist or has the wrong type.
    ValueError
        An argument is invalid, a decision is unknown, contradicts another or is about a photo that
        is not in the folders, the output holds features that were computed with other options, or
        the PCA cannot be fitted; the features are complete even then.
    OSError
        A folder cannot be read or written.

    Examples
    --------
    >>> summary = run(spark, "s3://fruits/Test", "s3://fruits/out")  # doctest: +SKIP
    >>> summary.photos, summary.errors, summary.k  # doctest: +SKIP
    (23619, 0, 344)
    """
    decode = gather_options("run", decode_options)
    check_target(variance, components)
    if components is None and variance is None:
        variance = DEFAULT_VARIANCE
    chosen = None if decisions is None else load_decisions(spark, decisions)
    folders = list_of_paths(images)
    sources = [Folder(spark, os.fspath(folder)) for folder in folders]
    home = Folder(spark, os.fspath(output))
    for source in sources:
        if source.contains(home):
            raise ValueError(
                f"the output {home.uri} is in the folder of photos {source.uri}: choose another "
                "output"
            )

    context = spark.sparkContext
    seconds: dict[str, float] = {}
    if by_paths:
        uris = [source.uri for source in sources]
        only_spark = why_not_by_paths(spark, uris, storage_of(spark))
    else:
        only_spark = "requested by by_paths=False (--no-paths)"
    with timed(seconds, "list"), described(context, "list the photos"):
        # Photos may be deleted while a long run is in progress.
        photos, tally = list_images(
            spark, images, label=label, content=only_spark is not None, ignore_missing=True
        )
        decided = decide(photos, chosen, ", ".join(source.uri for source in sources))
        photos = decided.photos
    if progress:
        report_listing(tally)
    summary_file = home / "summary.json"
    with timed(seconds, "features"):
        writer = prepare(
            photos,
            (home / "features").uri,
            model=model,
            decode=decode,
            resume=resume,
            retry_errors=retry_errors,
        )
        # From here on, the results are incomplete.
        summary_file.delete()
        written = writer.write(photos, chunk_photos=chunk_photos, progress=progress)
    with described(context, "read the features"):
        features = read_features(spark, written.uri)
        first_errors = _first(features, "error") if written.errors else []
        first_warnings = _first(features, "warning") if written.warnings else []
    if written.errors == written.photos:
        path, reason = first_errors[0]
        raise ValueError(
            f"no PCA: none of the {written.photos} photos can be read, e.g. {path}: {reason}; "
            f"the column error of {written.uri} has all reasons"
        )

    with timed(seconds, "pca"), described(context, "fit the PCA"):
        pca = fit_pca(features, variance=variance, components=components, standardize=standardize)
    save_pca(pca, features, home, seconds)

    summary = Summary(
        images=[source.uri for source in sources],
        output=home.uri,
        model={"name": written.model_name, "sha256": written.model_sha256},
        decode=decode.keywords(),
        photos=written.photos,
        errors=written.errors,
        first_errors=first_errors,
        warnings=written.warnings,
        first_warnings=first_warnings,
        turned=written.turned,
        featurized=written.featurized,
        retried=written.retried,
        recovered=written.recovered,
        feature_versions=written.versions,
        left_out=tally.left_out,
        decided=decided.counts(),
        vanished=written.vanished,
        reading=_reading(sources, only_spark),
        **pca_summary(pca, variance),
        seconds=seconds,
        images_per_second=round(written.featurized / seconds["features"], 1),
        versions={
            "pomona": pomona.__version__,
            "spark": spark.version,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    summary_file.write_json(asdict(summary))
    return summary


def _first(features: DataFrame, column: str) -> list[tuple[str, str]]:
    rows = features.where(col(column).isNotNull()).select("path", column)
    return [tuple(row) for row in rows.take(LISTED_ERRORS)]


def _reading(sources: Sequence[Folder], only_spark: str | None) -> dict[str, str]:
    if only_spark is not None:
        return {"way": "binaryFile", "reason": only_spark}
    schemes = sorted({source.uri.partition(":")[0] for source in sources})
    return {"way": "paths", "reason": f"{' and '.join(schemes)}: can be read by paths"}
