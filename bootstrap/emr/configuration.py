"""The configuration of a cluster's programs, and its price."""

from __future__ import annotations

import json
from typing import Any

from emr.cluster import NODE_FOLDER
from emr.errors import Stop
from emr.files import BOOTSTRAP, fill
from emr.settings import Settings
from pomona import plan

#: Keeps the driver on core nodes. Needed only if spot nodes, which can go at any time, exist.
FOR_SPOT = "yarn-site"


def configurations(settings: Settings) -> str:
    """Return the classifications for a cluster as JSON: bootstrap/emr.json with values filled in.

    Settings that depend on the instance type come from `pomona.plan`; emr.json has those of the
    default one.
    """
    text = (BOOTSTRAP / "emr.json").read_text(encoding="utf-8")
    filled = fill(text, {"BUCKET": settings.BUCKET, "VENV": f"{NODE_FOLDER}/venv"})
    entries: list[dict[str, Any]] = json.loads(filled)
    if not int(settings.TASKS):
        entries = [entry for entry in entries if entry["Classification"] != FOR_SPOT]
    (spark,) = (entry for entry in entries if entry["Classification"] == "spark-defaults")
    try:
        spark["Properties"].update(plan.spark_settings(settings.INSTANCE))
    except ValueError as error:
        raise Stop(f"INSTANCE={settings.INSTANCE}: {error}") from error
    return json.dumps(entries, indent=2) + "\n"


def price(settings: Settings) -> str:
    """Describe the cluster's price in a sentence."""
    try:
        ec2, emr = plan.prices_of(settings.INSTANCE, settings.REGION)
    except ValueError as error:
        return f"Its price is unknown: {error}."
    on_demand, spot = 1 + int(settings.WORKERS), int(settings.TASKS)
    dollars = (
        on_demand * ec2.usd + spot * ec2.usd * plan.spot_share() + (on_demand + spot) * emr.usd
    )
    fee = f"EMR's fee of {emr.date}" if emr.read else "EMR's fee unverified"
    return (
        f"About ${dollars:.2f} per hour (EC2's prices of {ec2.date}, {fee}), plus disks, public "
        "addresses and S3."
    )
