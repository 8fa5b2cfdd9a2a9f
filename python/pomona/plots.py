"""Pictures of a run: its photos, its classes, the variance curve and the first two components.

Each function takes what the package returns and gives a matplotlib `Figure` that is legible with 2
classes and with 141, and for people who do not tell red from green. Figures belong to no window
and to no pyplot, unless they are drawn into one of pyplot's: ``figure=plt.figure()``, which is what
a PySpark kernel's ``%matplot plt`` shows. `to_png` makes a file's content of any of them.

Needs matplotlib: ``pip install 'pomona[report]'``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence, TypeVar

import numpy as np

from pomona.results.base import class_order
from pomona.results.thumbnails import thumbnail

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError as error:
    raise ImportError(
        f"pomona.plots cannot import {error.name}, which it needs: pip install 'pomona[report]'",
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

#: Dots per inch of a figure, unless it is drawn into one of pyplot's: 9 inches fill a page of a
#: notebook with 1,080 pixels, and photos of 100 pixels are on a contact sheet as they are.
DPI = 120

#: Classes up to which a scatter has their names at their places; more have numbers and a list.
NAMED_CLASSES = 12

# Okabe and Ito's palette for all kinds of colour vision (2008), without its black and its yellow,
# which is too pale for dots on white.
_BLUE, _VERMILION = "#0072b2", "#d55e00"
_PALETTE = (_BLUE, _VERMILION, "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
# As many as share no divisor with the colours would be best; what counts is that neighbours differ
# in both.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_INK, _MUTED, _FAINT, _GREY = "#222222", "#6e6e6e", "#d9d9d9", 0xD9

#: Shares of the variance that people ask about, marked beside the chosen one.
_LANDMARKS = (0.5, 0.8, 0.9, 0.99)
# The part of a variance curve that says anything ends here.
_CURVE_ENDS = 0.999

# Of a contact sheet, about, in inches.
_SHEET_WIDTH = 11.2
# Of lists and of names above photos, and of lines below them, in points.
_SMALL, _TINY = 7.5, 7

_POINTS_PER_INCH = 72
# Of DejaVu Sans, matplotlib's font: its width a character and its height a line, in ems.
_CHARACTER, _LINE = 0.62, 1.25
_NO_LABEL = "(no label)"
# Of moving texts off each other; those of 141 classes come apart in about 100.
_STEPS = 500

# Classes up to which a confusion matrix has the numbers of photos in it.
_NUMBERED_CLASSES = 40

_T = TypeVar("_T")


def variance_curve(curve: ArrayLike, k: int, *, figure: Figure | None = None) -> Figure:
    """Draw the share of the variance that components explain, with the chosen number marked.

    Parameters
    ----------
    curve
        Share of the variance of the first 1, 2, 3 … components: `pomona.spark.pca.PCA.curve`, or
        ``variance_curve`` of a ``summary.json``. What follows 99.9% is left out.
    k
        Components that were chosen.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        The curve does not go as far as `k`.

    Examples
    --------
    >>> variance_curve([0.5, 0.75, 0.875, 1.0], k=3).axes[0].get_title(loc="left")
    '3 components explain 87.5% of the variance'
    """
    shares = np.asarray(curve, dtype=np.float64)
    if not 1 <= k <= shares.size:
        raise ValueError(f"{k} components are not on a curve of {shares.size}")
    figure = _page(figure, 9, 4.8)
    axes = _axes(figure, left=0.8, right=0.3, top=0.5, bottom=0.6)
    last = min(shares.size, max(int(np.searchsorted(shares, _CURVE_ENDS)) + 1, round(1.1 * k)))
    components = np.arange(1, last + 1)
    axes.plot(components, shares[:last], color=_BLUE, linewidth=2)
    axes.fill_between(components, shares[:last], color=_BLUE, alpha=0.08, linewidth=0)
    axes.set_xlim(0, last * 1.02)
    axes.set_ylim(0, 1.04)

    chosen = float(shares[k - 1])
    axes.plot([k, k, 0], [0, chosen, chosen], color=_VERMILION, linewidth=1, linestyle="--")
    axes.plot([k], [chosen], "o", color=_VERMILION, markersize=8, gid="chosen")
    left = k > last / 2
    axes.annotate(
        f"{_number(k, 'component', 'components')}: {_percent(chosen)}",
        (k, chosen),
        xytext=(-10 if left else 10, -18),
        textcoords="offset points",
        ha="right" if left else "left",
        color=_VERMILION,
        fontweight="bold",
    )
    marked = [-1.0]
    for share in _LANDMARKS:
        number = int(np.searchsorted(shares, share)) + 1
        # The text of the chosen one takes the room below it, and each text some of its own.
        if number > last:
            continue
        height = float(shares[number - 1])
        if chosen - 0.1 < height < chosen + 0.03 or height - marked[-1] < 0.06:
            continue
        marked.append(height)
        axes.plot([number], [height], "o", color=_BLUE, markersize=4)
        at_the_end = number > 0.85 * last
        axes.annotate(
            f"{share:.0%}: {number:,}",
            (number, height),
            xytext=(-7, 2) if at_the_end else (7, -9),
            textcoords="offset points",
            ha="right" if at_the_end else "left",
            color=_MUTED,
            fontsize=8,
        )
    axes.set_xlabel("components")
    axes.set_ylabel("share of the variance")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(color=_FAINT, linewidth=0.5)
    explain = "component explains" if k == 1 else "components explain"
    _title(axes, f"{k:,} {explain} {_percent(chosen)} of the variance")
    return figure


def class_balance(counts: Mapping[str | None, int], *, figure: Figure | None = None) -> Figure:
    """Draw how many photos each class has, the largest first.

    Classes with less than half of the median stand out: a classifier will know them least.

    Parameters
    ----------
    counts
        Photos of each label: ``dict(photos.groupBy("label").count().collect())``.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        There is no class.

    Examples
    --------
    >>> class_balance({"Apple": 164, "Pear": 120}).axes[0].get_title(loc="left")
    '284 photos in 2 classes'
    """
    if not counts:
        raise ValueError("no class to draw")
    named = [(_name(label), number) for label, number in counts.items()]
    ordered = sorted(named, key=lambda one: (-one[1], one[0].casefold()))
    few = float(np.median([number for _, number in ordered])) / 2
    most = max(1, ordered[0][1])
    columns = _columns(ordered, 48)
    names_width = _inches(max(len(_short(name, 28)) for name, _ in ordered), 8) + 0.2
    width = max(7.5, len(columns) * (names_width + 2.2))
    height = max(2.4, 0.19 * len(columns[0]) + 0.9)
    figure = _page(figure, width, height)
    share = width / len(columns)
    for number, column in enumerate(columns):
        axes = _axes(
            figure,
            left=share * number + names_width,
            right=width - share * (number + 1) + 0.5,
            top=0.6,
            bottom=0.15,
        )
        places = range(len(column))
        numbers = [one for _, one in column]
        colours = [_VERMILION if one < few else _BLUE for one in numbers]
        axes.barh(places, numbers, color=colours, height=0.72)
        axes.set_yticks(places)
        axes.set_yticklabels([_short(name, 28) for name, _ in column], fontsize=8)
        # The last column has its bars as high as those of the others.
        axes.set_ylim(len(columns[0]) - 0.4, -0.6)
        axes.set_xlim(0, most)
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
        for place, one in zip(places, numbers):
            axes.text(one, place, f" {one:,}", va="center", fontsize=8, color=_INK, clip_on=False)
    photos = _number(sum(number for _, number in ordered), "photo", "photos")
    title = f"{photos} in {_number(len(ordered), 'class', 'classes')}"
    if any(number < few for _, number in ordered):
        title += "; orange: less than half of the median"
    _title(figure.axes[0], title)
    return figure


def contact_sheet(
    photos: Iterable[bytes], labels: Iterable[str | None], *, figure: Figure | None = None
) -> Figure:
    """Draw photos as the model sees them before it resizes them, class by class.

    Parameters
    ----------
    photos
        Encoded photos; a few of each class, as from `pomona.spark.sample_images`. All of them are
        held as thumbnails.
    labels
        Their labels. Classes stand in the order in which they come up.
    figure
        A figure to draw into instead of a new one.

    Returns
    -------
    Figure
        A photo that cannot be read is a grey square that says so.

    Raises
    ------
    ValueError
        There are no photos, or more or fewer labels than photos.
    """
    images, names = list(photos), [_name(label) for label in labels]
    _check_lengths("photos", len(images), len(names))
    classes: dict[str, list[tuple[bytes, str]]] = {}
    for image, name in zip(images, names):
        classes.setdefault(name, []).append((image, ""))
    many = _number(len(images), "photo", "photos")
    title = f"{many} of {_number(len(classes), 'class', 'classes')}"
    return photo_strips(list(classes.items()), title, figure=figure)


def photo_strips(
    strips: Sequence[tuple[str, Sequence[tuple[bytes, str]]]],
    title: str,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw rows of photos, each with a heading, and as many of them side by side as make a page.

    Parameters
    ----------
    strips
        Each a heading, and encoded photos with a line to stand below them, which may be empty.
    title
        Of the figure.
    figure
        A figure to draw into instead of a new one.

    Returns
    -------
    Figure
        A photo that cannot be read is a grey square that says so.

    Raises
    ------
    ValueError
        There are no photos.
    """
    if not strips or not all(photos for _, photos in strips):
        raise ValueError("no photos to draw")
    side, gap, margin = 100 / DPI, 0.06, 0.15
    caption = 0.15 if any(text for _, photos in strips for _, text in photos) else 0.0
    most = max(len(photos) for _, photos in strips)
    abreast = min(most, int(_SHEET_WIDTH / (side + gap)))
    strip_width = abreast * (side + gap) + 0.15
    beside = min(len(strips), max(1, int(_SHEET_WIDTH / strip_width)))
    heading_length = int((strip_width - 0.1) / _inches(1, _SMALL))
    caption_length = int(side / _inches(1, _TINY))
    headings = [_wrapped(name, heading_length) for name, _ in strips]
    heading = 0.2 + 0.13 * max(text.count("\n") for text in headings)
    strip_height = heading + -(-most // abreast) * (side + gap + caption) + 0.1
    width = max(margin + beside * strip_width, 3)
    height = 0.5 + -(-len(strips) // beside) * strip_height
    figure = _page(figure, width, height)
    axes = _axes(figure, left=0, right=0, top=0, bottom=0)
    axes.axis("off")

    sheet = np.full((round(height * DPI), round(width * DPI), 3), 255, np.uint8)
    for number, (_, photos) in enumerate(strips):
        row, column = divmod(number, beside)
        x, y = margin + column * strip_width, 0.5 + row * strip_height + heading
        axes.text(x, y - 0.04, headings[number], fontsize=_SMALL, color=_INK, va="bottom")
        for place, (image, text) in enumerate(photos):
            down, across = divmod(place, abreast)
            left, top = x + across * (side + gap), y + down * (side + gap + caption)
            middle = left + side / 2
            if not _paste(sheet, image, round(left * DPI), round(top * DPI), round(side * DPI)):
                axes.text(
                    middle, top + side / 2, "cannot\nbe read", ha="center", va="center", fontsize=7
                )
            if text:
                short = _short(text, caption_length)
                below = top + side + 0.02
                axes.text(middle, below, short, ha="center", va="top", fontsize=_TINY, color=_INK)
    # The axes count in inches; at `DPI`, a pixel of the sheet is one of the figure.
    axes.imshow(sheet, extent=(0, width, height, 0), aspect="auto", interpolation="nearest")
    title_length = int((width - 2 * margin) / _inches(1, 11))
    axes.text(margin, 0.3, _short(title, title_length), fontsize=11, fontweight="bold", color=_INK)
    return figure


def components_scatter(
    points: Iterable[ArrayLike],
    labels: Iterable[str | None],
    explained: ArrayLike | None = None,
    *,
    figure: Figure | None = None,
) -> Figure:
    """Draw photos on the first two principal components, coloured by class.

    Colours and shapes repeat when classes are many, so each class also has its name at its middle,
    or from `NAMED_CLASSES` on a number that a list beside the picture explains.

    Parameters
    ----------
    points
        For each photo its components, two or more: the column ``pca``.
    labels
        Their labels.
    explained
        Share of the variance of each component (`PCA.explained_variance_ratio`), for the axes.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        There are no photos, more or fewer labels than photos, or one component only.
    """
    names = [_name(label) for label in labels]
    rows = [np.asarray(point, dtype=np.float64)[:2] for point in points]
    _check_lengths("points", len(rows), len(names))
    places = np.stack(rows)
    if places.shape[1] < 2:
        raise ValueError("a scatter needs two components and there is one: fit the PCA with k >= 2")
    classes = _classes(names)
    columns, list_width = _list_layout(classes)
    size = 8.0
    figure = _page(figure, size + 1 + list_width, size)
    axes = _axes(figure, left=0.8, right=0.2 + list_width, top=0.5, bottom=0.6)
    axes.set_axisbelow(True)
    axes.grid(color=_FAINT, linewidth=0.5)

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
            # Without an edge, a small cross is less than a pixel wide and is not drawn.
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
        share = (
            ""
            if explained is None
            else f", {_percent(np.asarray(explained)[number])} of the variance"
        )
        axis.set_label_text(f"component {number + 1}{share}")
    many = _number(len(places), "photo", "photos")
    title = f"{many} of {_number(len(classes), 'class', 'classes')} on the first two components"
    _title(axes, title)
    return figure


def space_scatter(
    points: ArrayLike, labels: Iterable[str | None], *, figure: Figure | None = None
) -> Figure:
    """Draw photos in space, seen from a corner, coloured by class as `components_scatter` does.

    Parameters
    ----------
    points
        Of shape (photos, 3).
    labels
        Their labels.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        There are no photos, more or fewer labels than photos, or not three coordinates.
    """
    from mpl_toolkits.mplot3d import proj3d  # type: ignore[import-untyped]

    names, places = [_name(label) for label in labels], np.asarray(points, np.float64)
    _check_lengths("points", len(places), len(names))
    if places.ndim != 2 or places.shape[1] != 3:
        raise ValueError(f"points in space have 3 coordinates; these are of shape {places.shape}")
    classes = _classes(names)
    columns, list_width = _list_layout(classes)
    size = 8.0
    figure = _page(figure, size + list_width, size)
    corner = (0.02, 0, size / (size + list_width) - 0.02, (size - 0.5) / size)
    axes: Any = figure.add_axes(corner, projection="3d")
    axes.set(xticks=[], yticks=[], zticks=[])
    styles, groups = _styles(len(classes)), _groups(places, names, classes)
    for group, (colour, marker) in zip(groups, styles):
        axes.scatter(*group.T, s=_area(len(places)), c=colour, marker=marker, edgecolors="face")
    # The names lie on flat axes over the picture, where they can be moved off each other.
    middles = np.stack([np.median(group, axis=0) for group in groups])
    across, up, _ = proj3d.proj_transform(*middles.T, axes.get_proj())
    flat = figure.add_axes(corner)
    flat.axis("off")
    flat.set_xlim(0, 1)
    flat.set_ylim(0, 1)
    figure.canvas.draw()
    on_page = axes.transData.transform(np.stack([across, up], axis=1))
    on_page = flat.transAxes.inverted().transform(on_page)
    _label_middles(flat, on_page, _marks(classes), [colour for colour, _ in styles])
    if columns:
        _list_classes(figure, columns, styles, list_width)
    many = _number(len(places), "photo", "photos")
    _title(flat, f"{many} of {_number(len(classes), 'class', 'classes')} in space")
    return figure


def confusion_matrix(
    matrix: ArrayLike, labels: Sequence[str | None], title: str, *, figure: Figure | None = None
) -> Figure:
    """Draw what a classifier takes photos for: blue where it is right, orange where it is wrong.

    Parameters
    ----------
    matrix
        Photos by true class (rows) and predicted class (columns).
    labels
        Of the classes.
    title
        Of the figure.
    figure
        A figure to draw into instead of a new one.

    Raises
    ------
    ValueError
        The matrix is not square, or has more or fewer classes than labels.
    """
    counts, names = np.asarray(matrix), [_short(_name(label), 24) for label in labels]
    if counts.shape != (len(names), len(names)) or not names:
        raise ValueError(f"{len(names):,} classes have no matrix of shape {counts.shape}")
    cell = 0.24 if len(names) <= _NUMBERED_CLASSES else 0.13
    small = _SMALL if len(names) <= _NUMBERED_CLASSES else _TINY
    beside = _inches(max(map(len, names)), small) + 0.2
    side = max(cell * len(names), _inches(len(title), 12))
    figure = _page(figure, beside + side + 0.4, beside + side + 0.8)
    axes = _axes(figure, left=beside + 0.2, right=0.2, top=0.5, bottom=beside + 0.3)
    # Of the photos of each class: a class of 4 photos is as visible as one of 400.
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(len(names), dtype=bool)
    colours = np.where(right[..., np.newaxis], _rgb(_BLUE), _rgb(_VERMILION))
    # The least share is seen, too.
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
                fontsize=_TINY,
                color="white" if dark else _INK,
            )
    places = range(len(names))
    axes.set_xticks(places)
    axes.set_xticklabels(names, rotation=90, fontsize=small)
    axes.set_yticks(places)
    axes.set_yticklabels(names, fontsize=small)
    axes.tick_params(length=0)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    _title(axes, title)
    return figure


def to_png(figure: Figure) -> bytes:
    """Render a figure as a PNG file, `DPI` dots per inch.

    Examples
    --------
    >>> to_png(class_balance({"Apple": 164}))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    # Without the name and the version of the software, the same figure is the same bytes.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _page(figure: Figure | None, width: float, height: float) -> Figure:
    """Prepare a figure of a size in inches."""
    if figure is None:
        figure = Figure(dpi=DPI)
    figure.clear()
    figure.set_size_inches(width, height)
    figure.set_facecolor("white")
    return figure


def _axes(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Add axes with margins in inches, which hold their texts whatever the size of the figure."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=9)
    return axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=_INK, pad=10)


def _name(label: str | None) -> str:
    return _NO_LABEL if label is None else str(label)


def _short(name: str, length: int) -> str:
    r"""Cut a name at a length, and keep matplotlib from reading a formula in it.

    Examples
    --------
    >>> _short("Apple Red Delicious", 12), _short("2 $ a kilo", 12)
    ('Apple Red D…', '2 \\$ a kilo')
    """
    short = name if len(name) <= length else f"{name[: length - 1].rstrip()}…"
    return short.replace("$", r"\$")


def _wrapped(name: str, length: int) -> str:
    r"""Break a name into two lines at most, the second of them cut.

    Examples
    --------
    >>> _wrapped("Apple Red Delicious 1", 12)
    'Apple Red\nDelicious 1'
    >>> _wrapped("apple_crimson_snow_1", 12)
    'apple_\ncrimson_sno…'
    """
    if len(name) <= length:
        return _short(name, length)
    breaks = [place for place in range(1, length + 1) if name[place - 1] in " _-"]
    place = breaks[-1] if breaks else length
    return f"{_short(name[:place].rstrip(), length)}\n{_short(name[place:], length)}"


def _number(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _inches(characters: int, size: float) -> float:
    """Estimate the width of a text of a size in points."""
    return characters * _CHARACTER * size / _POINTS_PER_INCH


def _columns(items: Sequence[_T], most: int) -> list[Sequence[_T]]:
    """Split a list into columns of even length, none longer than `most`."""
    columns = -(-len(items) // most)
    length = -(-len(items) // columns)
    return [items[start : start + length] for start in range(0, len(items), length)]


def _check_lengths(what: str, number: int, labels: int) -> None:
    if not number:
        raise ValueError(f"no {what} to draw")
    if number != labels:
        raise ValueError(f"{number:,} {what} have {labels:,} labels: each needs one")


def _paste(sheet: NDArray[np.uint8], image: bytes, left: int, top: int, side: int) -> bool:
    """Copy a photo into the middle of a square of a sheet; a grey square if it cannot be read."""
    pixels = thumbnail(image, side, enlarge=True)
    if isinstance(pixels, str):
        sheet[top : top + side, left : left + side] = _GREY
        return False
    height, width = pixels.shape[:2]
    top, left = top + (side - height) // 2, left + (side - width) // 2
    sheet[top : top + height, left : left + width] = pixels
    return True


def _classes(names: Iterable[str]) -> list[str]:
    return sorted(set(names), key=class_order)


def _styles(classes: int) -> list[tuple[str, str]]:
    """Give each class a colour and a shape."""
    return [
        (_PALETTE[number % len(_PALETTE)], _MARKERS[number % len(_MARKERS)])
        for number in range(classes)
    ]


def _groups(
    places: NDArray[np.float64], names: Sequence[str], classes: Sequence[str]
) -> list[NDArray[np.float64]]:
    """Part the places of photos by their classes."""
    number_of = {name: number for number, name in enumerate(classes)}
    numbers = np.array([number_of[name] for name in names])
    return [places[numbers == number] for number in range(len(classes))]


def _area(photos: int) -> float:
    """Choose the size of a photo's mark."""
    return float(np.clip(12_000 / photos, 5, 26))


def _marks(classes: Sequence[str]) -> list[str]:
    """Write at the middle of each class its name, or the number that the list explains."""
    if len(classes) > NAMED_CLASSES:
        return [str(number) for number in range(1, len(classes) + 1)]
    return [_short(name, 24) for name in classes]


def _list_layout(classes: Sequence[str]) -> tuple[list[Sequence[str]], float]:
    """Lay out the list that explains numbers: its columns and its width; nothing for a few."""
    if len(classes) <= NAMED_CLASSES:
        return [], 0.0
    columns = _columns(classes, 47)
    widths = [_inches(max(map(len, map(_listed, column))) + 9, 7) for column in columns]
    return columns, sum(widths) + 0.2


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])


