"""The approach of the reference notebook: Pillow and Keras' MobileNetV2, in batches of 32."""

import io
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import numpy as np
import tensorflow as tf
from common import arguments, cores, measure, photos_in
from PIL import Image

SIZE = (224, 224)
BATCH = 32


def network():
    """Return the network with random weights."""
    return tf.keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg")


def prepare(photos):
    """Return the network's input, float32 `[n, height, width, 3]`."""
    return np.stack([prepare_one(photo) for photo in photos])


def prepare_one(photo):
    image = Image.open(io.BytesIO(photo)).convert("RGB").resize(SIZE)
    pixels = tf.keras.preprocessing.image.img_to_array(image)
    return tf.keras.applications.mobilenet_v2.preprocess_input(pixels)


def main():
    args = arguments(__doc__)
    tf.config.threading.set_intra_op_parallelism_threads(cores())
    tf.config.threading.set_inter_op_parallelism_threads(cores())
    model = network()
    model.load_weights(args.model)

    def featurize(photos):
        return model.predict(prepare(photos), batch_size=BATCH, verbose=0)

    measure(featurize, photos_in(args.photos), args.seconds)


if __name__ == "__main__":
    main()
