"""Checks of the AWS account, made before anything is created."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

from emr.aws import Aws, AwsError, Stop
from emr.settings import Settings

#: Address ranges of private networks, which AWS does not see.
_INSIDE = [
    ipaddress.IPv4Network(block)
    for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


class Network(NamedTuple):
    """What the template asks about the subnet."""

    vpc: str
    public: bool


class Bucket(NamedTuple):
    """What the template asks about the bucket."""

    exists: bool
    #: The ARN of the customer's key that encrypts it, if there is one.
    key: str = ""


def account(aws: Aws) -> str:
    """Return the account number; Stop if there are no credentials."""
    return str(aws("sts", "get-caller-identity", query="Account"))


def check_release(aws: Aws, settings: Settings) -> None:
    """Stop if AWS does not offer the release, or the instance type with it."""
    release = settings.RELEASE
    labels = aws(
        "emr", "list-release-labels", "--filters", f"Prefix={release}", query="ReleaseLabels"
    )
    if release not in (labels or []):
        raise Stop(
            f"AWS does not offer {release} in {aws.region}: it does not exist or was withdrawn. "
            "Use another, such as RELEASE=emr-7.14.0 or RELEASE=emr-6.15.0 (the last with Python "
            f"3.7); to list them: aws emr list-release-labels --region {aws.region}"
        )
    types: list[str] = []
    page: dict[str, Any] = {"Marker": ""}
    try:
        while page.get("Marker") is not None:
            after = ["--marker", page["Marker"]] if page["Marker"] else []
            words = ("emr", "list-supported-instance-types", "--release-label", release, *after)
            page = aws(*words, quiet=bool(types))
            types += [each["Type"] for each in page.get("SupportedInstanceTypes") or []]
    except AwsError as error:
        print(f"  EMR does not list the instance types of {release}: {error.message}")
        return
    if types and settings.INSTANCE not in types:
        raise Stop(
            f"INSTANCE={settings.INSTANCE}: {release} does not support it in {aws.region}; use "
            "another, such as INSTANCE=m5.xlarge, or another RELEASE"
        )


def check_key_pair(aws: Aws, settings: Settings) -> None:
    """Stop if the region does not have the key pair."""
    key = settings.KEY
    try:
        aws("ec2", "describe-key-pairs", "--key-names", key, query="KeyPairs[].KeyName")
    except AwsError as error:
        if error.code != "InvalidKeyPair.NotFound":
            raise
        raise Stop(
            f"{aws.region} has no key pair {key} (give its name, not its file; every region has "
            f"its own); to create it: aws ec2 create-key-pair --key-name {key} --query "
            f"KeyMaterial --output text --region {aws.region} > ~/.ssh/{key}.pem && chmod 400 "
            f"~/.ssh/{key}.pem"
        ) from error


def check_subnet(aws: Aws, settings: Settings) -> Network:
    """Return the subnet's VPC and whether it is public; Stop if its nodes could not work."""
    subnet = settings.SUBNET
    try:
        found = aws("ec2", "describe-subnets", "--subnet-ids", subnet, query="Subnets[0]")
    except AwsError as error:
        if not error.code.startswith("InvalidSubnetI"):
            raise
        raise Stop(
            f"{aws.region} has no subnet {subnet}; to list yours: aws ec2 describe-subnets "
            f"--region {aws.region} --query 'Subnets[].[SubnetId,VpcId,AvailabilityZone]'"
        ) from error
    vpc = found["VpcId"]
    _check_dns(aws, vpc)
    table = _route_table(aws, subnet, vpc)
    routes = [route for route in table.get("Routes") or [] if route.get("State") != "blackhole"]
    outward = [route for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
    public = any(route.get("GatewayId", "").startswith("igw-") for route in outward)
    if public:
        _check_public(aws, settings, found["MapPublicIpOnLaunch"])
    elif not outward and not _s3_endpoint(aws, vpc, table.get("RouteTableId", "")):
        raise Stop(
            f"subnet {subnet} has no route to S3, so its nodes could not download anything: add a "
            "gateway endpoint to its route table, which is free: aws ec2 create-vpc-endpoint "
            f"--vpc-id {vpc} --service-name com.amazonaws.{aws.region}.s3 --route-table-ids "
            f"{table.get('RouteTableId', 'TABLE')} --region {aws.region}; or use a subnet with an "
            "internet gateway or a NAT"
        )
    if settings.ssm and not outward:
        print(
            f"  Session Manager reaches nodes in {subnet} only if {vpc} has interface endpoints "
            f"for com.amazonaws.{aws.region}.ssm, ssmmessages and ec2messages, which cost money"
        )
    return Network(vpc, public)


def _check_dns(aws: Aws, vpc: str) -> None:
    """Stop if nodes could not resolve each other's names."""
    for attribute, option in (
        ("DnsSupport", "--enable-dns-support"),
        ("DnsHostnames", "--enable-dns-hostnames"),
    ):
        words = ("ec2", "describe-vpc-attribute", "--vpc-id", vpc, "--attribute")
        if not aws(*words, f"enable{attribute}", query=f"Enable{attribute}.Value"):
            raise Stop(
                f"the network {vpc} has enable{attribute} off, and EMR needs it for the names of "
                f"the nodes: aws ec2 modify-vpc-attribute --vpc-id {vpc} {option} --region "
                f"{aws.region}; or use a subnet of another network"
            )


def _route_table(aws: Aws, subnet: str, vpc: str) -> dict[str, Any]:
    """Return a subnet's route table: its own, or the main one of its VPC."""
    for filters in (
        [f"Name=association.subnet-id,Values={subnet}"],
        ["Name=association.main,Values=true", f"Name=vpc-id,Values={vpc}"],
    ):
        words = ("ec2", "describe-route-tables", "--filters", *filters)
        found = aws(*words, query="RouteTables[0]")
        if found:
            return dict(found)
    return {}


def _s3_endpoint(aws: Aws, vpc: str, table: str) -> bool:
    """Return whether a route table has a gateway endpoint for S3."""
    tables = aws(
        "ec2",
        "describe-vpc-endpoints",
        "--filters",
        f"Name=vpc-id,Values={vpc}",
        f"Name=service-name,Values=com.amazonaws.{aws.region}.s3",
        query="VpcEndpoints[?VpcEndpointType=='Gateway' && State=='available'].RouteTableIds[]",
    )
    return table in (tables or [])


def _check_public(aws: Aws, settings: Settings, addresses: bool) -> None:
    """Stop if machines in a public subnet could not reach AWS, or the user could not reach them."""
    if not addresses:
        raise Stop(
            f"subnet {settings.SUBNET} has an internet gateway but gives its machines no public "
            "addresses, so they would reach neither S3 nor EMR: aws ec2 modify-subnet-attribute "
            f"--subnet-id {settings.SUBNET} --map-public-ip-on-launch --region {aws.region}; or "
            "use another subnet"
        )
    if settings.MY_IP and any(ipaddress.IPv4Address(settings.MY_IP) in block for block in _INSIDE):
        raise Stop(
            f"MY_IP={settings.MY_IP} is an address inside your own network, and AWS sees another "
            "one: use the output of curl -s https://checkip.amazonaws.com"
        )


def check_bucket(aws: Aws, settings: Settings, owner: str) -> Bucket:
    """Return whether the bucket exists, and its key; Stop if the cluster could not use it."""
    name = settings.BUCKET
    ours = ("--bucket", name, "--expected-bucket-owner", owner)
    try:
        aws("s3api", "head-bucket", *ours)
    except AwsError as error:
        if error.code in ("404", "NoSuchBucket"):
            return Bucket(exists=False)
        if error.code not in ("301", "400", "403"):
            raise
        raise Stop(
            f"the bucket {name} belongs to someone else, or your AWS user may not access it "
            f"({error.code}): bucket names are unique across AWS; choose another, such as "
            f"BUCKET={name}-2"
        ) from error
    # S3 has no name for its first region.
    region = aws("s3api", "get-bucket-location", *ours, query="LocationConstraint") or "us-east-1"
    if region != aws.region:
        raise Stop(
            f"the bucket {name} is in {region} and the cluster would be in {aws.region}: use "
            f"another bucket, or REGION={region}"
        )
    _check_private(aws, ours)
    return Bucket(exists=True, key=_key_of(aws, ours, owner))


def _check_private(aws: Aws, ours: tuple[str, ...]) -> None:
    """Block public access to a bucket that has no setting for it; Stop if it is allowed."""
    block = ",".join(f"{name}=true" for name in _BLOCKED)
    put = ("s3api", "put-public-access-block", *ours, "--public-access-block-configuration", block)
    try:
        words = ("s3api", "get-public-access-block", *ours)
        blocked = aws(*words, query="PublicAccessBlockConfiguration")
    except AwsError as error:
        if error.code != "NoSuchPublicAccessBlockConfiguration":
            raise
        aws.raw(*put)
        return
    if not all(blocked.get(name) for name in _BLOCKED):
        raise Stop(
            f"the bucket {ours[1]} allows public access: use another, or block it: "
            f"aws {' '.join(put)} --region {aws.region}"
        )


def _key_of(aws: Aws, ours: tuple[str, ...], owner: str) -> str:
    """Return the ARN of the customer's key that encrypts a bucket, or nothing."""
    try:
        rule = aws(
            *("s3api", "get-bucket-encryption", *ours),
            query="ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault",
        )
    except AwsError as error:
        if error.code != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        return ""
    key = (rule or {}).get("KMSMasterKeyID", "")
    if not key:
        return ""
    instead = f"encrypt {ours[1]} with another key, or use another bucket"
    place = key.split(":")
    if place[0] == "arn" and place[3:5] != [aws.region, owner]:
        raise Stop(
            f"the key {key} of the bucket {ours[1]} is of account {place[4]} in {place[3]}, so "
            f"this stack cannot let the nodes use it: {instead}"
        )
    try:
        found = aws("kms", "describe-key", "--key-id", key, query="KeyMetadata")
    except AwsError as error:
        raise Stop(
            f"the key {key} of the bucket {ours[1]} cannot be read: {error}; {instead}"
        ) from error
    if found["KeyState"] != "Enabled":
        raise Stop(
            f"the key {found['Arn']} of the bucket {ours[1]} is {found['KeyState']}, so nothing "
            f"in the bucket can be read: enable it (aws kms enable-key --key-id "
            f"{found['KeyId']} --region {aws.region}), or {instead}"
        )
    # Whoever may use the bucket may use AWS's own key for it.
    return "" if found.get("KeyManager") == "AWS" else str(found["Arn"])
