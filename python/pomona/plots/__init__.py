"""Figures of a run: its photos and classes, explained variance, maps and confusion matrices.

Each function takes what the package returns and draws a matplotlib `Figure` that is legible with 2
classes and with 141, and to readers with red-green colour blindness. Figures belong to neither a
window nor pyplot, unless they are drawn into one of pyplot's with ``figure=plt.figure()``, which is
what ``%matplot plt`` shows in a PySpark kernel. `to_png` encodes a figure as a PNG file.

Needs matplotlib: ``pip install 'pomona[report]'``.
"""

from __future__ import annotations

from pomona._optional import require

require("matplotlib.figure", "report", "pomona.plots")

from pomona.plots._page import DPI, to_png  # noqa: E402
from pomona.plots.charts import class_balance, confusion_matrix, variance_curve  # noqa: E402
from pomona.plots.maps import NAMED_CLASSES, components_scatter, space_scatter  # noqa: E402
from pomona.plots.photos import contact_sheet, photo_strips  # noqa: E402

__all__ = [
    "DPI",
    "NAMED_CLASSES",
    "class_balance",
    "components_scatter",
    "confusion_matrix",
    "contact_sheet",
    "photo_strips",
    "space_scatter",
    "to_png",
    "variance_curve",
]
