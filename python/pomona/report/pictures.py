"""The figures of a report as PNG files, for slides and mails."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from pomona import plots
from pomona.results.metrics import CLASSIFIERS, HOLDOUTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pomona.report.content import Content

#: Findings in a figure.
DRAWN = 24

#: All names; `draw` omits empty figures.
NAMES = (
    *("classes.png", "photos.png", "variance.png", "pca.png", "tsne.png", "tsne_3d.png"),
    *("other_classes.png", "near_duplicates.png", "outliers.png"),
    *(f"confusion_{name}_{holdout}.png" for name in CLASSIFIERS for holdout in HOLDOUTS),
)


_ERRORS = ("label_error",)
_DUPLICATES = ("duplicate_across_classes", "duplicate_across_parts", "duplicate")
_OUTLIERS = ("outlier",)


def draw(content: Content) -> dict[str, bytes]:
    """Draw the figures that are not empty.

    Returns
    -------
    dict
        The content of each PNG file, by name.
    """
    sample, summary = content.sample, content.data["summary"]
    chosen = [row for sheet in content.data["sheets"] for row in sheet]
    figures: dict[str, Figure] = {
        "classes.png": plots.class_balance({each.label: each.photos for each in content.classes}),
        "photos.png": plots.contact_sheet(
            [content.thumbnails[row] or b"" for row in chosen],
            [sample.labels[row] for row in chosen],
        ),
        "variance.png": plots.variance_curve(content.data["curve"], summary["k"]),
    }
    if sample.pca.shape[1] > 1:
        figures["pca.png"] = plots.components_scatter(sample.pca[:, :2], sample.labels)
    if content.flat is not None:
        figures["tsne.png"] = _without_axes(plots.components_scatter(content.flat, sample.labels))
    if content.solid is not None:
        figures["tsne_3d.png"] = _without_axes(plots.space_scatter(content.solid, sample.labels))
    figures.update(_findings(content))
    for each in content.data["classifiers"]:
        figures.update(_confusion(each))
    with warnings.catch_warnings():
        # matplotlib's font lacks some scripts.
        warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
        return {name: plots.to_png(figure) for name, figure in figures.items()}


def _without_axes(figure: Figure) -> Figure:
    """Remove the axis labels from a t-SNE map, whose axes have no meaning."""
    figure.axes[0].set(xlabel="", ylabel="", xticks=[], yticks=[])
    titled = next(axes for axes in figure.axes if axes.get_title(loc="left"))
    titled.set_title("Similar photos are close (t-SNE)", loc="left", fontsize=11)
    return figure


def _findings(content: Content) -> dict[str, Figure]:
    """Draw the first label errors, near-duplicates and outliers whose photos are on the page."""
    groups = {group["kind"]: group for group in content.data["findings"]["kinds"]}
    figures = {}
    for name, title, kinds in (
        ("other_classes.png", "possible label errors, and a photo of the other class", _ERRORS),
        ("near_duplicates.png", "near-duplicates, with their distance", _DUPLICATES),
        ("outliers.png", "outliers of their classes", _OUTLIERS),
    ):
        chosen = [groups[kind] for kind in kinds if kind in groups]
        listed = [each for group in chosen for each in group["listed"] if each["photo"] is not None]
        strips = [_strip(content, each) for each in listed[:DRAWN]]
        if strips:
            total = sum(group["total"] for group in chosen)
            figures[name] = plots.photo_strips(strips, f"{len(strips):,} of {total:,} {title}")
    return figures


def _strip(content: Content, finding: Mapping[str, Any]) -> tuple[str, Sequence[tuple[bytes, str]]]:
    """Return the heading and the one or two photos of a finding."""
    photos, heading = [(finding["photo"], finding["path"])], finding["label"]
    if finding["other"] is not None:
        photos.append((finding["other"], finding["other_path"]))
        if finding["other_label"] != finding["label"]:
            heading = f"{finding['label']} / {finding['other_label']}"
    return (
        f"{finding['score']:.3g} {heading}",
        [(content.thumbnails[row] or b"", path.rpartition("/")[2]) for row, path in photos],
    )


def _confusion(training: dict[str, Any]) -> dict[str, Figure]:
    return {
        f"confusion_{training['name']}_{name}.png": plots.confusion_matrix(
            metrics["confusion"],
            [each["label"] for each in metrics["classes"]],
            f"{training['classifier']}, {name} hold-out: accuracy {metrics['accuracy']:.2%}",
        )
        for name, metrics in training["holdouts"].items()
        if metrics is not None
    }
