"""Rounds the weights of a layer to int8 so that its output hardly changes.

If each weight is rounded to the nearest integer, the errors add up where neighbouring pixels are
alike: in a flat area, all weights of a kernel are multiplied with the same value. The weights are
therefore rounded together, so that the errors of a kernel and of a filter cancel out (SQuant, Guo
et al., ICLR 2022), and the bias corrects the mean of the remaining error (Nagel et al., ICCV 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Symmetric, so that weights need no zero point: -128 stays unused.
_INT8_MAX = 127
#: Biases are int32 in units of input times weight. A filter of tiny weights must not overflow them.
_LARGEST_BIAS = 1 << 30
_SMALLEST_SCALE = 1e-12


def round_filters(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round weights to whole numbers so that their errors cancel out.

    Neighbouring pixels are alike, so the error of a kernel's sum matters most, then that of its
    filter's sum. Where it exceeds half a unit after rounding to the nearest integer, the weights
    closest to a tie are rounded the other way. The weights are from -127 to 127, ``[filters,
    channels / groups, kernel height, kernel width]``, and the result is less than 1 from them.
    """
    height, width = weights.shape[2:]
    rounded = np.rint(weights)
    for taps in dict.fromkeys((height * width, weights[0].size)):
        if taps > 1:
            shape = (weights.size // taps, taps)
            rounded = _cancel(weights.reshape(shape), rounded.reshape(shape))
    return rounded.reshape(weights.shape)


def _cancel(weights: NDArray[np.float64], rounded: NDArray[np.float64]) -> NDArray[np.float64]:
    error = rounded - weights
    surplus = np.rint(error.sum(axis=1)).astype(np.int64)
    for sign in (1, -1):
        # Only a weight that was rounded up may go down, and vice versa, so it errs by less than 1.
        movable = (sign * error > 0) & (sign * error < 1)
        order = np.argsort(np.where(movable, -sign * error, 1.0), axis=1, kind="stable")
        ranks = np.argsort(order, axis=1, kind="stable")
        count = np.minimum(sign * surplus, movable.sum(axis=1))
        rounded = rounded - sign * (ranks < count[:, None])
    return rounded


def filter_scales(
    weight: NDArray[np.float64], bias: NDArray[np.float64], input_scale: float
) -> NDArray[np.float32]:
    """Return the scale of each filter, with which its largest weight becomes 127."""
    scales = np.abs(weight).max(axis=(1, 2, 3)) / _INT8_MAX
    least = np.abs(bias) / input_scale / _LARGEST_BIAS
    # A scale that float32 rounds down would take the largest weight above 127.
    scales = np.maximum(np.maximum(scales, least), _SMALLEST_SCALE) * (1 + 1e-7)
    return np.asarray(scales, np.float32)


def mean_response(
    weights: NDArray[np.float64], means: NDArray[np.float64], group: int
) -> NDArray[np.float64]:
    """Return the mean output of each filter, given the mean of each of its inputs."""
    sums = weights.sum(axis=(2, 3))
    filters, per_group = sums.shape
    inputs = means.reshape(group, 1, per_group)
    return np.asarray((sums.reshape(group, filters // group, per_group) * inputs).sum(2).ravel())
