"""The curve of the explained variance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pomona._deprecated import renamed_arguments
from pomona.plots._figure import (
    BLUE,
    FAINT,
    MUTED,
    VERMILION,
    add_axes,
    percent,
    plural,
    prepare,
    set_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

#: Shares of the variance that are marked in addition to the chosen one.
_LANDMARKS = (0.5, 0.8, 0.9, 0.99)
#: The curve is cut off at this share.
_CURVE_ENDS = 0.999


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
    figure = prepare(figure, 9, 4.8)
    axes = add_axes(figure, left=0.8, right=0.3, top=0.5, bottom=0.6)
    last = min(shares.size, max(int(np.searchsorted(shares, _CURVE_ENDS)) + 1, round(1.1 * k)))
    numbers = np.arange(1, last + 1)
    axes.plot(numbers, shares[:last], color=BLUE, linewidth=2)
    axes.fill_between(numbers, shares[:last], color=BLUE, alpha=0.08, linewidth=0)
    axes.set_xlim(0, last * 1.02)
    axes.set_ylim(0, 1.04)

    chosen = float(shares[k - 1])
    axes.plot([k, k, 0], [0, chosen, chosen], color=VERMILION, linewidth=1, linestyle="--")
    axes.plot([k], [chosen], "o", color=VERMILION, markersize=8, gid="chosen")
    left = k > last / 2
    axes.annotate(
        f"{plural(k, 'component', 'components')}: {percent(chosen)}",
        (k, chosen),
        xytext=(-10 if left else 10, -18),
        textcoords="offset points",
        ha="right" if left else "left",
        color=VERMILION,
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
        axes.plot([number], [height], "o", color=BLUE, markersize=4)
        at_the_end = number > 0.85 * last
        axes.annotate(
            f"{share:.0%}: {number:,}",
            (number, height),
            xytext=(-7, 2) if at_the_end else (7, -9),
            textcoords="offset points",
            ha="right" if at_the_end else "left",
            color=MUTED,
            fontsize=8,
        )
    axes.set_xlabel("components")
    axes.set_ylabel("share of the variance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(color=FAINT, linewidth=0.5)
    explain = "component explains" if k == 1 else "components explain"
    set_title(axes, f"{k:,} {explain} {percent(chosen)} of the variance")
    return figure
