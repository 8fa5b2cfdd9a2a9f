"""What costs money: a cluster per hour, and what is left without one."""

from __future__ import annotations

from emr.aws import Aws, Stop
from emr.settings import Settings
from pomona import plan

_MIB = 1024 * 1024
#: What can be left in a region: how to list it, what to read, and a sentence for each.
_LEFT = {
    "emr list-clusters --active": (
        "Clusters[].[Id, Name]",
        "Cluster {1} ({0}) is running and costs money: aws emr terminate-clusters --cluster-ids "
        "{0}",
    ),
    "ec2 describe-volumes --filters Name=tag:project,Values=pomona": (
        "Volumes[].[VolumeId]",
        "Disk {0} exists; if no running cluster uses it: aws ec2 delete-volume --volume-id {0}",
    ),
    "ec2 describe-addresses": (
        "Addresses[?AssociationId==null].[AllocationId, PublicIp]",
        "Elastic IP {1} is unused and costs money: aws ec2 release-address --allocation-id {0}",
    ),
    "ec2 describe-nat-gateways --filter Name=state,Values=available": (
        "NatGateways[].[NatGatewayId]",
        "NAT gateway {0} costs money every hour: aws ec2 delete-nat-gateway --nat-gateway-id {0}",
    ),
}
_EMPTY = """\
  while aws s3api list-object-versions --bucket {0} --max-items 1000 --query '{{Objects: \
[Versions, DeleteMarkers][].{{Key: Key, VersionId: VersionId}}, Quiet: `true`}}' --region {1} \
> versions.json && grep -q VersionId versions.json; do aws s3api delete-objects --bucket {0} \
--delete file://versions.json --region {1}; done"""


def price(settings: Settings) -> str:
    """Describe the cluster's price in a sentence."""
    try:
        ec2, emr = plan.prices_of(settings.INSTANCE, settings.REGION)
    except ValueError as error:
        return f"Its price is unknown: {error}."
    nodes, spot = 1 + int(settings.WORKERS), int(settings.TASKS)
    dollars = (nodes + spot * plan.spot_share()) * ec2.usd + (nodes + spot) * emr.usd
    fee = f"EMR's fee of {emr.date}" if emr.read else "EMR's fee unverified"
    dates = f"(EC2's prices of {ec2.date}, {fee})"
    return f"About ${dollars:.2f} per hour {dates}, plus disks, public addresses and S3."


def left(aws: Aws, settings: Settings) -> list[str]:
    """Describe what still costs money in the region, and how to remove it."""
    bucket, region, lines = settings.BUCKET, aws.region, []
    for words, (query, sentence) in _LEFT.items():
        try:
            found = aws(*words.split(), query=query) or []
            lines += [f"{sentence.format(*each)} --region {region}" for each in found]
        except Stop as error:  # noqa: PERF203 - each can fail
            lines.append(f"`aws {words}` lists what may cost money, and failed: {error}")
    sizes = "[Versions[].Size || `[]`, Versions[?!IsLatest].Size || `[]`]"
    try:
        versioning = aws("s3api", "get-bucket-versioning", "--bucket", bucket, query="Status")
        every, old = aws("s3api", "list-object-versions", "--bucket", bucket, query=sizes)
    except Stop as error:
        return [*lines, f"The bucket {settings.uri} could not be read: {error}"]
    versions = f", of which {len(old):,} old versions, {sum(old) / _MIB:,.1f} MiB" if old else ""
    return [
        *lines,
        f"The bucket {settings.uri} stays, and its {len(every):,} objects cost money: "
        f"{sum(every) / _MIB:,.1f} MiB{versions}. To delete the photos, the results and the "
        "bucket, for good:",
        *([_EMPTY.format(bucket, region)] if versioning else []),
        f"  aws s3 rb {settings.uri} --force --region {region}",
    ]
