"""Fit classifiers with scikit-learn, and the hyperparameters that both engines use.

The hyperparameters are the same for all photos and models. They maximize the mean accuracy over
several seeds on a sample of Fruits-360 (295 photos, 23 classes) with features of
`efficientnet_lite0`, and were confirmed on another data set (600 photos, 6 classes). Penalties
scale with the variance of the features, which differs between models by orders of magnitude.
Features are not standardized: a network's small features are mostly noise, and scaling them up
costs 1 to 4 points of accuracy. A penalty ten times as large costs about one point, one ten times
as small costs nothing.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from pomona._optional import require
from pomona.results import spark_ml
from pomona.results.forest import Forest, Tree, forest_of, tree_of

if TYPE_CHECKING:
    from typing import Sequence

    from numpy.typing import NDArray

#: L2 penalties for features with a total variance of 1.
LOGISTIC_PENALTY = 1e-4
SVM_PENALTY = 1e-3

#: Maximum iterations of the logistic regression, which usually converges long before.
LOGISTIC_STEPS = 200

#: Twice as many trees take twice the time and change no result. They grow until their leaves are
#: pure, or to the maximum depth that Spark supports.
TREES = 100
TREE_DEPTH = 30

#: Trees in the form of scikit-learn that are in memory at the same time: they hold a number for
#: each class in every node, 60 MB for 22,560 photos of 141 classes.
_TREES_AT_ONCE = 20

#: What scikit-learn fits of each classifier.
_MODULES = {"logistic": "linear_model", "svm": "svm", "forest": "ensemble"}
_NOUNS = {"logistic": "a logistic regression", "svm": "an SVM", "forest": "a random forest"}


def require_scikit_learn(name: str, where: str = "") -> Any:
    """Import the module that fits a classifier, to fail before work is spent on the features."""
    module = f"sklearn.{_MODULES[name]}"
    return require(module, "report", _NOUNS[name], advice=where)


def fit(
    name: str,
    matrix: NDArray[np.floating[Any]],
    labels: Sequence[str],
    *,
    seed: int,
    column: str,
) -> list[spark_ml.Stage]:
    """Fit a classifier, and return it with the lookup of class names.

    ``logistic`` is a multinomial logistic regression, ``svm`` are one-vs-rest linear support-vector
    machines, whose class with the highest score is predicted, and ``forest`` is a random forest,
    which uses `seed`.

    Parameters
    ----------
    matrix
        Features, one row for each of n photos: [n, d].
    labels
        Their labels, of at least two classes.
    column
        The name that Spark gives to the column of features.
    """
    features = np.asarray(matrix, dtype=np.float64)
    classes, target = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    mean = features.mean(axis=0)
    spread = float(features.var(axis=0, ddof=1).sum()) or 1.0
    stage: spark_ml.Stage
    if name == "forest":
        stage = _fit_forest(features, target, seed, column)
    elif name == "svm":
        numbers = fit_svm(features, target, mean, SVM_PENALTY * spread)
        stage = spark_ml.LinearSVMs(*numbers, column)
    else:
        stage = spark_ml.Logistic(*_fit_logistic(features, target, mean, spread), column)
    return [stage, spark_ml.ClassNames([str(label) for label in classes])]


def fit_svm(
    features: NDArray[np.floating[Any]],
    target: NDArray[Any],
    mean: NDArray[np.float64],
    penalty: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minimize the mean squared hinge loss of each class against the rest, plus an L2 penalty.

    Returns the weights, [classes, d], and the intercepts. `mean` is that of the features, and
    `penalty` is the factor of half the sum of the squared weights.
    """
    centred = features - mean
    # liblinear penalizes the intercept like the weight of a feature of this size. With the typical
    # distance of a photo from the mean, the penalty is negligible.
    size = float(np.sqrt(np.einsum("ij,ij->", centred, centred) / len(centred))) or 1.0
    svm = require_scikit_learn("svm").LinearSVC(
        C=1 / (penalty * len(centred)), intercept_scaling=size, random_state=0
    )
    svm.fit(centred, target)
    weights, intercepts = svm.coef_, svm.intercept_
    # For two classes, scikit-learn fits only the second one.
    if len(weights) == 1:
        weights, intercepts = np.vstack([-weights, weights]), np.hstack([-intercepts, intercepts])
    return weights, intercepts - weights @ mean


def _fit_logistic(
    features: NDArray[np.float64], target: NDArray[Any], mean: NDArray[np.float64], spread: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Of a total variance of 1, for which the steps of the solver are made.
    scale = np.sqrt(spread)
    penalty = LOGISTIC_PENALTY * len(features)
    two = target.max() == 1
    # Of two classes, scikit-learn fits the difference of their weights. The penalty of both weights
    # is half that of the difference.
    model = require_scikit_learn("logistic").LogisticRegression(
        C=1 / (penalty / 2 if two else penalty), max_iter=LOGISTIC_STEPS, tol=1e-6
    )
    with warnings.catch_warnings():
        # After so many steps, the rest is far below what changes a label.
        warnings.filterwarnings("ignore", "lbfgs failed to converge")
        model.fit((features - mean) / scale, target)
    weights, intercepts = model.coef_ / scale, model.intercept_
    if two:
        weights, intercepts = (np.concatenate([-x, x]) / 2 for x in (weights, intercepts))
    return weights, intercepts - weights @ mean


def _fit_forest(
    features: NDArray[np.float64], target: NDArray[Any], seed: int, column: str
) -> Forest:
    ensemble = require_scikit_learn("forest")
    jobs = len(os.sched_getaffinity(0))
    random = np.random.RandomState(seed)
    matrix = features.astype(np.float32)
    trees: list[Tree] = []
    while len(trees) < TREES:
        model = ensemble.RandomForestClassifier(
            n_estimators=min(TREES - len(trees), _TREES_AT_ONCE),
            max_depth=TREE_DEPTH,
            max_features="sqrt",
            random_state=random,
            n_jobs=jobs,
        )
        model.fit(matrix, target)
        trees += [_tree(each.tree_) for each in model.estimators_]
    return forest_of(trees, features.shape[1], int(target.max()) + 1, column)


def _tree(tree: Any) -> Tree:
    return tree_of(
        tree.feature,
        tree.children_left,
        tree.children_right,
        tree.threshold,
        # Counts; later versions of scikit-learn store shares.
        tree.value[:, 0, :],
    )
