"""Type aliases that several modules share."""

from __future__ import annotations

import os
from typing import Union

#: A local path, or a URI where a function takes URIs.
PathLike = Union[str, "os.PathLike[str]"]
