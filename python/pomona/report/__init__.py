"""The report of a run: a self-contained HTML page, and its figures as PNG files.

`write_report` writes to the folder of results::

    report/index.html        data, thumbnails and scripts in one file that works offline
    report/findings.csv      all findings, with a column for decisions
    report/classes.png  photos.png  variance.png  pca.png  tsne.png  tsne_3d.png
           neighbours.png  near_duplicates.png  outliers.png  other_classes.png
           confusion_<classifier>_<hold-out>.png

The page embeds plotly.js (4 MB, MIT) from the PyPI package plotly, because smooth panning and
rotation of 20,000 points takes a library. Template, script and style are files next to this module.
The data is embedded as JSON and inserted into the page only as text, so neither labels nor paths
can become markup, and the Content-Security-Policy of the page forbids all requests and all scripts
but its own two.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from pomona._optional import require
from pomona.findings.table import to_csv
from pomona.pca import ensure_pca
from pomona.report.content import Content, collect

if TYPE_CHECKING:
    from pomona.results import Results

#: Photos shown in a report by default. Their thumbnails take about 10 MB.
SAMPLE_PHOTOS = 4000

#: Where the findings are, in the folder of results.
FINDINGS_FILE = "report/findings.csv"

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """The outcome of `write_report`.

    Attributes
    ----------
    uri
        The page.
    photos, of
        Photos shown, and photos with features.
    bytes
        Size of the page.
    findings
        The number of findings of each kind; ``report/findings.csv`` lists them.
    pictures
        Names of the PNG files next to it.
    """

    uri: str
    photos: int
    of: int
    bytes: int
    findings: dict[str, int]
    pictures: list[str]


def write_report(
    results: Results,
    *,
    sample: int = SAMPLE_PHOTOS,
    seed: int = 0,
    against: Results | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write a report about results to their folder.

    Results without a PCA get one first, with the default settings.

    Parameters
    ----------
    results
        `pomona.LocalResults` or `pomona.spark.SparkResults`.
    sample
        Photos to show, sampled in proportion to the classes. Counts cover all photos.
    seed
        Seed of the sample and of t-SNE; equal seeds give equal reports.
    against
        Other results, such as last month's: the report shows what is new, gone or has changed.
    progress
        Called with a description of each step before it starts.

    Raises
    ------
    ImportError
        A package of ``pip install 'pomona[report]'`` is missing.
    ValueError
        No photo of the run has features, `sample` is less than 1, or the ``findings.csv`` of an
        earlier report is damaged, so that the decisions in it would be lost.
    ModelError
        The features of `against` come from another model.
    OSError
        The results cannot be read or written.

    Examples
    --------
    >>> from pomona import LocalResults
    >>> write_report(LocalResults("results")).uri  # doctest: +SKIP
    'results/report/index.html'
    """
    if sample < 1:
        raise ValueError(f"a sample of {sample} photos makes no report: it must be at least 1")
    # Before work is spent on the content.
    plotly = str(_require("plotly.offline").get_plotlyjs())
    _require("sklearn.manifold")
    drawing = _require("pomona.report.pictures")
    earlier = results.read(FINDINGS_FILE)
    ensure_pca(results, progress)
    content = collect(results, size=sample, seed=seed, against=against, progress=progress)
    findings = to_csv(content.findings, earlier, FINDINGS_FILE)
    progress("drawing the figures")
    pictures = drawing.draw(content)
    page = _page(content, plotly).encode()
    for name in drawing.NAMES:
        if name not in pictures:  # left by an earlier report
            results.delete(f"report/{name}")
    for name, picture in pictures.items():
        results.write(f"report/{name}", picture)
    results.write(FINDINGS_FILE, findings)
    # Last, so that a page implies complete figures.
    results.write("report/index.html", page)
    return Report(
        uri=f"{results.uri.rstrip('/')}/report/index.html",
        photos=len(content.sample.paths),
        of=content.data["sample"]["of"],
        bytes=len(page),
        findings={group.kind: group.total for group in content.findings.groups},
        pictures=sorted(pictures),
    )


def _page(content: Content, plotly: str) -> str:
    """Fill data, scripts and style into the template."""
    script = _text("report.js")
    # Escaped, because JSON in a script element must not contain the end of the element.
    data = json.dumps(content.data, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(f"Pomona report: {content.data['summary']['output']}"),
        "hashes": " ".join(_hash(each) for each in (plotly, script)),
        "style": _text("report.css"),
        "data": data,
        "plotly": plotly,
        "script": script,
    }
    return _PLACEHOLDER.sub(lambda match: parts[match.group(1)], _text("template.html"))


def _require(module: str) -> Any:
    return require(module, "report", "the report")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
