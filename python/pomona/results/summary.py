"""The content of ``summary.json``, which says that a folder of results is complete."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pomona.decisions import describe_listing

if TYPE_CHECKING:
    from pomona._decode import DecodeKeywords

_MISREAD = (
    "RLE-compressed BMPs, 16-bit grey PNGs with a transparent level, and GIFs and animated WebPs "
    "whose first frame is not the whole picture"
)

#: Versions that computed wrong features, and of which photos. No row shows which these are.
FAULTY_VERSIONS = {
    "0.1.0": f"JPEGs without tables of their own (frames of Motion JPEG), {_MISREAD}",
    "0.1.1": _MISREAD,
}

#: Photos with an error, and photos with a warning, that a summary names; the columns ``error`` and
#: ``warning`` of ``features`` have all.
LISTED_ERRORS = 5


@dataclass
class Summary:
    """The results in numbers: the content of ``summary.json``.

    `pomona run` and `pomona featurize` write the same keys. The second reads every photo itself, so
    `retried` and `recovered` are 0 and `reading` is empty; `k` is 0 until a PCA is fitted.
    """

    #: The folders of photos, and the folder of the results.
    images: list[str]
    output: str
    #: ``name`` and ``sha256``.
    model: dict[str, str]
    #: The fields of `pomona.DecodeOptions`.
    decode: DecodeKeywords
    #: Rows of ``features``, including those of photos with an error.
    photos: int = 0
    #: Photos with an error, and the first of them: (path, reason).
    errors: int = 0
    first_errors: list[tuple[str, str]] = field(default_factory=list)
    #: Photos with a warning, and the first of them: (path, warning).
    warnings: int = 0
    first_warnings: list[tuple[str, str]] = field(default_factory=list)
    #: Photos whose EXIF orientation was not applied, because ``apply_exif`` is false.
    turned: int = 0
    #: Photos that this run featurized; earlier runs featurized the others.
    featurized: int = 0
    #: Photos among them that had an error from an earlier run, and how many of those have features
    #: now.
    retried: int = 0
    recovered: int = 0
    #: The versions of Pomona that computed the features, in this run and earlier ones.
    feature_versions: list[str] = field(default_factory=list)
    #: Files in the folders that are not photos, and hidden files and folders, by kind: an extension
    #: in lower case, ``.DS_Store``, ``._*``, ``hidden`` …
    left_out: dict[str, int] = field(default_factory=dict)
    #: Photos that decisions ``left out`` and ``relabelled``.
    decided: dict[str, int] = field(default_factory=dict)
    #: Photos that were deleted between the listing and the reading.
    vanished: int = 0
    #: The ``way`` in which photos are read, and the ``reason`` for it: ``paths`` if each task reads
    #: its photos itself, many at a time; ``binaryFile`` if Spark reads them one after another.
    reading: dict[str, str] = field(default_factory=dict)
    #: Length of a feature vector.
    dim: int = 0
    #: Number of principal components, 0 without a PCA; the share of the variance that was requested
    #: (None if a number was), and the share that they explain.
    k: int = 0
    variance: float | None = None
    variance_explained: float = 0.0
    #: Share of the variance that the first 1, 2, 3 … components explain together.
    variance_curve: list[float] = field(default_factory=list)
    standardize: bool = False
    #: Wall-clock seconds of each stage.
    seconds: dict[str, float] = field(default_factory=dict)
    #: Photos featurized per second, from the listing to the finished features; 0 if none was.
    images_per_second: float = 0.0
    #: Versions of Pomona, Spark, Python and numpy.
    versions: dict[str, str] = field(default_factory=dict)
    #: When the run ended: UTC, ISO 8601.
    finished: str = ""
    #: ``spark``, or ``local`` for the results of `pomona featurize`.
    engine: str = "spark"

    @property
    def caution(self) -> str | None:
        """A warning about features that an earlier version may have computed wrongly."""
        faulty = [version for version in self.feature_versions if version in FAULTY_VERSIONS]
        if not faulty:
            return None
        return (
            f"some features were computed by Pomona {', '.join(faulty)}, which decoded some photos "
            f"wrongly: {FAULTY_VERSIONS[faulty[0]]}. If you have such photos, compute all features "
            "again with --no-resume (resume=False)"
        )

    def __str__(self) -> str:
        """Describe the results in a few lines."""
        rate = f" at {self.images_per_second:,.1f} per second" if self.featurized else ""
        lines = [
            f"{self.photos:,} photos, {self.featurized:,} of them featurized now{rate}, "
            f"with {self.model['name']}"
        ]
        if self.retried:
            lines.append(
                f"{self.retried:,} with an error from an earlier run tried again: "
                f"{self.recovered:,} have features now"
            )
        if self.errors:
            lines.append(f"{self.errors:,} with an error, such as:")
            lines += [f"  {path}: {reason}" for path, reason in self.first_errors]
        if self.warnings:
            lines.append(f"{self.warnings:,} with a warning, such as:")
            lines += [f"  {path}: {warning}" for path, warning in self.first_warnings]
        if self.turned:
            lines.append(
                f"{self.turned:,} on their side, upside down or mirrored in the file and not "
                "turned: apply_exif=True (--apply-exif) turns them"
            )
        if self.caution:
            lines.append(self.caution)
        lines += describe_listing(self.left_out, self.decided)
        lines.append(
            f"{self.k:,} of {self.dim:,} components explain {self.variance_explained:.1%} of the "
            "variance"
        )
        lines.append(f"results: {self.output}/features, pca, pca_model, summary.json")
        return "\n".join(lines)
