"""Random forests in a compact form, and their votes.

Spark's own forests hold the training rows of every class in every node: with 141 classes, a hundred
trees of 1,300 leaves each take 290 MB, which Spark sends to every task. Most leaves have rows of a
single class, so that the same forest takes 12 MB here.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The file of a saved forest, in the folder ``data`` of its stage.
FILE = "part-00000.parquet"

#: Rows whose votes are counted at once: a hundred trees take about 10 MB for them.
_ROWS = 1024


class Forest(NamedTuple):
    """A random forest of n classes: the nodes of all trees, one tree after another."""

    #: int32 [trees]: the first node of each tree.
    roots: NDArray[np.int32]
    #: int32 [nodes]: the feature that a node splits by, and its children; -1 for a leaf. Rows whose
    #: feature is at most `threshold` go left.
    feature: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    #: float64 [nodes]
    threshold: NDArray[np.float64]
    #: int32 [nodes + 1]: where the votes of each node start in the two arrays below; only leaves
    #: have any.
    starts: NDArray[np.int32]
    #: int32 and float64 [votes]: a class, and the share of a leaf's training rows that it has.
    classes: NDArray[np.int32]
    shares: NDArray[np.float64]
    #: Length of the vectors that it takes, and number of classes.
    features: int
    kinds: int
    input: str = "pca"

    def apply(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the votes for each class, [m, n]; those of a tree add up to 1."""
        votes = np.empty((len(matrix), self.kinds))
        for start in range(0, len(matrix), _ROWS):
            part = slice(start, start + _ROWS)
            votes[part] = self._votes(matrix[part])
        return votes

    def _votes(self, matrix: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        # Every row descends all trees at the same time.
        node = np.repeat(self.roots, len(matrix))
        row = np.tile(np.arange(len(matrix)), len(self.roots))
        moving = np.arange(len(node))
        while moving.size:
            at = node[moving]
            inner = self.left[at] >= 0
            moving, at = moving[inner], at[inner]
            goes_left = matrix[row[moving], self.feature[at]] <= self.threshold[at]
            node[moving] = np.where(goes_left, self.left[at], self.right[at])
        # The votes of each leaf are a range of the arrays of votes.
        first = self.starts[node]
        length = self.starts[node + 1] - first
        before = np.repeat(np.cumsum(length) - length, length)
        vote = np.arange(len(before)) - before + np.repeat(first, length)
        cells = np.repeat(row, length) * self.kinds + self.classes[vote]
        sums: NDArray[np.float64] = np.bincount(
            cells, self.shares[vote], len(matrix) * self.kinds
        ).astype(np.float64, copy=False)
        return sums.reshape(len(matrix), self.kinds)

    def parquet(self) -> bytes:
        """Return the nodes as a Parquet file, a row each, which `of_parquet` reads."""
        tree = np.searchsorted(self.roots, np.arange(len(self.feature)), side="right") - 1
        columns = {
            "tree": pa.array(tree, pa.int32()),
            "feature": pa.array(self.feature),
            "left": pa.array(self.left),
            "right": pa.array(self.right),
            "threshold": pa.array(self.threshold),
            "classes": pa.ListArray.from_arrays(pa.array(self.starts), pa.array(self.classes)),
            "shares": pa.ListArray.from_arrays(pa.array(self.starts), pa.array(self.shares)),
        }
        file = io.BytesIO()
        pq.write_table(pa.Table.from_arrays(list(columns.values()), names=list(columns)), file)
        return file.getvalue()


def of_parquet(content: bytes, features: int, kinds: int, column: str) -> Forest:
    """Make a forest of its nodes; `column` is the name of the column of vectors that it takes."""
    table = pq.ParquetFile(io.BytesIO(content)).read().combine_chunks()
    feature, left, right, threshold = (
        table.column(name).to_numpy() for name in ("feature", "left", "right", "threshold")
    )
    classes, shares = (table.column(name).chunk(0) for name in ("classes", "shares"))
    return Forest(
        np.flatnonzero(np.diff(table.column("tree").to_numpy(), prepend=-1)).astype(np.int32),
        feature,
        left,
        right,
        threshold,
        np.asarray(classes.offsets.to_numpy()),
        classes.flatten().to_numpy(),
        shares.flatten().to_numpy(),
        features,
        kinds,
        column,
    )


class Tree(NamedTuple):
    """A tree of a forest, as the arrays of a `Forest`; children are numbers within the tree."""

    feature: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    threshold: NDArray[np.float64]
    #: int32 [nodes]: how many votes each node has.
    lengths: NDArray[np.int32]
    classes: NDArray[np.int32]
    shares: NDArray[np.float64]


def tree_of(
    feature: NDArray[Any],
    left: NDArray[Any],
    right: NDArray[Any],
    threshold: NDArray[Any],
    counts: NDArray[Any],
) -> Tree:
    """Make a tree; `counts`, [nodes, n], are training rows of each class, or their shares."""
    leaves = np.flatnonzero(left < 0)
    leaf, classes = np.nonzero(counts[leaves])
    rows = counts[leaves[leaf]].sum(axis=1)
    lengths = np.zeros(len(left), np.int32)
    lengths[leaves] = np.bincount(leaf, minlength=len(leaves))
    return Tree(
        feature.astype(np.int32),
        left.astype(np.int32),
        right.astype(np.int32),
        threshold.astype(np.float64),
        lengths,
        classes.astype(np.int32),
        counts[leaves[leaf], classes] / rows,
    )


def forest_of(trees: Sequence[Tree], features: int, kinds: int, column: str) -> Forest:
    """Make a forest of trees that take the column of vectors of that name."""
    sizes = [len(tree.feature) for tree in trees]
    roots = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
    feature, left, right, threshold, lengths, classes, shares = (
        np.concatenate([tree[field] for tree in trees]) for field in range(len(Tree._fields))
    )
    root = np.repeat(roots, sizes)
    return Forest(
        roots,
        feature,
        np.where(left < 0, left, left + root),
        np.where(right < 0, right, right + root),
        threshold,
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        classes,
        shares,
        features,
        kinds,
        column,
    )
