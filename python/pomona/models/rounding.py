"""Rounds a layer's weights to int8 so that what it gives is hardly moved.

Rounding each weight to the nearest leaves errors that add up where neighbouring pixels are alike:
in a flat area every weight of a kernel meets the same value. So the weights are rounded together,
such that the errors of a kernel and of a filter cancel out (SQuant, Guo et al., ICLR 2022), and
what remains on average is taken from the bias (Nagel et al., ICCV 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Symmetric, so that weights have no zero point to subtract: -128 stays unused.
_INT8_MAX = 127
#: Biases are int32 in units of input times weight; a filter of next to nothing must not exceed it.
_LARGEST_BIAS = 1 << 30
_SMALLEST_SCALE = 1e-12


def round_filters(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round weights to whole numbers so that their errors cancel out.

    Neighbouring pixels are much alike, so what counts is the error of a kernel's sum, then of its
    filter's. Where rounding to the nearest leaves more than half a unit, those that were nearest to
    the other side go there.

    Parameters
    ----------
    weights : numpy.ndarray
        ``[filters, channels / groups, kernel height, kernel width]``, at most 127 either way.

    Returns
    -------
    numpy.ndarray
        Whole numbers of the same shape, less than 1 from the weights.
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
        # Only what was rounded up goes down, and the other way round: once, so by less than 1.
        movable = (sign * error > 0) & (sign * error < 1)
        order = np.argsort(np.where(movable, -sign * error, 1.0), axis=1, kind="stable")
        places = np.argsort(order, axis=1, kind="stable")
        count = np.minimum(sign * surplus, movable.sum(axis=1))
        rounded = rounded - sign * (places < count[:, None])
    return rounded


def filter_scales(
    weight: NDArray[np.float64], bias: NDArray[np.float64], input_scale: float
) -> NDArray[np.float32]:
    """Return the unit of each filter's weights: the largest is 127 of them."""
    scales = np.abs(weight).max(axis=(1, 2, 3)) / _INT8_MAX
    least = np.abs(bias) / input_scale / _LARGEST_BIAS
    # float32 may round down, and the largest weight up with it: above 127.
    scales = np.maximum(np.maximum(scales, least), _SMALLEST_SCALE) * (1 + 1e-7)
    return np.asarray(scales, np.float32)


def mean_response(
    weights: NDArray[np.float64], means: NDArray[np.float64], group: int
) -> NDArray[np.float64]:
    """Return what filters give on average, from the mean of each of their inputs."""
    sums = weights.sum(axis=(2, 3))
    filters, per_group = sums.shape
    inputs = means.reshape(group, 1, per_group)
    return np.asarray((sums.reshape(group, filters // group, per_group) * inputs).sum(2).ravel())