def _listed(name: str) -> str:
    return _short(name, 26)


def _list_classes(
    figure: Figure,
    columns: Sequence[Sequence[str]],
    styles: Sequence[tuple[str, str]],
    width: float,
) -> None:
    """List the numbers of the classes at the right of a figure, in `width` inches."""
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
                color=_INK,
            )
            axes.text(x + 0.42, y, _listed(name), fontsize=7, va="center", color=_INK)
        x += _inches(max(map(len, map(_listed, column))) + 9, 7)


def _label_middles(
    axes: Axes, middles: NDArray[np.float64], texts: Sequence[str], colours: Sequence[str]
) -> None:
    """Write each class's text at its middle, moved aside where texts would overlap."""
    size = 8 if len(texts) > NAMED_CLASSES else 9.5
    page = np.array(axes.bbox.size) * _POINTS_PER_INCH / axes.figure.dpi
    low = np.array([axes.get_xlim()[0], axes.get_ylim()[0]])
    high = np.array([axes.get_xlim()[1], axes.get_ylim()[1]])
    anchors = (middles - low) / (high - low) * page
    halves = np.array([[len(text) * _CHARACTER * size, _LINE * size] for text in texts]) / 2
    places = _spread(anchors, halves + 1.5, page)
    for anchor, place, half, text, colour in zip(anchors, places, halves, texts, colours):
        # A text that left its middle says where that is.
        if (np.abs(anchor - place) > half).any():
            line = np.stack([anchor, place]) / page * (high - low) + low
            axes.plot(line[:, 0], line[:, 1], color=_MUTED, linewidth=0.7, zorder=3)
        x, y = place / page * (high - low) + low
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold",
            color=_INK,
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
    anchors: NDArray[np.float64], halves: NDArray[np.float64], page: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move boxes of half sizes `halves` off each other, as little as a few hundred steps find."""
    # Boxes on one spot need a direction to leave it in: each its own, by the golden angle.
    angles = np.arange(len(anchors)) * np.pi * (3 - np.sqrt(5))
    places = anchors + np.stack([np.cos(angles), np.sin(angles)], axis=1) * 0.5
    for _ in range(_STEPS):
        apart = places[:, np.newaxis] - places[np.newaxis]
        overlap = halves[:, np.newaxis] + halves[np.newaxis] - np.abs(apart)
        touching: NDArray[np.bool_] = np.asarray((overlap > 0).all(axis=2))
        np.fill_diagonal(touching, False)
        if not touching.any():
            break
        # Each pair parts along the axis on which it overlaps least, half the way each.
        along_x = overlap[..., 0] < overlap[..., 1]
        push = np.where(
            np.stack([along_x, ~along_x], axis=2) & touching[..., np.newaxis],
            np.where(apart < 0, -overlap, overlap) / 2,
            0,
        )
        places = np.clip(places + push.sum(axis=1), halves, page - halves)
    return places
