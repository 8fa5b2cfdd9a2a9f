"""Image features at Spark scale: encoded photos in, feature vectors out.

Importing this package starts nothing: no thread, no ONNX Runtime, no Spark. Its public names are
imported on first use, so ``pomona.plan`` and ``pomona.models.store`` work without numpy and without
the compiled extension. ``__version__`` is the extension's, which takes it from ``Cargo.toml``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazy_names

if TYPE_CHECKING:
    from pomona._decode import DecodeOptions
    from pomona._errors import ImageError, ImageWarning, ModelError
    from pomona._featurize import featurize
    from pomona._native import Featurizer, __version__, load_image
    from pomona.local import featurize_folder
    from pomona.results import LocalResults
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "DecodeOptions": "_decode",
            "Featurizer": "_native",
            "ImageError": "_errors",
            "ImageWarning": "_errors",
            "LocalResults": "results",
            "ModelError": "_errors",
            "__version__": "_native",
            "featurize": "_featurize",
            "featurize_folder": "local",
            "load_image": "_native",
        },
        submodules=(
            "bench",
            "findings",
            "models",
            "pca",
            "pipeline",
            "plan",
            "plots",
            "report",
            "results",
            "similar",
            "spark",
        ),
    )

__all__ = [
    "DecodeOptions",
    "Featurizer",
    "ImageError",
    "ImageWarning",
    "LocalResults",
    "ModelError",
    "__version__",
    "featurize",
    "featurize_folder",
    "load_image",
]
