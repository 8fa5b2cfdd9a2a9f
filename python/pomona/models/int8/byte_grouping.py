"""Rearranges the first convolution for ONNX Runtime's fastest kernel, which halves its time.

That kernel needs groups of four channels, and pixels have three. But a row of pixels is a row of
bytes, which can be grouped by four as well. The convolution then gets weights of 0 for the bytes
that are not its own, and computes two neighbouring pixels at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pixels that the convolution computes at once.
OUTPUTS = 2

#: Bytes in a group.
_UNIT = 4
#: The only stride that is rearranged, and the widest kernel: a wider one would be mostly zeros.
_STRIDE = 2
_WIDEST = 3


@dataclass(frozen=True)
class Grouping:
    """A convolution over groups of bytes: its weights, and the shapes of its input and output."""

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
    """Rearrange a convolution over groups of four bytes of a row of `width` pixels.

    The weights are ``[filters, channels, kernel height, kernel width]``; strides and pads are in
    the order of ONNX: down, across; top, left, bottom, right. None if the bytes of a row do not
    divide into groups, or it would not be faster.
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
    # From the first byte of the first pixel to the last byte of its neighbour.
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
