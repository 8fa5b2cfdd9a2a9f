"""Scatter plots of photos in two and three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterable, Sequence

import numpy as np

from pomona.plots import _page as page
from pomona.results.base import class_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

#: Up to this many classes are labelled with their names; more are numbered, with a legend.
NAMED_CLASSES = 12

# Seven markers and six colours: neighbours differ in both, and no pair repeats among 42 classes.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Iterations that move labels apart; those of 141 classes take about 100.
_STEPS = 500


def components_scatter(
    points: Iterable[ArrayLike],
    labels: Iterable[str | None],
    explained: ArrayLike | None = None,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw photos on the first two principal components, coloured by class.

    Colours and markers repeat if there are many classes. Each class is therefore labelled at its
    median, with its name or, beyond `NAMED_CLASSES`, with a number that a legend explains.

    Parameters
    ----------
    points
        At least two components per photo: the column ``pca``.
    labels
        One label per photo.
    explained
        Share of the variance of each component (`PCA.explained_variance_ratio`), shown on the axes.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        There are no photos, not one label per photo, or only one component.
    """
    names = [page.name_of(label) for label in labels]
    rows = [np.asarray(point, dtype=np.float64)[:2] for point in points]
    page.check_lengths("points", len(rows), len(names))
    places = np.stack(rows)
    if places.shape[1] < 2:
        raise ValueError("a scatter plot needs two components: fit the PCA with components >= 2")
    classes = sorted(set(names), key=class_order)
    columns, list_width = _list_layout(classes)
    size = 8.0
    figure = page.prepare(figure, size + 1 + list_width, size)
    axes = page.add_axes(figure, left=0.8, right=0.2 + list_width, top=0.5, bottom=0.6)
    axes.set_axisbelow(True)
    axes.grid(color=page.FAINT, linewidth=0.5)

    styles, groups = _styles(len(classes)), _groups(places, names, classes)
    area = _area(len(places))
    for group, (colour, marker) in zip(groups, styles):
        axes.scatter(
            group[:, 0],
            group[:, 1],
            s=area,
            c=colour,
            marker=marker,
            alpha=0.7,
            # Without edges, the strokes of a small cross are narrower than a pixel and vanish.
            edgecolors="face",
            linewidths=0.4,
        )
    low, high = places.min(axis=0), places.max(axis=0)
    margin = np.maximum(0.05 * (high - low), 1e-9)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])

    middles = np.stack([np.median(group, axis=0) for group in groups])
    _label_middles(axes, middles, _marks(classes), [colour for colour, _ in styles])
    if columns:
        _list_classes(figure, columns, styles, list_width)
    for axis, number in ((axes.xaxis, 0), (axes.yaxis, 1)):
        share = None if explained is None else page.percent(np.asarray(explained)[number])
        axis.set_label_text(
            f"component {number + 1}" + (f", {share} of the variance" if share else "")
        )
    photos = page.photos_of(len(places), len(classes))
    page.set_title(axes, f"{photos} on the first two components")
    return figure


def space_scatter(
    points: ArrayLike, labels: Iterable[str | None], *, figure: Figure | None = None
) -> Figure:
    """Draw photos in three dimensions, coloured by class as in `components_scatter`.

    Parameters
    ----------
    points
        Coordinates, shape (photos, 3).
    labels
        One label per photo.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        There are no photos, not one label per photo, or not three coordinates.
    """
    from mpl_toolkits.mplot3d import proj3d  # type: ignore[import-untyped]

    names, places = [page.name_of(label) for label in labels], np.asarray(points, np.float64)
    page.check_lengths("points", len(places), len(names))
    if places.ndim != 2 or places.shape[1] != 3:
        raise ValueError(f"points must have 3 coordinates, but their shape is {places.shape}")
    classes = sorted(set(names), key=class_order)
    columns, list_width = _list_layout(classes)
    size = 8.0
    figure = page.prepare(figure, size + list_width, size)
    corner = (0.02, 0, size / (size + list_width) - 0.02, (size - 0.5) / size)
    axes: Any = figure.add_axes(corner, projection="3d")
    axes.set(xticks=[], yticks=[], zticks=[])
    styles, groups = _styles(len(classes)), _groups(places, names, classes)
    for group, (colour, marker) in zip(groups, styles):
        axes.scatter(*group.T, s=_area(len(places)), c=colour, marker=marker, edgecolors="face")
    # Labels are drawn on flat axes above the plot, where they can be moved apart.
    middles = np.stack([np.median(group, axis=0) for group in groups])
    across, up, _ = proj3d.proj_transform(*middles.T, axes.get_proj())
    flat = figure.add_axes(corner)
    flat.axis("off")
    flat.set_xlim(0, 1)
    flat.set_ylim(0, 1)
    figure.canvas.draw()
    projected = axes.transData.transform(np.stack([across, up], axis=1))
    projected = flat.transAxes.inverted().transform(projected)
    _label_middles(flat, projected, _marks(classes), [colour for colour, _ in styles])
    if columns:
        _list_classes(figure, columns, styles, list_width)
    page.set_title(flat, f"{page.photos_of(len(places), len(classes))} in three dimensions")
    return figure


