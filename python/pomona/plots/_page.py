"""Figures, texts and colours that all plots share. Lengths are in inches, font sizes in points."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Sequence, TypeVar

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    T = TypeVar("T")

#: Dots per inch, unless a figure is drawn into one of pyplot's. At 120, 9 inches fill a notebook
#: page of 1,080 pixels, and a photo of 100 pixels is not resized on a contact sheet.
DPI = 120

# The palette of Okabe and Ito (2008) for all kinds of colour vision, without black, and without
# yellow, which is too pale for dots on white.
BLUE, VERMILION = "#0072b2", "#d55e00"
PALETTE = (BLUE, VERMILION, "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
INK, MUTED, FAINT = "#222222", "#6e6e6e", "#d9d9d9"

#: Font sizes of headings and lists, and of captions below photos.
SMALL, TINY = 7.5, 7

POINTS_PER_INCH = 72
#: Character width and line height of DejaVu Sans, matplotlib's font, in ems.
CHARACTER_WIDTH, LINE_HEIGHT = 0.62, 1.25


def to_png(figure: Figure) -> bytes:
    """Encode a figure as a PNG file with `DPI` dots per inch.

    Examples
    --------
    >>> to_png(Figure())[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(
        buffer,
        format="png",
        dpi=DPI,
        # Without matplotlib's name and version, equal figures give equal bytes.
        metadata={"Software": None},
        # Photos take half the time of the default level, and 2 % more bytes.
        pil_kwargs={"compress_level": 4},
    )
    return buffer.getvalue()


def prepare(figure: Figure | None, width: float, height: float) -> Figure:
    """Clear a figure, or create one, and set its size."""
    if figure is None:
        figure = Figure(dpi=DPI)
    figure.clear()
    figure.set_size_inches(width, height)
    figure.set_facecolor("white")
    return figure


def add_axes(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Add axes with fixed margins, which hold the tick labels whatever the size of the figure."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    )
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=INK, labelsize=9)
    return axes


def set_title(axes: Axes, text: str) -> None:
    """Set the title above the left end of the axes."""
    axes.set_title(text, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)


def name_of(label: str | None) -> str:
    """Return the text for a label."""
    return "(no label)" if label is None else str(label)


def shorten(name: str, length: int) -> str:
    r"""Truncate a name, and escape the dollars that delimit formulas in matplotlib.

    Examples
    --------
    >>> shorten("Apple Red Delicious", 12), shorten("2 $ a kilo", 12)
    ('Apple Red D…', '2 \\$ a kilo')
    """
    short = name if len(name) <= length else f"{name[: length - 1].rstrip()}…"
    return short.replace("$", r"\$")


def plural(number: int, one: str, many: str) -> str:
    """Format a number with its noun."""
    return f"{number:,} {one if number == 1 else many}"


def photos_of(photos: int, classes: int) -> str:
    """Format a number of photos and of their classes."""
    return f"{plural(photos, 'photo', 'photos')} of {plural(classes, 'class', 'classes')}"


def percent(share: float) -> str:
    """Format a share with one decimal."""
    return f"{share:.1%}"


def text_width(characters: int, size: float) -> float:
    """Estimate the width of a text, in inches."""
    return characters * CHARACTER_WIDTH * size / POINTS_PER_INCH


def in_columns(items: Sequence[T], most: int) -> list[Sequence[T]]:
    """Split a list into columns of equal length, at most `most`."""
    columns = -(-len(items) // most)
    length = -(-len(items) // columns)
    return [items[start : start + length] for start in range(0, len(items), length)]


def check_lengths(what: str, number: int, labels: int) -> None:
    """Raise ValueError unless each of at least one item has a label."""
    if not number:
        raise ValueError(f"no {what} to draw")
    if number != labels:
        raise ValueError(f"{number:,} {what} but {labels:,} labels: each needs one")
