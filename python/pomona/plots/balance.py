"""The number of photos per class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping

import numpy as np

from pomona.plots._figure import (
    BLUE,
    INK,
    VERMILION,
    add_axes,
    in_columns,
    name_of,
    plural,
    prepare,
    set_title,
    shorten,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def class_balance(counts: Mapping[str | None, int], *, figure: Figure | None = None) -> Figure:
    """Draw the number of photos per class, largest class first.

    Classes with less than half the median stand out, because classifiers perform worst on them.

    Parameters
    ----------
    counts
        Photos per label: ``dict(photos.groupBy("label").count().collect())``.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        `counts` is empty.

    Examples
    --------
    >>> class_balance({"Apple": 164, "Pear": 120}).axes[0].get_title(loc="left")
    '284 photos in 2 classes'
    """
    if not counts:
        raise ValueError("no class to draw")
    named = [(name_of(label), number) for label, number in counts.items()]
    ordered = sorted(named, key=lambda one: (-one[1], one[0].casefold()))
    few = float(np.median([number for _, number in ordered])) / 2
    most = max(1, ordered[0][1])
    columns = in_columns(ordered, 48)
    names_width = text_width(max(len(shorten(name, 28)) for name, _ in ordered), 8) + 0.2
    width = max(7.5, len(columns) * (names_width + 2.2))
    height = max(2.4, 0.19 * len(columns[0]) + 0.9)
    figure = prepare(figure, width, height)
    share = width / len(columns)
    for number, column in enumerate(columns):
        axes = add_axes(
            figure,
            left=share * number + names_width,
            right=width - share * (number + 1) + 0.5,
            top=0.6,
            bottom=0.15,
        )
        places = range(len(column))
        numbers = [one for _, one in column]
        colours = [VERMILION if one < few else BLUE for one in numbers]
        axes.barh(places, numbers, color=colours, height=0.72)
        axes.set_yticks(places)
        axes.set_yticklabels([shorten(name, 28) for name, _ in column], fontsize=8)
        # The last column may be shorter; its bars are as high as the others.
        axes.set_ylim(len(columns[0]) - 0.4, -0.6)
        axes.set_xlim(0, most)
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
        for place, one in zip(places, numbers):
            axes.text(one, place, f" {one:,}", va="center", fontsize=8, color=INK, clip_on=False)
    photos = plural(sum(number for _, number in ordered), "photo", "photos")
    title = f"{photos} in {plural(len(ordered), 'class', 'classes')}"
    if any(number < few for _, number in ordered):
        title += "; orange: less than half the median"
    set_title(figure.axes[0], title)
    return figure