def _styles(classes: int) -> list[tuple[str, str]]:
    """Return a colour and a marker for each class."""
    return [
        (page.PALETTE[number % len(page.PALETTE)], _MARKERS[number % len(_MARKERS)])
        for number in range(classes)
    ]


def _groups(
    places: NDArray[np.float64], names: Sequence[str], classes: Sequence[str]
) -> list[NDArray[np.float64]]:
    """Group the coordinates of photos by class."""
    number_of = {name: number for number, name in enumerate(classes)}
    numbers = np.array([number_of[name] for name in names])
    return [places[numbers == number] for number in range(len(classes))]


def _area(photos: int) -> float:
    """Return the area of a marker, in square points."""
    return float(np.clip(12_000 / photos, 5, 26))


def _marks(classes: Sequence[str]) -> list[str]:
    """Return the label of each class on the map: its name, or its number in the legend."""
    if len(classes) > NAMED_CLASSES:
        return [str(number) for number in range(1, len(classes) + 1)]
    return [page.shorten(name, 24) for name in classes]


def _list_layout(classes: Sequence[str]) -> tuple[list[Sequence[str]], float]:
    """Return the columns and the width of the legend; empty if classes are labelled by name."""
    if len(classes) <= NAMED_CLASSES:
        return [], 0.0
    columns = page.in_columns(classes, 47)
    widths = [page.text_width(max(map(len, map(_listed, column))) + 9, 7) for column in columns]
    return columns, sum(widths) + 0.2


def _listed(name: str) -> str:
    return page.shorten(name, 26)


def _list_classes(
    figure: Figure,
    columns: Sequence[Sequence[str]],
    styles: Sequence[tuple[str, str]],
    width: float,
) -> None:
    """Draw the legend at the right of a figure."""
    total, height = figure.get_size_inches()
    axes = figure.add_axes((1 - width / total, 0, width / total, 1))
    axes.axis("off")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    x, number = 0.15, 0
    for column in columns:
        for row, name in enumerate(column):
            y = 0.5 + row * 0.152
            colour, marker = styles[number]
            number += 1
            axes.plot([x], [y], marker=marker, color=colour, markersize=5, markeredgewidth=0)
            axes.text(
                x + 0.36,
                y,
                str(number),
                fontsize=7,
                fontweight="bold",
                ha="right",
                va="center",
                color=page.INK,
            )
            axes.text(x + 0.42, y, _listed(name), fontsize=7, va="center", color=page.INK)
        x += page.text_width(max(map(len, map(_listed, column))) + 9, 7)


def _label_middles(
    axes: Axes, middles: NDArray[np.float64], texts: Sequence[str], colours: Sequence[str]
) -> None:
    """Label each class at its median, moving labels apart where they would overlap."""
    size = 8 if len(texts) > NAMED_CLASSES else 9.5
    area = np.array(axes.bbox.size) * page.POINTS_PER_INCH / axes.figure.dpi
    low = np.array([axes.get_xlim()[0], axes.get_ylim()[0]])
    high = np.array([axes.get_xlim()[1], axes.get_ylim()[1]])
    anchors = (middles - low) / (high - low) * area
    half = np.array([page.CHARACTER_WIDTH, page.LINE_HEIGHT]) * size / 2
    halves = np.array([[len(text), 1] for text in texts]) * half
    places = _spread(anchors, halves + 1.5, area)
    for anchor, place, half, text, colour in zip(anchors, places, halves, texts, colours):
        # A line connects a label that was moved to its class.
        if (np.abs(anchor - place) > half).any():
            line = np.stack([anchor, place]) / area * (high - low) + low
            axes.plot(line[:, 0], line[:, 1], color=page.MUTED, linewidth=0.7, zorder=3)
        x, y = place / area * (high - low) + low
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold",
            color=page.INK,
            zorder=4,
            bbox={
                "boxstyle": "round,pad=0.15",
                "facecolor": "white",
                "edgecolor": colour,
                "alpha": 0.85,
                "linewidth": 1,
            },
        )


def _spread(
    anchors: NDArray[np.float64], halves: NDArray[np.float64], area: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move overlapping boxes with half-sizes `halves` apart, staying close to their anchors."""
    # Coincident boxes need different directions to move in, here multiples of the golden angle.
    angles = np.arange(len(anchors)) * np.pi * (3 - np.sqrt(5))
    places = anchors + np.stack([np.cos(angles), np.sin(angles)], axis=1) * 0.5
    for _ in range(_STEPS):
        apart = places[:, np.newaxis] - places[np.newaxis]
        overlap = halves[:, np.newaxis] + halves[np.newaxis] - np.abs(apart)
        touching: NDArray[np.bool_] = np.asarray((overlap > 0).all(axis=2))
        np.fill_diagonal(touching, False)
        if not touching.any():
            break
        # Both boxes of a pair move by half their overlap, along the axis on which it is smaller.
        along_x = overlap[..., 0] < overlap[..., 1]
        push = np.where(
            np.stack([along_x, ~along_x], axis=2) & touching[..., np.newaxis],
            np.where(apart < 0, -overlap, overlap) / 2,
            0,
        )
        places = np.clip(places + push.sum(axis=1), halves, area - halves)
    return places
