"""Make the weights that every contender of the bench runs: Keras' MobileNetV2, saved as `.h5`.

Usage: python make_weights.py PHOTOS WEIGHTS.h5

The official weights can't be downloaded everywhere, and speed does not depend on a weight's value
as long as the activations stay in a natural range: no denormals, no layer whose ReLUs are all
dead. So the weights are random (one seed) and each batch norm gets the statistics of real photos.
"""

import sys

import keras_reference
import tensorflow as tf
from common import photos_in

SEED = 20
PHOTOS = 64


def main() -> None:
    folder, weights = sys.argv[1:]
    tf.keras.utils.set_random_seed(SEED)
    network = keras_reference.network()
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    photos = photos_in(folder)
    network(keras_reference.prepare(photos[:: len(photos) // PHOTOS]), training=True)
    network.save_weights(weights)


if __name__ == "__main__":
    main()
