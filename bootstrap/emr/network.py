"""The network: a subnet that can reach AWS, and security groups that admit SSH from one address."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

from emr.aws import Aws
from emr.errors import AwsError, Stop
from emr.settings import INSIDE, Settings

#: AWS's policy for EMR applies only to resources with this tag.
TAG = "for-use-with-amazon-emr-managed-policies"
#: Suffixes of the security groups' names. The last group is for private subnets only.
GROUPS = ("primary", "core", "service")


class Network(NamedTuple):
    """The security groups of a cluster in a subnet."""

    primary: str
    core: str
    #: For EMR's own calls to the cluster, in a private subnet.
    service: str = ""


def check_subnet(aws: Aws, settings: Settings) -> tuple[str, bool]:
    """Return the subnet's VPC and whether it is public; Stop if it cannot reach S3."""
    subnet = settings.SUBNET
    aws.say(f"The subnet {subnet}, and its route to S3.")
    try:
        vpc = aws.text(
            "VPC", "ec2", "describe-subnets", "--subnet-ids", subnet, query="Subnets[0].VpcId"
        )
    except AwsError as error:
        if not error.code.startswith("InvalidSubnetI"):
            raise
        raise Stop(
            f"{aws.region} has no subnet {subnet}; to list yours: aws ec2 describe-subnets "
            f"--region {aws.region} --query 'Subnets[].[SubnetId,VpcId,AvailabilityZone]'"
        ) from error
    addresses = aws.text(
        "PUBLIC_ADDRESSES",
        "ec2",
        "describe-subnets",
        "--subnet-ids",
        subnet,
        query="Subnets[0].MapPublicIpOnLaunch",
    )
    table = _route_table(aws, subnet, vpc)
    if aws.dry_run:
        aws.demand(
            '[ "$PUBLIC_ADDRESSES" = True ]', "the subnet gives its machines no public addresses"
        )
        aws.remark("One of its routes must lead to an internet gateway, a NAT or an S3 endpoint.")
        aws.remark(
            "This script assumes a public subnet; a private one needs a third security group,"
        )
        aws.remark("for EMR's own calls (port 9443).")
        return vpc, True
    routes = [route for route in table["Routes"] if route.get("State") != "blackhole"]
    outward = [route for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
    public = any(route.get("GatewayId", "").startswith("igw-") for route in outward)
    if public:
        _check_public(aws, settings, addresses)
    elif not outward and not _s3_endpoint(aws, vpc, table["RouteTableId"]):
        raise Stop(
            f"subnet {subnet} has no route to S3, so its nodes could not download anything: add a "
            "gateway endpoint to its route table, which is free: aws ec2 create-vpc-endpoint "
            f"--vpc-id {vpc} --service-name com.amazonaws.{aws.region}.s3 --route-table-ids "
            f"{table['RouteTableId']} --region {aws.region}; or use a subnet with an internet "
            "gateway or a NAT"
        )
    return vpc, public


def _route_table(aws: Aws, subnet: str, vpc: str) -> dict[str, Any]:
    """Return a subnet's route table: its own, or the main one of its VPC."""
    find = ["ec2", "describe-route-tables", "--filters"]
    fields = "RouteTables[0].{RouteTableId: RouteTableId, Routes: Routes}"
    own = aws.answer(*find, f"Name=association.subnet-id,Values={subnet}", query=fields)
    if own and own["RouteTableId"]:
        return dict(own)
    if aws.dry_run:
        aws.remark("Without its own route table, a subnet uses its VPC's main one:")
    main = ("Name=association.main,Values=true", f"Name=vpc-id,Values={vpc}")
    return dict(aws.answer(*find, *main, query=fields) or {"RouteTableId": "", "Routes": []})


def _s3_endpoint(aws: Aws, vpc: str, table: str) -> bool:
    """Return whether a route table has a gateway endpoint for S3."""
    tables = aws.answer(
        "ec2",
        "describe-vpc-endpoints",
        "--filters",
        f"Name=vpc-id,Values={vpc}",
        f"Name=service-name,Values=com.amazonaws.{aws.region}.s3",
        query="VpcEndpoints[?VpcEndpointType=='Gateway' && State=='available'].RouteTableIds[]",
    )
    return table in (tables or [])


def _check_public(aws: Aws, settings: Settings, addresses: str) -> None:
    """Stop if machines in a public subnet could not reach AWS, or the user could not reach them."""
    if addresses != "True":
        raise Stop(
            f"subnet {settings.SUBNET} has an internet gateway but gives its machines no public "
            "addresses, so they would reach neither S3 nor EMR: aws ec2 modify-subnet-attribute "
            f"--subnet-id {settings.SUBNET} --map-public-ip-on-launch --region {aws.region}; or "
            "use another subnet"
        )
    if any(ipaddress.IPv4Address(settings.MY_IP) in block for block in INSIDE):
        raise Stop(
            f"MY_IP={settings.MY_IP} is an address inside your own network, and AWS sees another "
            "one: use the output of curl -s https://checkip.amazonaws.com"
        )


def make(aws: Aws, settings: Settings, vpc: str, *, public: bool) -> Network:
    """Create the security groups, tag them and the subnet for EMR, and open SSH to one address."""
    aws.say("The tag on the subnet that EMR's role needs.")
    aws.call(
        "ec2", "create-tags", "--resources", settings.SUBNET, "--tags", f"Key={TAG},Value=true"
    )
    aws.say("Security groups. EMR adds the rules between the nodes.")
    needed = GROUPS[:2] if public else GROUPS
    network = Network(*(_group(aws, settings, vpc, part) for part in needed))
    if network.service:
        _open_to_emr(aws, network)
    open_ssh(aws, settings, network.primary)
    return network


def _group(aws: Aws, settings: Settings, vpc: str, part: str) -> str:
    name, variable = f"{settings.cluster_name}-{part}", f"{part.upper()}_GROUP"
    group = _find_group(aws, variable, name, vpc)
    for _ in aws.when(group == "None", f'[ "${variable}" = None ]'):
        group = aws.text(
            variable,
            "ec2",
            "create-security-group",
            "--group-name",
            name,
            "--description",
            f"Pomona on EMR: {part}",
            "--vpc-id",
            vpc,
            "--tag-specifications",
            "ResourceType=security-group,"
            f"Tags=[{{Key={TAG},Value=true}},{{Key=Name,Value={name}}}]",
            query="GroupId",
            makes=f"security group <id> ({name}): free",
        )
    return group


def _open_to_emr(aws: Aws, network: Network) -> None:
    """Admit the primary node's traffic to EMR, the only rule that EMR does not add itself."""
    rules = aws.answer(
        "ec2",
        "describe-security-groups",
        "--group-ids",
        network.service,
        query="SecurityGroups[0].IpPermissions[?FromPort==`9443`].UserIdGroupPairs[].GroupId",
    )
    if network.primary not in (rules or []):
        group = ("--group-id", network.service, "--source-group", network.primary)
        rule = ("--protocol", "tcp", "--port", "9443")
        aws.call("ec2", "authorize-security-group-ingress", *group, *rule)


def open_ssh(aws: Aws, settings: Settings, group: str) -> None:
    """Open port 22 to the user's address, and close it to all others."""
    mine = f"{settings.MY_IP}/32"
    aws.say(f"Port 22 is open to {mine} only; all other ports are closed.")
    addresses = aws.text(
        "SSH_FROM",
        "ec2",
        "describe-security-groups",
        "--group-ids",
        group,
        query="SecurityGroups[0].IpPermissions[?FromPort==`22`].IpRanges[].CidrIp",
    )
    ssh = ("--group-id", group, "--protocol", "tcp", "--port", "22")
    for other in [] if aws.dry_run else addresses.split():
        if other not in (mine, "None"):
            aws.call("ec2", "revoke-security-group-ingress", *ssh, "--cidr", other)
    for _ in aws.when(mine not in addresses.split(), f'[ "$SSH_FROM" != {mine} ]'):
        aws.call("ec2", "authorize-security-group-ingress", *ssh, "--cidr", mine)


def _find_group(aws: Aws, variable: str, name: str, vpc: str) -> str:
    """Return a security group's id, or the text `None` if it does not exist."""
    return aws.text(
        variable,
        "ec2",
        "describe-security-groups",
        "--filters",
        f"Name=group-name,Values={name}",
        f"Name=vpc-id,Values={vpc}",
        query="SecurityGroups[0].GroupId",
    )
