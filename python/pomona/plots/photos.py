"""Sheets of photos."""

from __future__ import annotations

from typing import TYPE_CHECKING, Iterable, Sequence

import numpy as np

from pomona._decode import gather_options
from pomona.plots import _page as page
from pomona.results.thumbnails import thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from pomona._decode import DecodeKeywords

#: Approximate width of a sheet.
_SHEET_WIDTH = 11.2
#: Brightness of the square that stands for an unreadable photo.
_GREY = 0xD9


def contact_sheet(
    photos: Iterable[bytes],
    labels: Iterable[str | None],
    *,
    figure: Figure | None = None,
    **decode_options: Unpack[DecodeKeywords],
) -> Figure:
    """Draw photos class by class, as decoded for the model.

    Parameters
    ----------
    photos
        Encoded photos, a few per class, such as those of `pomona.spark.sample_images`.
    labels
        One label per photo. Classes are drawn in order of first appearance.
    figure
        A figure to draw into instead of a new one.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`.

    Returns
    -------
    Figure
        An unreadable photo is a grey square with a remark.

    Raises
    ------
    ValueError
        There are no photos, or not one label per photo.
    TypeError, ValueError
        A decode option does not exist or has an invalid value.
    """
    decode = gather_options("contact_sheet", decode_options)
    images, names = list(photos), [page.name_of(label) for label in labels]
    page.check_lengths("photos", len(images), len(names))
    classes: dict[str, list[tuple[bytes, str]]] = {}
    for image, name in zip(images, names):
        classes.setdefault(name, []).append((image, ""))
    title = page.photos_of(len(images), len(classes))
    return photo_strips(list(classes.items()), title, figure=figure, **decode.keywords())


def photo_strips(
    strips: Sequence[tuple[str, Sequence[tuple[bytes, str]]]],
    title: str,
    *,
    figure: Figure | None = None,
    **decode_options: Unpack[DecodeKeywords],
) -> Figure:
    """Draw strips of photos, each under a heading, as many side by side as fit on a page.

    Parameters
    ----------
    strips
        For each strip a heading, and encoded photos with captions, which may be empty.
    title
        The title of the figure.
    figure
        A figure to draw into instead of a new one.
    **decode_options
        How photos are decoded: the fields of `pomona.DecodeOptions`.

    Returns
    -------
    Figure
        An unreadable photo is a grey square with a remark.

    Raises
    ------
    ValueError
        A strip has no photos, or there are no strips.
    TypeError, ValueError
        A decode option does not exist or has an invalid value.
    """
    decode = gather_options("photo_strips", decode_options)
    if not strips or not all(photos for _, photos in strips):
        raise ValueError("no photos to draw")
    side, gap, margin = 100 / page.DPI, 0.06, 0.15
    caption = 0.15 if any(text for _, photos in strips for _, text in photos) else 0.0
    most = max(len(photos) for _, photos in strips)
    abreast = min(most, int(_SHEET_WIDTH / (side + gap)))
    strip_width = abreast * (side + gap) + 0.15
    beside = min(len(strips), max(1, int(_SHEET_WIDTH / strip_width)))
    heading_length = int((strip_width - 0.1) / page.text_width(1, page.SMALL))
    caption_length = int(side / page.text_width(1, page.TINY))
    headings = [_wrapped(name, heading_length) for name, _ in strips]
    heading = 0.2 + 0.13 * max(text.count("\n") for text in headings)
    strip_height = heading + -(-most // abreast) * (side + gap + caption) + 0.1
    width = max(margin + beside * strip_width, 3)
    height = 0.5 + -(-len(strips) // beside) * strip_height
    figure = page.prepare(figure, width, height)
    axes = page.add_axes(figure, left=0, right=0, top=0, bottom=0)
    axes.axis("off")

    sheet = np.full((round(height * page.DPI), round(width * page.DPI), 3), 255, np.uint8)
    for number, (_, photos) in enumerate(strips):
        row, column = divmod(number, beside)
        x, y = margin + column * strip_width, 0.5 + row * strip_height + heading
        axes.text(x, y - 0.04, headings[number], fontsize=page.SMALL, color=page.INK, va="bottom")
        for place, (image, text) in enumerate(photos):
            down, across = divmod(place, abreast)
            left, top = x + across * (side + gap), y + down * (side + gap + caption)
            middle = left + side / 2
            pixels = thumbnail(image, round(side * page.DPI), enlarge=True, decode=decode)
            if not _paste(
                sheet, pixels, round(left * page.DPI), round(top * page.DPI), round(side * page.DPI)
            ):
                axes.text(
                    middle, top + side / 2, "cannot\nbe read", ha="center", va="center", fontsize=7
                )
            if text:
                short = page.shorten(text, caption_length)
                below = top + side + 0.02
                axes.text(
                    middle, below, short, ha="center", va="top", fontsize=page.TINY, color=page.INK
                )
    # The axes are in inches, so at `DPI` each pixel of the sheet is a pixel of the figure.
    axes.imshow(sheet, extent=(0, width, height, 0), aspect="auto", interpolation="nearest")
    title_length = int((width - 2 * margin) / page.text_width(1, 11))
    axes.text(
        margin,
        0.3,
        page.shorten(title, title_length),
        fontsize=11,
        fontweight="bold",
        color=page.INK,
    )
    return figure


def _wrapped(name: str, length: int) -> str:
    r"""Wrap a name to at most two lines, and truncate the second.

    Examples
    --------
    >>> _wrapped("Apple Red Delicious 1", 12)
    'Apple Red\nDelicious 1'
    >>> _wrapped("apple_crimson_snow_1", 12)
    'apple_\ncrimson_sno…'
    """
    if len(name) <= length:
        return page.shorten(name, length)
    breaks = [place for place in range(1, length + 1) if name[place - 1] in " _-"]
    place = breaks[-1] if breaks else length
    return f"{page.shorten(name[:place].rstrip(), length)}\n{page.shorten(name[place:], length)}"


def _paste(
    sheet: NDArray[np.uint8], pixels: NDArray[np.uint8] | str, left: int, top: int, side: int
) -> bool:
    """Centre a photo in a square; if there is none, grey the square and return False."""
    if isinstance(pixels, str):
        sheet[top : top + side, left : left + side] = _GREY
        return False
    height, width = pixels.shape[:2]
    top, left = top + (side - height) // 2, left + (side - width) // 2
    sheet[top : top + height, left : left + width] = pixels
    return True
