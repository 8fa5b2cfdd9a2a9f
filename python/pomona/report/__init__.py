"""The report of a run: a self-contained HTML page, and its figures as PNG files.

`write_report` writes to the folder of results::

    report/index.html        data, thumbnails and scripts in one file that works offline
    report/findings.csv      all findings, with a column for decisions
    report/classes.png  photos.png  variance.png  pca.png  tsne.png  tsne_3d.png
           other_classes.png  near_duplicates.png  outliers.png
           confusion_<classifier>_<hold-out>.png

Template, style, scripts and the sentences of each language are files next to this module; the
scripts are joined into one. The data is embedded as JSON and inserted into the page only as text,
so neither labels nor paths can become markup, and the Content-Security-Policy of the page forbids
all requests and all scripts but its own.
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
from pomona.decisions import decisions_of, rows_of
from pomona.findings.table import to_csv
from pomona.pca import ensure_pca
from pomona.report.content import collect

if TYPE_CHECKING:
    from pomona.results import Results

#: Photos shown in a report by default. Their thumbnails take about 10 MB.
SAMPLE_PHOTOS = 4000

#: Where the findings are, in the folder of results.
FINDINGS_FILE = "report/findings.csv"

#: Languages of the page: a file of sentences in the folder ``text`` each.
LANGUAGES = ("en", "fr")

#: The parts of the page's script in the order in which they run.
_SCRIPTS = ("data", "photos", "findings", "marks", "maps", "sections", "classifiers", "page")

_PLACEHOLDER = re.compile(r"\{\{([\w.-]+)\}\}")
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
    language: str = "en",
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
    language
        Language of the page: ``en`` or ``fr``.
    progress
        Called with a description of each step before it starts.

    Raises
    ------
    ImportError
        A package of ``pip install 'pomona[report]'`` is missing.
    ValueError
        No photo of the run has features, `sample` is less than 1, there is no such `language`, or
        the ``findings.csv`` of an earlier report is damaged, so that the decisions in it would be
        lost.
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
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r} and must be one of {', '.join(LANGUAGES)}")
    # Before work is spent on the content.
    _require("sklearn.manifold")
    drawing = _require("pomona.report.pictures")
    earlier = results.read(FINDINGS_FILE)
    ensure_pca(results, progress)
    content = collect(results, size=sample, seed=seed, against=against, progress=progress)
    findings = to_csv(content.findings, earlier, FINDINGS_FILE)
    progress("drawing the figures")
    pictures = drawing.draw(content)
    decisions = _decisions(findings)
    page = _page({**content.data, "decisions": decisions}, language).encode()
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


def _page(data: dict[str, Any], language: str) -> str:
    """Fill data, scripts, style and sentences into the template."""
    sentences = json.loads(_text(f"text/{language}.json"))
    content = json.dumps({**data, "language": language, "text": sentences}, separators=(",", ":"))
    script = _script()
    parts = {
        "language": language,
        "title": html.escape(sentences["title"].format(output=data["summary"]["output"])),
        "verb": "featurize" if data["summary"]["engine"] == "local" else "run",
        "hash": _hash(script),
        "style": _text("report.css"),
        # Escaped, because JSON in a script element must not contain the end of the element.
        "data": content.replace("<", "\\u003c"),
        "script": script,
    }

    def part(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.startswith("text."):
            return html.escape(sentences[name[len("text.") :]])
        return parts[name]

    return _PLACEHOLDER.sub(part, _text("template.html"))


def _decisions(findings: bytes) -> list[list[str]]:
    """List the decisions that a table has from before, as the page writes them, by path."""
    kept = decisions_of(rows_of(findings, FINDINGS_FILE), FINDINGS_FILE)
    return [
        [each.path, "leave out" if each.label is None else f"relabel: {each.label}"]
        for each in kept.by_key.values()
    ]


def _script() -> str:
    """Join the scripts into one whose names stay its own."""
    joined = "\n".join(_text(f"script/{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{joined}\n}})();\n'


def _require(module: str) -> Any:
    return require(module, "report", "the report")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
