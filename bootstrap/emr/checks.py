"""Checks of the AWS account, made before anything is created."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from emr.aws import Aws, AwsError, Stop, say
from emr.settings import NEWEST_RELEASE, Settings

#: Private networks, whose addresses AWS does not see.
_INSIDE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")


def account(aws: Aws, settings: Settings) -> dict[str, str]:
    """Return the template's parameters that AWS knows; Stop if a cluster could not start."""
    release, key, region = settings.RELEASE, settings.KEY, f"--region {aws.region}"
    words = ("emr", "list-release-labels", "--filters", f"Prefix={release}")
    if release not in (aws(*words, query="ReleaseLabels") or []):
        raise Stop(f"""AWS does not offer {release} in {aws.region}: it does not exist or was
            withdrawn. Use another, such as RELEASE={NEWEST_RELEASE} or RELEASE=emr-6.15.0 (the last
            with Python 3.7); to list them: aws emr list-release-labels {region}""")
    words = ("ec2", "describe-key-pairs", "--key-names", key)
    if key and aws(*words, query="KeyPairs", absent="InvalidKeyPair.NotFound") is None:
        raise Stop(f"""{aws.region} has no key pair {key} (give its name, not its file; every region
            has its own); to create it: aws ec2 create-key-pair --key-name {key} --query KeyMaterial
            --output text {region} > ~/.ssh/{key}.pem && chmod 400 ~/.ssh/{key}.pem""")
    return {**_check_subnet(aws, settings), **check_bucket(aws, settings)}


def _check_subnet(aws: Aws, settings: Settings) -> dict[str, str]:
    subnet, region = settings.SUBNET, f"--region {aws.region}"
    words = ("ec2", "describe-subnets", "--subnet-ids", subnet)
    found = aws(*words, query="Subnets[0]", absent="InvalidSubnetI")
    if found is None:
        raise Stop(f"""{aws.region} has no subnet {subnet}; to list yours: aws ec2 describe-subnets
            {region} --query 'Subnets[].[SubnetId,VpcId,AvailabilityZone]'""")
    vpc = found["VpcId"]
    for attribute, option in (("DnsSupport", "dns-support"), ("DnsHostnames", "dns-hostnames")):
        asked = ("describe-vpc-attribute", "--vpc-id", vpc, "--attribute", f"enable{attribute}")
        if not aws("ec2", *asked, query=f"Enable{attribute}.Value"):
            raise Stop(f"""the network {vpc} has enable{attribute} off, and EMR needs it for the
                names of the nodes: aws ec2 modify-vpc-attribute --vpc-id {vpc} --enable-{option}
                {region}; or use a subnet of another network""")
    query = "RouteTables[0].{id: RouteTableId, outward: Routes[?"
    query += "DestinationCidrBlock=='0.0.0.0/0' && State!='blackhole']}"
    # The subnet's own table, or else the main one of the network.
    for of in (f"association.subnet-id,Values={subnet}", "association.main,Values=true"):
        filters = (f"Name={of}", f"Name=vpc-id,Values={vpc}")
        table = aws("ec2", "describe-route-tables", "--filters", *filters, query=query)
        if table:
            break
    outward = [route.get("GatewayId", "") for route in table["outward"]]
    public = any(gateway.startswith("igw-") for gateway in outward)
    if public and not found["MapPublicIpOnLaunch"]:
        raise Stop(f"""subnet {subnet} has an internet gateway but gives its machines no public
            addresses, so they would reach neither S3 nor EMR: aws ec2 modify-subnet-attribute
            --subnet-id {subnet} --map-public-ip-on-launch {region}; or use another subnet""")
    mine = settings.MY_IP
    if public and mine and any(IPv4Address(mine) in IPv4Network(block) for block in _INSIDE):
        raise Stop(f"""MY_IP={settings.MY_IP} is an address inside your own network, and AWS sees
            another one: use the output of curl -s https://checkip.amazonaws.com""")
    s3 = f"com.amazonaws.{aws.region}.s3"
    filters = (f"Name=vpc-id,Values={vpc}", f"Name=service-name,Values={s3}")
    query = "VpcEndpoints[?VpcEndpointType=='Gateway' && State=='available'].RouteTableIds[]"
    words = ("describe-vpc-endpoints", "--filters", *filters)
    if not outward and table["id"] not in (aws("ec2", *words, query=query) or []):
        raise Stop(f"""subnet {subnet} has no route to S3, so its nodes could not download anything:
            add a gateway endpoint to its route table, which is free: aws ec2 create-vpc-endpoint
            --vpc-id {vpc} --service-name {s3} --route-table-ids {table["id"]} {region};
            or use a subnet with an internet gateway or a NAT""")
    if settings.SSM and not outward:
        say(f"""  Session Manager reaches nodes in {subnet} only if {vpc} has interface endpoints
            for com.amazonaws.{aws.region}.ssm, ssmmessages and ec2messages, which cost money""")
    return {"Vpc": vpc, "PrivateSubnet": "no" if public else "yes"}


