"""The figures of a report as PNG files, for slides and mails."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Sequence

from pomona import plots
from pomona.results.metrics import CLASSIFIERS, HOLDOUTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pomona.report.content import Content

#: All names; `draw` omits empty figures.
NAMES = (
    *("classes.png", "photos.png", "variance.png", "pca.png", "tsne.png", "tsne_3d.png"),
    *("neighbours.png", "near_duplicates.png", "outliers.png", "other_classes.png"),
    *(f"confusion_{name}_{holdout}.png" for name in CLASSIFIERS for holdout in HOLDOUTS),
)


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
    figures.update(_similarity(content))
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


def _similarity(content: Content) -> dict[str, Figure]:
    labels, data = content.sample.labels, content.data
    files = [path.rpartition("/")[2] for path in content.sample.paths]

    def photo(row: int, text: str) -> tuple[bytes, str]:
        return content.thumbnails[row] or b"", text

    def names(one: int, two: int, between: str) -> str:
        return (
            labels[one] if labels[one] == labels[two] else between.join([labels[one], labels[two]])
        )

    pairs = data["duplicates"]["pairs"]
    pictures: dict[str, tuple[str, Sequence[tuple[str, Sequence[tuple[bytes, str]]]]]] = {
        "neighbours.png": (
            "Photos with their nearest neighbours and distances",
            [
                (
                    labels[each["photo"]],
                    [
                        photo(each["photo"], "this photo"),
                        *(photo(row, f"{far:.3f} {labels[row]}") for row, far in each["near"]),
                    ],
                )
                for each in data["neighbours"]
            ],
        ),
        "near_duplicates.png": (
            f"The {len(pairs):,} closest of {data['duplicates']['found']:,} near-duplicates",
            [
                (
                    f"{far:.4f} {names(one, two, ' and ')}",
                    [photo(one, files[one]), photo(two, files[two])],
                )
                for one, two, far in pairs
            ],
        ),
        "outliers.png": (
            "Outliers, with their mean distance from their nearest neighbours",
            [
                (labels[row], [photo(row, f"{far:.3f} {files[row]}")])
                for row, far in data["outliers"]
            ],
        ),
        "other_classes.png": (
            "Possible label errors: the photo, and its neighbour of another class",
            [
                (names(row, like, " like "), [photo(row, files[row]), photo(like, files[like])])
                for row, like, _ in data["label_errors"]
            ],
        ),
    }
    return {
        name: plots.photo_strips(strips, title)
        for name, (title, strips) in pictures.items()
        if strips
    }


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
