"""Image features at Spark scale: encoded photos in, feature vectors out.

Importing this package starts nothing: no thread, no ONNX Runtime, no Spark.
"""

from __future__ import annotations

from pomona._errors import ImageError, ModelError
from pomona._featurize import featurize
from pomona._native import Featurizer, __version__, load_image

__all__ = [
    "Featurizer",
    "ImageError",
    "ModelError",
    "__version__",
    "featurize",
    "load_image",
]
