"""The settings of a cluster's programs: bootstrap/emr.json with its placeholders filled."""

from __future__ import annotations

import json
from typing import Any

from emr.account import BOOTSTRAP, fill
from emr.cluster import NODE_FOLDER
from emr.errors import Stop
from emr.settings import Settings

#: The settings in emr.json are for this instance.
INSTANCE = "m5.xlarge"
#: Only where there are nodes that may go at any time: the driver is to be on others.
FOR_SPOT = "yarn-site"


def configurations(settings: Settings) -> str:
    """Return the classifications for a cluster, as JSON."""
    text = (BOOTSTRAP / "emr.json").read_text(encoding="utf-8")
    filled = fill(text, {"BUCKET": settings.BUCKET, "VENV": f"{NODE_FOLDER}/venv"})
    found: list[dict[str, Any]] = json.loads(filled)
    if not int(settings.TASKS):
        found = [entry for entry in found if entry["Classification"] != FOR_SPOT]
    if settings.INSTANCE != INSTANCE:
        raise Stop(f"INSTANCE={settings.INSTANCE}: only {INSTANCE} is known")
    return json.dumps(found, indent=2) + "\n"
