"""The report of a run: one page that opens anywhere, and its pictures as PNG files.

`write_report` leaves in the run's output folder::

    report/index.html        everything in one file: data, photos, script; it asks no network
    report/classes.png  photos.png  variance.png  pca.png  tsne.png  tsne_3d.png
           neighbours.png  near_duplicates.png  outliers.png  other_classes.png
           confusion_<classifier>_<hold-out>.png

The page's plots are drawn by plotly.js, which the PyPI package of that name brings and the page
carries along (4 MB, MIT): 20,000 points in two and three dimensions that turn and pan smoothly are
the work of a library. Page, script and style are files beside this module; what they show comes as
JSON and is only ever put into the page as text, so no label and no path can become markup, and the
page's own policy (CSP) forbids it every request and every script but its own two.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from pomona.report.content import Content, collect

if TYPE_CHECKING:
    from pomona.results import Results

#: Photos of a report, which holds a thumbnail of each: 10 MB of them.
SAMPLE_PHOTOS = 4000

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes
    ----------
    uri
        The page.
    photos, of
        Photos in its pictures, and photos of the set that have features.
    bytes
        Size of the page.
    pictures
        Names of the PNG files beside it.
    """

    uri: str
    photos: int
    of: int
    bytes: int
    pictures: list[str]


def write_report(
    results: Results,
    *,
    sample: int = SAMPLE_PHOTOS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write the report of a run into its output folder.

    Parameters
    ----------
    results
        What the run left: `pomona.results.LocalResults` or `pomona.spark.results.SparkResults`.
    sample
        Photos in the pictures: each class by its share. Counts are of all photos.
    seed
        Of the sample and of t-SNE: the same gives the same report.
    progress
        Is told what happens next.

    Raises
    ------
    ImportError
        Something of ``pip install 'pomona[report]'`` is missing.
    ValueError
        No photo of the run has features, or `sample` is below 1.
    OSError
        The output cannot be read or written.

    Examples
    --------
    >>> from pomona.results import LocalResults
    >>> write_report(LocalResults("results")).uri  # doctest: +SKIP
    'results/report/index.html'
    """
    if sample < 1:
        raise ValueError(f"a sample of {sample} photos makes no report: it must be at least 1")
    plotly = _plotly()
    _require("sklearn.manifold")
    _require("pomona.plots")
    content = collect(results, size=sample, seed=seed, progress=progress)
    progress("drawing the pictures")
    drawing = _require("pomona.report.pictures")
    pictures = drawing.draw(content)
    page = _page(content, plotly).encode()
    for name in drawing.NAMES:
        if name not in pictures:  # of a report before this one
            results.delete(f"report/{name}")
    for name, picture in pictures.items():
        results.write(f"report/{name}", picture)
    # Last: where the page is, all is there.
    results.write("report/index.html", page)
    return Report(
        uri=f"{results.uri.rstrip('/')}/report/index.html",
        photos=len(content.sample.paths),
        of=content.data["sample"]["of"],
        bytes=len(page),
        pictures=sorted(pictures),
    )


def _page(content: Content, plotly: str) -> str:
    """Put data, scripts and style into the template."""
    script = _text("report.js")
    # As JSON in a script element: nothing in it may look like the element's end.
    data = json.dumps(content.data, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(f"Pomona report: {content.data['summary']['output']}"),
        "hashes": " ".join(_hash(each) for each in (plotly, script)),
        "style": _text("report.css"),
        "data": data,
        "plotly": plotly,
        "script": script,
    }
    return _PLACE.sub(lambda match: parts[match.group(1)], _text("template.html"))


def _plotly() -> str:
    return str(_require("plotly.offline").get_plotlyjs())


def _require(module: str) -> Any:
    """Import what the extra brings, before work is spent on the report."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the report needs {error.name}: pip install 'pomona[report]'", name=error.name
        ) from error


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
