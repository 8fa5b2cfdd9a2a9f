"""A simple alternative in twenty lines: Pillow, numpy and the same ONNX Runtime."""

import io

import numpy as np
import onnxruntime
from common import arguments, cores, measure, photos_in
from PIL import Image

SIZE = (224, 224)
BATCH = 8


def main():
    args = arguments(__doc__)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])

    def featurize(photos):
        batches = (photos[start : start + BATCH] for start in range(0, len(photos), BATCH))
        return np.concatenate([session.run(None, {"images": prepare(b)})[0] for b in batches])

    measure(featurize, photos_in(args.photos), args.seconds)


def prepare(photos):
    """Return the model's input, uint8 `[n, height, width, 3]`."""
    return np.stack([prepare_one(photo) for photo in photos])


def prepare_one(photo):
    return np.asarray(Image.open(io.BytesIO(photo)).convert("RGB").resize(SIZE))


if __name__ == "__main__":
    main()
