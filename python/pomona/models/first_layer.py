"""The first convolution, arranged so that ONNX Runtime's fastest code takes the pixels as they are.

That code wants channels by the four, and pixels have three. A row of pixels is a row of bytes, and
they can be taken by the four as well: the convolution gets a few weights of 0, for bytes that are
none of its business, gives two neighbouring pixels at once, and takes half the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pixels that the convolution gives at once.
OUTPUTS = 2

#: Bytes that are taken for a pixel.
_UNIT = 4
#: It has to go by so many pixels, with a kernel no wider: a wide one would be mostly zeros.
_STRIDE = 2
_WIDEST = 3


@dataclass(frozen=True)
class Grouping:
    """A convolution over bytes: what becomes of its weights, input and output."""

    #: int8 ``[filters of both pixels, 4, kernel height, kernel width in fours]``.
    weights: NDArray[np.int8]
    strides: list[int]
    pads: list[int]
    #: Channels last; 0 is the batch.
    input_shape: list[int]
    output_shape: list[int]


def group_bytes(
    weights: NDArray[np.int8], height: int, width: int, strides: list[int], pads: list[int]
) -> Grouping | None:
    """Arrange a convolution over the bytes of rows.

    Parameters
    ----------
    weights : numpy.ndarray
        int8 ``[filters, channels, kernel height, kernel width]``.
    height, width : int
        Size of the images, in pixels.
    strides, pads : list of int
        As ONNX has them: down and across; top, left, bottom, right.

    Returns
    -------
    Grouping or None
        None if the bytes of a row do not come out even, or it would not be faster.
    """
    filters, channels, rows, columns = weights.shape
    top, left, bottom, right = pads
    row, step = width * channels, OUTPUTS * _STRIDE * channels
    out_height = (height + top + bottom - rows) // strides[0] + 1
    out_width = (width + left + right - columns) // _STRIDE + 1
    if strides[1] != _STRIDE or columns > _WIDEST:
        return None
    if row % _UNIT or step % _UNIT or out_width % OUTPUTS:
        return None
    before = -(-left * channels // _UNIT)
    # From the first byte that the first pixel takes to the last that its neighbour does.
    last = (_STRIDE * (OUTPUTS - 1) + columns - left) * channels - 1
    units = before + last // _UNIT + 1
    after = (out_width // OUTPUTS - 1) * (step // _UNIT) + units - row // _UNIT - before
    if after < 0:
        return None
    spread = np.zeros((OUTPUTS, filters, units * _UNIT, rows), np.int8)
    for output in range(OUTPUTS):
        for column in range(columns):
            pixel = _STRIDE * output + column - left
            start = before * _UNIT + pixel * channels
            spread[output, :, start : start + channels] = weights[:, :, :, column]
    spread = spread.reshape(OUTPUTS * filters, units, _UNIT, rows)
    return Grouping(
        weights=np.ascontiguousarray(spread.transpose(0, 2, 3, 1)),
        strides=[strides[0], step // _UNIT],
        pads=[top, before, bottom, after],
        input_shape=[0, height, row // _UNIT, _UNIT],
        output_shape=[0, out_height, out_width, filters],
    )
