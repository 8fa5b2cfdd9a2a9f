"""What costs money: a cluster per hour, and what is left without one."""

from __future__ import annotations

from emr.aws import Aws, Stop
from emr.settings import Settings
from pomona import plan

_MIB = 1024 * 1024
_OBJECTS = "[Versions, DeleteMarkers][].{Key: Key, VersionId: VersionId}"


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


def left(aws: Aws, settings: Settings) -> list[str]:
    """Describe what still costs money in the region, and how to remove it."""
    region = f"--region {aws.region}"
    lines: list[str] = []

    def ask(what: str, *words: str, query: str) -> list[list[str]]:
        try:
            return list(aws(*words, query=query) or [])
        except Stop as error:
            lines.append(f"{what} could not be listed: {error}")
            return []

    query = "Clusters[].[Id, Name]"
    for key, name in ask("Clusters", "emr", "list-clusters", "--active", query=query):
        lines.append(
            f"Cluster {name} ({key}) is running and costs money: aws emr terminate-clusters "
            f"--cluster-ids {key} {region}"
        )
    tagged = ("--filters", "Name=tag:project,Values=pomona")
    query = "Volumes[].[VolumeId]"
    for (disk,) in ask("Disks", "ec2", "describe-volumes", *tagged, query=query):
        lines.append(
            f"Disk {disk} exists; if no running cluster uses it: aws ec2 delete-volume "
            f"--volume-id {disk} {region}"
        )
    query = "Addresses[?AssociationId==null].[PublicIp, AllocationId]"
    for address, key in ask("Elastic IPs", "ec2", "describe-addresses", query=query):
        lines.append(
            f"Elastic IP {address} is unused and costs money: aws ec2 release-address "
            f"--allocation-id {key} {region}"
        )
    words = ("ec2", "describe-nat-gateways", "--filter", "Name=state,Values=available")
    for (key,) in ask("NAT gateways", *words, query="NatGateways[].[NatGatewayId]"):
        lines.append(
            f"NAT gateway {key} costs money every hour: aws ec2 delete-nat-gateway "
            f"--nat-gateway-id {key} {region}"
        )
    return [*lines, *_bucket(aws, settings)]


def _bucket(aws: Aws, settings: Settings) -> list[str]:
    """Describe the bucket, and how to remove it with the old versions of its objects."""
    bucket = settings.BUCKET
    region = f"--region {aws.region}"
    named = ("--bucket", bucket)
    sizes = "[Versions[].Size || `[]`, Versions[?!IsLatest].Size || `[]`]"
    try:
        versioning = aws("s3api", "get-bucket-versioning", *named, query="Status")
        every, old = aws("s3api", "list-object-versions", *named, query=sizes)
    except Stop as error:
        return [f"The bucket {settings.uri} could not be read: {error}"]
    lines = [
        f"The bucket {settings.uri} stays, and its {len(every):,} objects cost money: "
        f"{sum(every) / _MIB:,.1f} MiB"
        + (f", of which {len(old):,} old versions, {sum(old) / _MIB:,.1f} MiB" if old else "")
        + ". To delete the photos, the results and the bucket, for good:"
    ]
    if versioning:
        name, kept = " ".join(named), "versions.json"
        lines += [
            f"  while aws s3api list-object-versions {name} --max-items 1000 --query '{{Objects: "
            f"{_OBJECTS}, Quiet: `true`}}' {region} > {kept} && grep -q VersionId {kept}; do aws "
            f"s3api delete-objects {name} --delete file://{kept} {region}; done"
        ]
    return [*lines, f"  aws s3 rb s3://{bucket} --force {region}"]
