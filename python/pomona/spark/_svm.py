"""Linear support-vector machines, one for each class against all others, fitted all at once.

Spark's own LinearSVC in OneVsRest fits class after class, with a job for every step of each: some
hundred steps for each of 23 classes take minutes, whatever the number of photos. Here a step is one
product of the features with the weights of all classes, on the driver where the features fit, and
otherwise one job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple, Tuple

import numpy as np
import pandas as pd
from pyspark.ml.functions import vector_to_array
from pyspark.sql.functions import col

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyspark import RDD
    from pyspark.sql import DataFrame, Row

#: Features of up to this many bytes are fitted on the driver: 48,000 rows of 1,280.
DRIVER_BYTES = 256 * 1024 * 1024

#: Steps at most, and the decrease of the loss over ten of them, as a share, that ends them early.
MAX_STEPS = 300
_TOLERANCE = 1e-4
_STEPS_BETWEEN_CHECKS = 10

_BLOCK = "features binary, targets binary"
_FLOAT = np.dtype(np.float32)


class _Block(NamedTuple):
    """Rows: features float32 [n, d], numbers of their classes int64 [n]."""

    features: NDArray[np.float32]
    targets: NDArray[np.int64]


#: From weights, float64 [d + 1, classes], the last row being the intercepts, to the sum over rows
#: of the loss, and its gradient of the shape of the weights.
_Loss = Callable[["NDArray[np.float64]"], Tuple[float, "NDArray[np.float64]"]]


def fit_svm(
    rows: DataFrame,
    features: str,
    target: str,
    classes: int,
    mean: NDArray[np.float64],
    penalty: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimize the mean squared hinge loss of each class against all others, plus a penalty.

    Parameters
    ----------
    rows
        At least one.
    features, target
        Columns: vectors of d numbers, and numbers of classes, from 0.
    classes
        How many there are.
    mean
        Of the features: float64 [d].
    penalty
        Of half the sum of the squared weights; intercepts are free.

    Returns
    -------
    tuple
        Weights, float64 [classes, d], and intercepts, float64 [classes].
    """
    arrays = rows.select(
        vector_to_array(col(features), "float32").alias("x"), col(target).alias("y")
    )
    blocks = arrays.mapInPandas(_blocks, _BLOCK).rdd.map(_decode)
    number = rows.count()
    if number * mean.size * _FLOAT.itemsize <= DRIVER_BYTES:
        weights = _minimize(_loss_here(blocks.collect(), mean), mean.size, classes, number, penalty)
    else:
        blocks = blocks.cache()
        try:
            weights = _minimize(_loss_there(blocks, mean), mean.size, classes, number, penalty)
        finally:
            blocks.unpersist()
    return weights[:-1].T, weights[-1] - mean @ weights[:-1]


def _minimize(
    loss: _Loss, dim: int, classes: int, rows: int, penalty: float
) -> NDArray[np.float64]:
    """Nesterov's accelerated gradient; steps as long as they keep their promise (FISTA)."""

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total, gradient = loss(weights)
        gradient = gradient / rows
        gradient[:-1] += penalty * weights[:-1]
        return total / rows + penalty / 2 * float((weights[:-1] ** 2).sum()), gradient

    weights = np.zeros((dim + 1, classes))
    ahead, momentum, steepness = weights, 1.0, 2.0
    value, gradient = objective(ahead)
    checked = value
    for step in range(1, MAX_STEPS + 1):
        squared = float((gradient**2).sum())
        while True:
            moved = ahead - gradient / steepness
            moved_value, _ = objective(moved)
            if moved_value <= value - squared / (2 * steepness) + 1e-12 * abs(value):
                break
            steepness *= 2
        # Where the momentum leads uphill it is dropped (O'Donoghue and Candes, 2015).
        if float((gradient * (moved - weights)).sum()) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = moved + (momentum - 1) / following * (moved - weights)
        weights, momentum = moved, following
        if step % _STEPS_BETWEEN_CHECKS == 0:
            if checked - moved_value < _TOLERANCE * checked:
                break
            checked = moved_value
        value, gradient = objective(ahead)
    return weights


def _loss_here(blocks: list[_Block], mean: NDArray[np.float64]) -> _Loss:
    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return _sum(_block_loss(block, mean, weights) for block in blocks)

    return loss


def _loss_there(blocks: RDD[_Block], mean: NDArray[np.float64]) -> _Loss:
    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        shared = blocks.context.broadcast((mean, weights))
        try:
            return blocks.map(lambda block: _block_loss(block, *shared.value)).treeReduce(_add)
        finally:
            shared.unpersist()

    return loss


def _block_loss(
    block: _Block, mean: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    centred = block.features - mean
    signs = np.full((len(centred), weights.shape[1]), -1.0)
    signs[np.arange(len(centred)), block.targets] = 1.0
    short = np.maximum(0.0, 1.0 - signs * (centred @ weights[:-1] + weights[-1]))
    slope = -2.0 * signs * short
    gradient = np.vstack([centred.T @ slope, slope.sum(axis=0)])
    return float((short**2).sum()), gradient


def _add(
    one: tuple[float, NDArray[np.float64]], other: tuple[float, NDArray[np.float64]]
) -> tuple[float, NDArray[np.float64]]:
    return one[0] + other[0], one[1] + other[1]


def _sum(
    losses: Iterator[tuple[float, NDArray[np.float64]]],
) -> tuple[float, NDArray[np.float64]]:
    total = next(losses)
    for loss in losses:
        total = _add(total, loss)
    return total


def _blocks(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    for frame in frames:
        if len(frame):
            features = np.stack(frame["x"].to_numpy()).astype(np.float32)
            targets = frame["y"].to_numpy().astype(np.int64)
            yield pd.DataFrame({"features": [features.tobytes()], "targets": [targets.tobytes()]})


def _decode(row: Row) -> _Block:
    targets = np.frombuffer(row.targets, np.int64)
    features = np.frombuffer(row.features, np.float32)
    return _Block(features.reshape(len(targets), -1), targets)
