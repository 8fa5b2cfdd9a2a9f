"""Confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

import numpy as np

from pomona.plots._figure import (
    BLUE,
    INK,
    SMALL,
    TINY,
    VERMILION,
    add_axes,
    name_of,
    prepare,
    set_title,
    shorten,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

#: Up to this many classes, the cells show their number of photos.
_NUMBERED_CLASSES = 40


def confusion_matrix(
    matrix: ArrayLike, labels: Sequence[str | None], title: str, *, figure: Figure | None = None
) -> Figure:
    """Draw a confusion matrix, with correct predictions in blue and errors in orange.

    Parameters
    ----------
    matrix
        Photos by true class (rows) and predicted class (columns).
    labels
        One label per class.
    title
        The title of the figure.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        `matrix` does not have one row and one column per label.
    """
    counts, names = np.asarray(matrix), [shorten(name_of(label), 24) for label in labels]
    if counts.shape != (len(names), len(names)) or not names:
        raise ValueError(f"the matrix of {len(names):,} classes has shape {counts.shape}")
    cell = 0.24 if len(names) <= _NUMBERED_CLASSES else 0.13
    small = SMALL if len(names) <= _NUMBERED_CLASSES else TINY
    beside = text_width(max(map(len, names)), small) + 0.2
    side = max(cell * len(names), text_width(len(title), 12))
    figure = prepare(figure, beside + side + 0.4, beside + side + 0.8)
    axes = add_axes(figure, left=beside + 0.2, right=0.2, top=0.5, bottom=beside + 0.3)
    # Relative to the class, so that a class of 4 photos is as visible as one of 400.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(names), dtype=bool)
    colours = np.where(right[..., np.newaxis], _rgb(BLUE), _rgb(VERMILION))
    # Even the smallest share is visible.
    strength = np.where(counts > 0, 0.25 + 0.75 * shares, 0)[..., np.newaxis]
    axes.imshow(1 - strength * (1 - colours), interpolation="nearest", aspect="auto")
    if len(names) <= _NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(counts)):
            dark = strength[row, column, 0] > 0.6
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                fontsize=TINY,
                color="white" if dark else INK,
            )
    places = range(len(names))
    axes.set_xticks(places)
    axes.set_xticklabels(names, rotation=90, fontsize=small)
    axes.set_yticks(places)
    axes.set_yticklabels(names, fontsize=small)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    set_title(axes, title)
    return figure


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
