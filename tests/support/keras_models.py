"""Build MobileNetV2s with Keras, and save them in every format, with the features they compute.

Usage: python tests/support/keras_models.py FLAVOR PIXELS OUTPUT

FLAVOR is the module to import: keras (3), tf_keras (2) or tensorflow.keras (2 or 3). PIXELS is a
folder of HEIGHTxWIDTH.npy (uint8, [n, height, width, 3]). OUTPUT gets the files, NAME.npy (the
features that Keras computes) and cases.json. A separate process, because TensorFlow prints warnings
and cannot be unloaded; also runs on Python 3.7 and TensorFlow 2.11.

The weights are random, but batch normalisation has the statistics of the photos, so that features
are as large as those of a trained network.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

OFFICIAL = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_{}{}.h5"
CALIBRATION_PHOTOS = 16


class Workshop:
    """Builds and saves the models of one flavour of Keras."""

    def __init__(self, flavor: str, pixels: Path, output: Path) -> None:
        self.keras = importlib.import_module(flavor)
        self.layers = self.keras.layers
        self.keras.utils.set_random_seed(20)
        self.pixels = pixels
        self.output = output
        self.cases: list[dict[str, object]] = []

    def photos(self, size: tuple[int, int]) -> np.ndarray:
        return np.load(self.pixels / "{}x{}.npy".format(*size)).astype(np.float32)

    def backbone(self, size: tuple[int, int], alpha: float, prepared: np.ndarray, **options):
        """Return a MobileNetV2 with batch-norm statistics of the prepared photos."""
        options.setdefault("include_top", False)
        options.setdefault("input_shape", (*size, 3))
        model = self.keras.applications.MobileNetV2(alpha=alpha, weights=None, **options)
        random = np.random.default_rng(7)
        for layer in model.layers:
            if type(layer).__name__ == "BatchNormalization":
                shape = layer.gamma.shape
                layer.gamma.assign(random.uniform(0.5, 1.5, shape).astype(np.float32))
                layer.beta.assign(random.normal(0.0, 0.4, shape).astype(np.float32))
                layer.momentum = 0.0
        model(prepared[:CALIBRATION_PHOTOS], training=True)
        for layer in model.layers:
            if type(layer).__name__ == "BatchNormalization":
                layer.momentum = 0.999
        return model

    def features(self, model, prepared: np.ndarray, pooling: str = "mean") -> np.ndarray:
        """Return the average, or ``max``, of the backbone's last map."""
        last = model.get_layer("out_relu").output
        # Not with predict, which compiles each model first.
        maps = self.keras.Model(model.inputs, last)(prepared, training=False).numpy()
        return getattr(maps, pooling)(axis=(1, 2))

    def save(
        self,
        case: str,
        model,
        size: tuple[int, int],
        features: np.ndarray,
        endings: tuple[str, ...],
        note: str | None = None,
        **convert: object,
    ) -> None:
        """Save a model with each ending; ``weights`` files have no configuration.

        `note` is a part of what the conversion of the others says.
        """
        np.save(str(self.output / (case + ".npy")), features)
        for ending in endings:
            name = ending if ending.startswith("mobilenet_v2") else case + ending
            weights_only = "weights" in name
            (model.save_weights if weights_only else model.save)(str(self.output / name))
            self.cases.append(
                {
                    "file": name,
                    "size": list(size),
                    "features": case + ".npy",
                    "convert": convert,
                    "note": None if weights_only else note,
                }
            )

    def run(self) -> None:
        preprocess = self.keras.applications.mobilenet_v2.preprocess_input
        self.alone(preprocess)
        self.with_top(preprocess)
        self.nested(preprocess)
        self.sequential()
        self.unfolded(preprocess)
        self.normalized()
        self.open_size(preprocess)
        self.rectangular()
        self.resized()
        self.shared(preprocess)
        (self.output / "cases.json").write_text(json.dumps(self.cases))

    def alone(self, preprocess) -> None:
        size = (224, 224)
        prepared = preprocess(self.photos(size))
        model = self.backbone(size, 1.0, prepared)
        endings = (".h5", ".keras", ".weights.h5")
        self.save("alone", model, size, self.features(model, prepared), endings)

    def with_top(self, preprocess) -> None:
        size = (96, 96)
        prepared = preprocess(self.photos(size))
        model = self.backbone(size, 0.35, prepared, include_top=True, classes=11)
        # Keras 3 requires the ending .weights.h5 for weights.
        keras_2 = self.keras.__version__.startswith("2")
        bare = OFFICIAL.format("0.35", 96, "") if keras_2 else ".weights.h5"
        features = self.features(model, prepared)
        self.save("with_top", model, size, features, (".h5", ".keras"))
        self.save("with_top_weights", model, size, features, (bare,), input_size=96)

    def nested(self, preprocess) -> None:
        """As in the transfer learning tutorials: augmentation, preprocessing, backbone."""
        size = (96, 96)
        prepared = preprocess(self.photos(size))
        base = self.backbone(size, 0.35, prepared)
        base.trainable = False
        inputs = self.keras.Input((*size, 3))
        augment = self.keras.Sequential(
            [self.layers.RandomFlip("horizontal"), self.layers.RandomRotation(0.2)]
        )
        value = preprocess(augment(inputs))
        value = base(value, training=False)
        value = self.layers.GlobalAveragePooling2D()(value)
        value = self.layers.Dropout(0.2)(value)
        outputs = self.layers.Dense(5, activation="softmax")(value)
        model = self.keras.Model(inputs, outputs)
        features = self.features(base, prepared)
        self.save("nested", model, size, features, (".h5", ".keras"))
        self.save("nested_weights", model, size, features, (".weights.h5",), input_size=96)

    def sequential(self) -> None:
        size = (160, 160)
        prepared = self.photos(size) / 255.0
        base = self.backbone(size, 1.4, prepared, pooling="max")
        model = self.keras.Sequential(
            [
                self.layers.InputLayer((*size, 3)),
                self.layers.Rescaling(1 / 255.0),
                base,
                self.layers.Dense(16, activation="relu"),
                self.layers.Dense(3),
            ]
        )
        features = self.features(base, prepared, "max")
        self.save("sequential", model, size, features, (".h5", ".keras"))

    def unfolded(self, preprocess) -> None:
        """A head built on the backbone's own tensors: one flat model, no preprocessing."""
        size = (128, 128)
        prepared = preprocess(self.photos(size))
        base = self.backbone(size, 0.5, prepared)
        value = self.layers.Conv2D(8, 3, activation="relu")(base.output)
        value = self.layers.Flatten()(value)
        model = self.keras.Model(base.input, self.layers.Dense(4)(value))
        features = self.features(base, prepared)
        self.save("unfolded", model, size, features, (".h5", ".keras"), note="(Conv2D), without")

    def normalized(self) -> None:
        size = (96, 96)
        photos = self.photos(size)
        layer = self.layers.Normalization()
        layer.adapt(photos)
        prepared = np.asarray(layer(photos))
        base = self.backbone(size, 0.35, prepared)
        inputs = self.keras.Input((*size, 3))
        value = self.layers.Flatten()(base(layer(inputs)))
        model = self.keras.Model(inputs, self.layers.Dense(2)(value))
        features = self.features(base, prepared)
        self.save("normalized", model, size, features, (".h5", ".keras"), note="(Flatten), without")

    def open_size(self, preprocess) -> None:
        """Height and width left open, and pixels scaled outside of the model."""
        size = (128, 128)
        prepared = self.photos(size) / 255.0
        model = self.backbone(size, 0.35, prepared, input_shape=(None, None, 3), pooling="avg")
        features = self.features(model, prepared)
        options = {"input_size": 128, "mean": 0.0, "std": 255.0}
        self.save("open_size", model, size, features, (".h5", ".keras"), **options)

    def rectangular(self) -> None:
        """Odd sides, whose padding differs from that of even ones."""
        size = (97, 130)
        prepared = self.photos(size) * 2.0 / 255.0 - 1.0
        base = self.backbone(size, 0.35, prepared)
        inputs = self.keras.Input((*size, 3))
        value = base(inputs * 2.0 / 255.0 - 1.0)
        model = self.keras.Model(inputs, self.layers.GlobalMaxPooling2D()(value))
        features = self.features(base, prepared, "max")
        self.save("rectangular", model, size, features, (".h5", ".keras"))

    def resized(self) -> None:
        """A model that resizes the photos itself."""
        size = (96, 96)
        layer = self.layers.Resizing(128, 128)
        prepared = np.asarray(layer(self.photos(size))) / 127.5 - 1.0
        base = self.backbone((128, 128), 0.35, prepared)
        inputs = self.keras.Input((*size, 3))
        value = self.layers.Rescaling(1 / 127.5, offset=-1)(layer(inputs))
        model = self.keras.Model(inputs, self.layers.GlobalMaxPooling2D()(base(value)))
        features = self.features(base, prepared, "max")
        self.save("resized", model, size, features, (".h5", ".keras"))

    def shared(self, preprocess) -> None:
        """Two photos through one backbone, as in networks that compare photos."""
        size = (96, 96)
        prepared = preprocess(self.photos(size))
        base = self.backbone(size, 0.35, prepared, pooling="avg")
        pair = [self.keras.Input((*size, 3)), self.keras.Input((*size, 3))]
        model = self.keras.Model(pair, self.layers.Subtract()([base(side) for side in pair]))
        self.save("shared", model, size, self.features(base, prepared), (".h5", ".keras"))


def main() -> None:
    flavor, pixels, output = sys.argv[1:]
    Workshop(flavor, Path(pixels), Path(output)).run()


if __name__ == "__main__":
    main()