def check_bucket(aws: Aws, settings: Settings) -> dict[str, str]:
    """Return the template's parameters of the bucket; Stop if the cluster could not use it."""
    name, owner = settings.BUCKET, aws("sts", "get-caller-identity", query="Account")
    ours = ("--bucket", name, "--expected-bucket-owner", owner)
    try:
        if aws("s3api", "head-bucket", *ours, absent="404|NoSuchBucket") is None:
            return {"NewBucket": "yes", "KmsKey": ""}
    except AwsError as error:
        if error.code not in ("301", "400", "403"):
            raise
        raise Stop(f"""the bucket {name} belongs to someone else, or your AWS user may not access it
            ({error.code}): bucket names are unique across AWS; choose another, such as
            BUCKET={name}-2""") from error
    # S3 has no name for its first region.
    region = aws("s3api", "get-bucket-location", *ours, query="LocationConstraint") or "us-east-1"
    if region != aws.region:
        raise Stop(f"""the bucket {name} is in {region} and the cluster would be in {aws.region}:
            use another bucket, or REGION={region}""")
    block = "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true"
    block = f"--public-access-block-configuration={block},RestrictPublicBuckets=true"
    words = ("s3api", "get-public-access-block", *ours)
    query, absent = "PublicAccessBlockConfiguration", "NoSuchPublicAccessBlockConfiguration"
    blocked = aws(*words, query=query, absent=absent)
    if blocked is None:
        aws.raw("s3api", "put-public-access-block", *ours, block)
    elif not all(blocked.values()):
        raise Stop(f"""the bucket {name} allows public access: use another, or block it: aws s3api
            put-public-access-block --bucket {name} {block} --region {aws.region}""")
    query = "ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault"
    absent = "ServerSideEncryptionConfigurationNotFoundError"
    words = ("s3api", "get-bucket-encryption", *ours)
    key = aws(*words, query=f"{query}.KMSMasterKeyID", absent=absent)
    if not key:
        return {"NewBucket": "no", "KmsKey": ""}
    instead = f"encrypt {name} with another key, or use another bucket"
    place = key.split(":")
    if place[0] == "arn" and place[3:5] != [aws.region, owner]:
        raise Stop(f"""the key {key} of the bucket {name} is of account {place[4]} in {place[3]}, so
            this stack cannot let the nodes use it: {instead}""")
    found = aws("kms", "describe-key", "--key-id", key, query="KeyMetadata")
    if found["KeyState"] != "Enabled":
        raise Stop(f"""the key {found["Arn"]} of the bucket {name} is {found["KeyState"]}, so
            nothing in the bucket can be read: enable it (aws kms enable-key --key-id
            {found["KeyId"]} --region {aws.region}), or {instead}""")
    # Whoever may use the bucket may use AWS's own key for it.
    return {"NewBucket": "no", "KmsKey": "" if found.get("KeyManager") == "AWS" else found["Arn"]}
