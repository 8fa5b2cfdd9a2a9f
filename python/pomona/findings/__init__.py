"""What to look at in a set of photos: suspected label errors, near-duplicates, bad photos.

`check` looks at all photos of a set, finds what a person should see, and says of each photo how
suspect it is and what could be done. ``pomona check`` and ``pomona report`` write the findings to a
table, ``findings.csv``; a person decides in its column ``decision``, and ``pomona run`` and
``pomona featurize`` leave photos out and relabel them accordingly (`pomona.findings.decisions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple

from pomona.findings import labels, outliers, twins
from pomona.findings.gallery import LARGEST, Gallery, open_gallery
from pomona.similar import DUPLICATE_DISTANCE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pomona.results import ClassCount, Results
    from pomona.results.pixels import PixelStatistics

__all__ = ["KINDS", "THRESHOLDS", "Finding", "Findings", "Group", "check", "look"]

#: The kinds of findings, in the order in which they are shown.
KINDS = (
    "label_error",
    "duplicate_across_classes",
    "duplicate_across_parts",
    "duplicate",
    "thin_class",
    "unreadable",
    "warning",
    "turned",
    "blurred",
    "dark",
    "tiny",
    "blank",
    "outlier",
)

#: Photos of a class that is large enough: a quarter of fewer tests the class on one photo or none.
LEAST_PHOTOS = 8

#: The strongest edges of a blurred photo, as a share of its contrast. In 895 photos of fruit they
#: are at least 0.42, after a Gaussian blur of 1 pixel at most 0.23, and of 1.5 pixels 0.13.
BLURRED_SHARPNESS = 0.15

#: Mean brightness of a dark photo. The darkest of 895 photos of fruit has 74.
DARK_BRIGHTNESS = 40

#: Pixels of a tiny photo's shorter side; a model enlarges it to 224, sevenfold.
TINY_SIDE = 32

#: Contrast of a blank photo, of 255 levels. The least of 895 photos of fruit is 176, and noise of a
#: camera in the dark is below.
BLANK_CONTRAST = 16

#: The thresholds, by kind.
THRESHOLDS = {
    "label_error": labels.LEAST_MARGIN,
    "duplicate_across_classes": DUPLICATE_DISTANCE,
    "duplicate_across_parts": DUPLICATE_DISTANCE,
    "duplicate": DUPLICATE_DISTANCE,
    "thin_class": LEAST_PHOTOS,
    "blurred": BLURRED_SHARPNESS,
    "dark": DARK_BRIGHTNESS,
    "tiny": TINY_SIDE,
    "blank": BLANK_CONTRAST,
    "outlier": outliers.RANGES,
}

#: Photos whose pixels are measured: decoding 10,000 photos of a phone takes about 15 minutes on two
#: cores. Of a larger set, a stratified sample is measured.
MEASURED = 10_000

_LEAVE_OUT = "leave out"


class Finding(NamedTuple):
    """A photo to look at.

    What `score` is depends on the kind:

    ========================  =======================================================
    ``label_error``           how much better another class explains the photo (above 0.075)
    ``duplicate…``            cosine distance of the two photos
    ``thin_class``            photos of the class
    ``turned``                EXIF orientation, 2 to 8
    ``blurred``               strongest edges as a share of the contrast
    ``dark``                  mean brightness, 0 to 255
    ``tiny``                  pixels of the shorter side
    ``blank``                 contrast, 0 to 255
    ``outlier``               interquartile ranges beyond the upper quartile of the class
    ``unreadable, warning``   None
    ========================  =======================================================
    """

    kind: str
    path: str
    #: The empty string where the photo has no label.
    label: str
    score: float | None
    #: A decision that fits: ``leave out``, ``relabel: NAME``, or the empty string; for unreadable
    #: photos and warnings the reason.
    suggestion: str = ""
    #: The photo that this one resembles, or the empty string.
    other_path: str = ""
    other_label: str = ""


class Group(NamedTuple):
    """The findings of a kind, the most suspect first."""

    kind: str
    #: Findings in the photos that were looked at.
    total: int
    #: All of them, but of unreadable, warned and turned photos at most `LARGEST`.
    findings: list[Finding]


@dataclass(frozen=True)
class Findings:
    """The findings of a set.

    Attributes
    ----------
    photos, of
        Photos whose features were compared, and photos that have features. They differ in sets of
        more than `LARGEST` photos.
    measured
        Photos whose pixels were measured, at most `MEASURED`.
    not_measured
        Photos among those that could no longer be read, and a reason.
    groups
        The findings by kind, in the order of `KINDS`; kinds without a finding are left out.
    """

    photos: int
    of: int
    measured: int
    not_measured: tuple[int, str]
    groups: list[Group]

    def __iter__(self) -> Iterator[Finding]:
        return (finding for group in self.groups for finding in group.findings)

    @property
    def total(self) -> int:
        """All findings; a photo may be in several."""
        return sum(group.total for group in self.groups)

    def as_dict(self, most: int | None = None) -> dict[str, Any]:
        """Return the findings as JSON, with at most `most` photos of each kind."""
        return {
            "scope": {"photos": self.photos, "of": self.of, "measured": self.measured},
            "kinds": [
                {
                    "kind": group.kind,
                    "total": group.total,
                    "listed": [_as_dict(finding) for finding in group.findings[:most]],
                }
                for group in self.groups
            ],
            "thresholds": THRESHOLDS,
        }


def check(
    results: Results, *, seed: int = 0, progress: Callable[[str], None] = lambda _: None
) -> Findings:
    """Look for label errors, near-duplicates and bad photos in the results of a run.

    All photos are compared with each other, up to `LARGEST`, in blocks that are read from a
    temporary file; memory use does not grow with the set, apart from the paths. Pixels are measured
    where the photos are.

    Parameters
    ----------
    results
        The results: `pomona.LocalResults` or `pomona.spark.SparkResults`.
    seed
        Seed of the sample that is drawn from larger sets.
    progress
        Called with a description of each step before it starts.

    Returns
    -------
    Findings
        The findings by kind, with their totals.

    Raises
    ------
    OSError
        The results cannot be read.
    ValueError
        The features differ in length.

    Examples
    --------
    >>> from pomona import LocalResults
    >>> for group in check(LocalResults("results")).groups:  # doctest: +SKIP
    ...     print(group.kind, group.total)
    label_error 8
    thin_class 21
    """
    progress("reading the features")
    with open_gallery(results, seed=seed) as photos:
        return look(results, photos, seed=seed, progress=progress)


def look(
    results: Results, photos: Gallery, *, seed: int, progress: Callable[[str], None]
) -> Findings:
    """Do the work of `check` on photos that are open already."""
    progress(f"comparing {len(photos):,} photos")
    classes = results.classes()
    margins, best = labels.margins_of(photos)
    found = _label_errors(photos, margins, best)
    found += _duplicates(photos, margins, best)
    found += _thin(results, photos, classes, seed)
    found += [
        _finding("outlier", photos, each.row, each.score, "", None)
        for each in outliers.outliers(photos)
    ]
    progress("measuring the pixels of the photos")
    label_of = dict(zip(photos.paths, photos.labels))
    wanted = photos.paths if len(photos) <= MEASURED else results.draw_paths(MEASURED, seed)
    measured = results.pixels(wanted)
    found += [
        finding
        for path, each in measured.items()
        if not isinstance(each, str)
        for finding in _pixels(path, label_of.get(path, ""), each)
    ]
    by_kind: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in found:
        by_kind[finding.kind].append(finding)
    for kind in ("blurred", "dark", "tiny", "blank"):
        by_kind[kind].sort(key=lambda each: (each.score, each.path))
    totals = {kind: len(each) for kind, each in by_kind.items()}
    noted, counts = _noted(results)
    by_kind.update(noted)
    totals.update(counts)
    missing = [each for each in measured.values() if isinstance(each, str)]
    return Findings(
        photos=len(photos),
        of=sum(each.photos - each.errors for each in classes),
        measured=len(measured) - len(missing),
        not_measured=(len(missing), missing[0] if missing else ""),
        groups=[Group(kind, totals[kind], by_kind[kind]) for kind in KINDS if totals[kind]],
    )


def _label_errors(
    photos: Gallery, margins: NDArray[np.float64], best: NDArray[np.int64]
) -> list[Finding]:
    found = labels.suspects(margins, best)
    nearest = photos.nearest_in_class([each.row for each in found], [each.number for each in found])
    return [
        _finding(
            "label_error",
            photos,
            each.row,
            each.margin,
            f"relabel: {photos.classes[each.number]}",
            None if near is None else near[0],
        )
        for each, near in zip(found, nearest)
    ]


def _duplicates(
    photos: Gallery, margins: NDArray[np.float64], best: NDArray[np.int64]
) -> list[Finding]:
    across, leaks = twins.across(photos, DUPLICATE_DISTANCE)
    found = []
    for each in across:
        # The photo whose label is the more suspect comes first.
        row, other = each.row, each.other
        if margins[other] > margins[row]:
            row, other = other, row
        suspect = margins[row] >= labels.LEAST_MARGIN
        suggestion = f"relabel: {photos.classes[best[row]]}" if suspect else ""
        kind = "duplicate_across_classes"
        found.append(_finding(kind, photos, row, each.distance, suggestion, other))
    for kind, pairs in (
        ("duplicate_across_parts", leaks),
        ("duplicate", twins.within(photos, DUPLICATE_DISTANCE)),
    ):
        found += [
            _finding(kind, photos, each.row, each.distance, _LEAVE_OUT, each.other)
            for each in pairs
        ]
    return found


def _finding(
    kind: str, photos: Gallery, row: int, score: float, suggestion: str, other: int | None
) -> Finding:
    return Finding(
        kind,
        photos.paths[row],
        photos.labels[row],
        round(float(score), 4),
        suggestion,
        "" if other is None else photos.paths[other],
        "" if other is None else photos.labels[other],
    )


def _thin(results: Results, photos: Gallery, classes: list[ClassCount], seed: int) -> list[Finding]:
    """List the readable photos of small classes, the smallest class first."""
    counts = {each.label: each.photos - each.errors for each in classes}
    thin = {label for label, count in counts.items() if label and 0 < count < LEAST_PHOTOS}
    members = list(zip(photos.paths, photos.labels))
    if len(photos) < sum(counts.values()) and thin:  # a sample, which may lack some of them
        paths = results.choose(dict.fromkeys(thin, LEAST_PHOTOS), seed)
        blocks = results.vectors("features", paths=paths)
        members = [each for block in blocks for each in zip(block.paths, block.labels)]
    found = [(counts[label], label, path) for path, label in members if label in thin]
    return [Finding("thin_class", path, label, count) for count, label, path in sorted(found)]


def _pixels(path: str, label: str, pixels: PixelStatistics) -> Iterator[Finding]:
    # A blank photo is neither dark nor blurred, and a tiny one has no edges to measure.
    if pixels.side < TINY_SIDE:
        yield Finding("tiny", path, label, pixels.side, _LEAVE_OUT)
    if pixels.contrast < BLANK_CONTRAST:
        yield Finding("blank", path, label, round(pixels.contrast, 1), _LEAVE_OUT)
        return
    if pixels.brightness < DARK_BRIGHTNESS:
        yield Finding("dark", path, label, round(pixels.brightness, 1), _LEAVE_OUT)
    if pixels.sharpness < BLURRED_SHARPNESS and pixels.side >= TINY_SIDE:
        yield Finding("blurred", path, label, round(pixels.sharpness, 4), _LEAVE_OUT)


def _noted(results: Results) -> tuple[dict[str, list[Finding]], dict[str, int]]:
    """List what the featurizing noted: unreadable, warned and turned photos."""
    summary = results.summary
    counts = {
        "unreadable": summary["errors"],
        # None in results of versions before 0.2.0.
        "warning": summary.get("warnings") or 0,
        "turned": summary.get("turned") or 0,
    }
    noted = {
        "unreadable": [
            Finding("unreadable", path, label, None, reason)
            for path, label, reason in _first(results.broken, counts["unreadable"])
        ],
        "warning": [
            Finding("warning", path, label, None, reason)
            for path, label, reason in _first(results.warned, counts["warning"])
        ],
        "turned": [
            Finding("turned", path, label, orientation)
            for path, label, orientation in _first(results.turned, counts["turned"])
        ],
    }
    return noted, counts


def _first(list_photos: Callable[[int], list[Any]], photos: int) -> list[Any]:
    return list_photos(min(photos, LARGEST)) if photos else []


def _as_dict(finding: Finding) -> dict[str, Any]:
    fields = finding._asdict()
    del fields["kind"]
    return dict(fields)
