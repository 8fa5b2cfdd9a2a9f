"""Charts of numbers: explained variance, photos per class, confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pomona._deprecated import renamed_arguments
from pomona.plots import _page as page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

#: Shares of the variance that are marked in addition to the chosen one.
_LANDMARKS = (0.5, 0.8, 0.9, 0.99)
#: The variance curve is cut off at this share.
_CURVE_ENDS = 0.999
#: Up to this many classes, the cells of a confusion matrix show their number of photos.
_NUMBERED_CLASSES = 40


@renamed_arguments(k="components")
def variance_curve(curve: ArrayLike, components: int, *, figure: Figure | None = None) -> Figure:
    """Draw the cumulative explained variance, with the chosen number of components marked.

    Parameters
    ----------
    curve
        Share of the variance explained by the first 1, 2, 3 … components: `PCA.curve` of
        `pomona.spark.fit_pca`, or ``variance_curve`` of a ``summary.json``. Drawn up to 99.9%.
    components
        The chosen number of components. The old name ``k`` is deprecated.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        The curve has fewer than `components` points.

    Examples
    --------
    >>> variance_curve([0.5, 0.75, 0.875, 1.0], 3).axes[0].get_title(loc="left")
    '3 components explain 87.5% of the variance'
    """
    shares, k = np.asarray(curve, dtype=np.float64), components
    if not 1 <= k <= shares.size:
        raise ValueError(f"{k} components are not on a curve of {shares.size}")
    figure = page.prepare(figure, 9, 4.8)
    axes = page.add_axes(figure, left=0.8, right=0.3, top=0.5, bottom=0.6)
    last = min(shares.size, max(int(np.searchsorted(shares, _CURVE_ENDS)) + 1, round(1.1 * k)))
    numbers = np.arange(1, last + 1)
    axes.plot(numbers, shares[:last], color=page.BLUE, linewidth=2)
    axes.fill_between(numbers, shares[:last], color=page.BLUE, alpha=0.08, linewidth=0)
    axes.set_xlim(0, last * 1.02)
    axes.set_ylim(0, 1.04)

    chosen = float(shares[k - 1])
    axes.plot([k, k, 0], [0, chosen, chosen], color=page.VERMILION, linewidth=1, linestyle="--")
    axes.plot([k], [chosen], "o", color=page.VERMILION, markersize=8, gid="chosen")
    left = k > last / 2
    axes.annotate(
        f"{page.plural(k, 'component', 'components')}: {page.percent(chosen)}",
        (k, chosen),
        xytext=(-10 if left else 10, -18),
        textcoords="offset points",
        ha="right" if left else "left",
        color=page.VERMILION,
        fontweight="bold",
    )
    marked = [-1.0]
    for share in _LANDMARKS:
        number = int(np.searchsorted(shares, share)) + 1
        if number > last:
            continue
        height = float(shares[number - 1])
        # Keep the label of the chosen point, below it, and the previous label clear.
        if chosen - 0.1 < height < chosen + 0.03 or height - marked[-1] < 0.06:
            continue
        marked.append(height)
        axes.plot([number], [height], "o", color=page.BLUE, markersize=4)
        at_the_end = number > 0.85 * last
        axes.annotate(
            f"{share:.0%}: {number:,}",
            (number, height),
            xytext=(-7, 2) if at_the_end else (7, -9),
            textcoords="offset points",
            ha="right" if at_the_end else "left",
            color=page.MUTED,
            fontsize=8,
        )
    axes.set_xlabel("components")
    axes.set_ylabel("share of the variance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(color=page.FAINT, linewidth=0.5)
    explain = "component explains" if k == 1 else "components explain"
    page.set_title(axes, f"{k:,} {explain} {page.percent(chosen)} of the variance")
    return figure


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
    named = [(page.name_of(label), number) for label, number in counts.items()]
    ordered = sorted(named, key=lambda one: (-one[1], one[0].casefold()))
    few = float(np.median([number for _, number in ordered])) / 2
    most = max(1, ordered[0][1])
    columns = page.in_columns(ordered, 48)
    names_width = page.text_width(max(len(page.shorten(name, 28)) for name, _ in ordered), 8) + 0.2
    width = max(7.5, len(columns) * (names_width + 2.2))
    height = max(2.4, 0.19 * len(columns[0]) + 0.9)
    figure = page.prepare(figure, width, height)
    share = width / len(columns)
    for number, column in enumerate(columns):
        axes = page.add_axes(
            figure,
            left=share * number + names_width,
            right=width - share * (number + 1) + 0.5,
            top=0.6,
            bottom=0.15,
        )
        places = range(len(column))
        numbers = [one for _, one in column]
        colours = [page.VERMILION if one < few else page.BLUE for one in numbers]
        axes.barh(places, numbers, color=colours, height=0.72)
        axes.set_yticks(places)
        axes.set_yticklabels([page.shorten(name, 28) for name, _ in column], fontsize=8)
        # The last column may be shorter; its bars are as high as the others.
        axes.set_ylim(len(columns[0]) - 0.4, -0.6)
        axes.set_xlim(0, most)
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
        for place, one in zip(places, numbers):
            axes.text(
                one, place, f" {one:,}", va="center", fontsize=8, color=page.INK, clip_on=False
            )
    photos = page.plural(sum(number for _, number in ordered), "photo", "photos")
    title = f"{photos} in {page.plural(len(ordered), 'class', 'classes')}"
    if any(number < few for _, number in ordered):
        title += "; orange: less than half the median"
    page.set_title(figure.axes[0], title)
    return figure


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
    counts, names = np.asarray(matrix), [page.shorten(page.name_of(label), 24) for label in labels]
    if counts.shape != (len(names), len(names)) or not names:
        raise ValueError(f"the matrix of {len(names):,} classes has shape {counts.shape}")
    cell = 0.24 if len(names) <= _NUMBERED_CLASSES else 0.13
    small = page.SMALL if len(names) <= _NUMBERED_CLASSES else page.TINY
    beside = page.text_width(max(map(len, names)), small) + 0.2
    side = max(cell * len(names), page.text_width(len(title), 12))
    figure = page.prepare(figure, beside + side + 0.4, beside + side + 0.8)
    axes = page.add_axes(figure, left=beside + 0.2, right=0.2, top=0.5, bottom=beside + 0.3)
    # Relative to the class, so that a class of 4 photos is as visible as one of 400.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(names), dtype=bool)
    colours = np.where(right[..., np.newaxis], to_rgb(page.BLUE), to_rgb(page.VERMILION))
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
                fontsize=page.TINY,
                color="white" if dark else page.INK,
            )
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels(names, rotation=90, fontsize=small)
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels(names, fontsize=small)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    page.set_title(axes, title)
    return figure
