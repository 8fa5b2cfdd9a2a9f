"""The output folder of a run: its summary, vectors, photos and metrics, without Spark.

`LocalResults` reads a folder on this machine with pyarrow. Folders elsewhere need Spark, which has
the credentials: `pomona.spark.SparkResults` has the same methods. Both read vectors in blocks, so
memory does not grow with the set, and both draw a sample where the data is.
"""

from __future__ import annotations

from pomona.results.base import ClassCount, Results, Sample
from pomona.results.local import LocalResults
from pomona.results.vectors import Vectors

__all__ = ["ClassCount", "LocalResults", "Results", "Sample", "Vectors"]
