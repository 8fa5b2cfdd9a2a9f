"""How alike the features of two models are, on photos that neither has seen.

Usage: fidelity.py MODEL OTHER PHOTOS

A photo's label is its folder. 1-NN: the share of photos whose nearest other photo, by cosine, has
their label.
"""

import json
import sys

import numpy as np
from common import cores, paths_in

import pomona


def main():
    *models, folder = sys.argv[1:]
    paths = paths_in(folder)
    photos = [path.read_bytes() for path in paths]
    labels = np.array([path.parent.name for path in paths])
    ours, theirs = (directions(model, photos) for model in models)
    cosines = np.sum(ours * theirs, axis=1)
    accuracy, other = (100 * np.mean(labels == labels[nearest(u)]) for u in (ours, theirs))
    agreement = 100 * np.mean(nearest(ours) == nearest(theirs))
    result = {"photos": len(paths), "accuracy": accuracy, "other_accuracy": other}
    result.update(agreement=agreement, median=np.median(cosines), lowest=np.min(cosines))
    print(json.dumps({key: float(value) for key, value in result.items()}))


def directions(model, photos):
    features = pomona.Featurizer(model, threads=cores()).featurize(photos).astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def nearest(units):
    """Return for each row the index of the nearest other row."""
    scores = units @ units.T
    np.fill_diagonal(scores, -np.inf)
    return scores.argmax(axis=1)


if __name__ == "__main__":
    main()
