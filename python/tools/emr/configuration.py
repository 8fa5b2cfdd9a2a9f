"""The settings of a cluster's programs, and its price."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

from emr.cluster import NODE_FOLDER
from emr.errors import Stop
from emr.files import BOOTSTRAP, ROOT, fill
from emr.settings import Settings

#: Only where there are nodes that may go at any time: the driver is to be on others.
FOR_SPOT = "yarn-site"


def configurations(settings: Settings) -> str:
    """Return the classifications for a cluster, as JSON: bootstrap/emr.json, filled.

    What depends on the instance comes from Pomona's plan; emr.json has it for the default one.
    """
    text = (BOOTSTRAP / "emr.json").read_text(encoding="utf-8")
    filled = fill(text, {"BUCKET": settings.BUCKET, "VENV": f"{NODE_FOLDER}/venv"})
    found: list[dict[str, Any]] = json.loads(filled)
    if not int(settings.TASKS):
        found = [entry for entry in found if entry["Classification"] != FOR_SPOT]
    (spark,) = (entry for entry in found if entry["Classification"] == "spark-defaults")
    try:
        spark["Properties"].update(_plan().spark_settings(settings.INSTANCE))
    except ValueError as error:
        raise Stop(f"INSTANCE={settings.INSTANCE}: {error}") from error
    return json.dumps(found, indent=2) + "\n"


def price(settings: Settings) -> str:
    """Return what the cluster costs, in a sentence."""
    plan = _plan()
    try:
        ec2, emr = plan.prices_of(settings.INSTANCE, settings.REGION)
    except ValueError as error:
        return f"What it costs is not known: {error}."
    on_demand, spot = 1 + int(settings.WORKERS), int(settings.TASKS)
    dollars = (
        on_demand * ec2.usd + spot * ec2.usd * plan.spot_share() + (on_demand + spot) * emr.usd
    )
    fee = f"EMR's fee read on {emr.date}" if emr.read else "EMR's fee not verified"
    return (
        f"About ${dollars:.2f} an hour (EC2's prices of {ec2.date}, {fee}); disks, public "
        "addresses and S3 come on top."
    )


def _plan() -> ModuleType:
    """Load pomona.plan from its file: the package itself needs numpy, and this tool does not."""
    name = "pomona_plan"
    if name not in sys.modules:
        path = ROOT / "python" / "pomona" / "plan.py"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise Stop(f"{path} cannot be loaded: is this the whole repository?")
        module = importlib.util.module_from_spec(spec)
        # Its data classes look their own module up.
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
