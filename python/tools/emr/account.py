"""What a cluster needs in the account: a bucket with the files, roles, security groups."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, NamedTuple

from emr.aws import FILLED, Aws
from emr.errors import AwsError, Stop
from emr.settings import INSIDE, Settings

ROOT = Path(__file__).resolve().parents[3]
BOOTSTRAP = ROOT / "bootstrap"
NOTEBOOK = ROOT / "notebooks" / "fruits_on_emr.ipynb"

SCRIPT = "bootstrap-emr.sh"
JOB = "pomona_job.py"
#: AWS's policy for EMR itself works on what carries this tag, and on nothing else.
SERVICE_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"
TAG = "for-use-with-amazon-emr-managed-policies"
#: The security groups' names end in these; the last is for a private subnet only.
GROUPS = ("primary", "core", "service")
#: Days after which S3 drops the parts of an upload that a killed executor has left.
UNFINISHED_DAYS = 2

_MISSING_ROLE = ("NoSuchEntity",)
_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


class Network(NamedTuple):
    """The security groups of a cluster in a subnet."""

    primary: str
    core: str
    #: Only where the subnet has no way in from the internet: for EMR's own calls to the cluster.
    service: str = ""


def identity(aws: Aws) -> str:
    """Return the account's number; Stop where there are no credentials."""
    aws.say("Who is asking.")
    return aws.text("ACCOUNT", "sts", "get-caller-identity", query="Account")


def check_files(settings: Settings) -> None:
    """Stop where something that is to be uploaded is not there."""
    if not (settings.wheelhouse / "SHA256SUMS").is_file():
        raise Stop(
            f"there is no wheelhouse in {settings.wheelhouse}: "
            f"make wheelhouse EMR={settings.RELEASE[len('emr-') :]}"
        )
    if not settings.model_file.is_file():
        raise Stop(
            f"there is no model {settings.model_file}: pomona model pull {settings.MODEL}, or take "
            "another: MODEL=efficientnet_lite0, MODEL=path/to/model.onnx"
        )
    photos = settings.local_photos
    if photos is not None and not photos.is_dir():
        raise Stop(
            f"IMAGES={settings.IMAGES} is not a folder of this machine; give one, or photos that "
            f"are on S3 already: IMAGES={settings.uri}/Test"
        )
    for path in (BOOTSTRAP / SCRIPT, BOOTSTRAP / JOB, NOTEBOOK):
        if not path.is_file():
            raise Stop(f"{path} is missing: is this the whole repository?")


def check_release(aws: Aws, settings: Settings) -> None:
    """Stop where AWS no longer offers the release."""
    aws.say(f"{settings.RELEASE} must still be offered, or nothing is made.")
    wanted = f"Prefix={settings.RELEASE}"
    labels = aws.answer("emr", "list-release-labels", "--filters", wanted, query="ReleaseLabels")
    if not aws.dry_run and settings.RELEASE not in (labels or []):
        raise Stop(
            f"AWS does not offer {settings.RELEASE} in {aws.region}: it never was, or has been "
            "withdrawn. Take another, such as RELEASE=emr-6.15.0 (the last with Python 3.7) or a "
            f"7.x; what is offered: aws emr list-release-labels --region {aws.region}"
        )


def check_key(aws: Aws, settings: Settings) -> None:
    """Stop where the key pair is not in the region."""
    aws.say(f"The key pair {settings.KEY}, for SSH.")
    try:
        aws.answer(
            "ec2", "describe-key-pairs", "--key-names", settings.KEY, query="KeyPairs[].KeyName"
        )
    except AwsError as error:
        if error.code != "InvalidKeyPair.NotFound":
            raise
        raise Stop(
            f"there is no key pair {settings.KEY} in {aws.region} (give its name, not its file; "
            "each region has its own): aws ec2 create-key-pair --key-name "
            f"{settings.KEY} --query KeyMaterial --output text --region {aws.region} "
            f"> ~/.ssh/{settings.KEY}.pem && chmod 400 ~/.ssh/{settings.KEY}.pem"
        ) from error


def check_subnet(aws: Aws, settings: Settings) -> tuple[str, bool]:
    """Return the subnet's VPC and whether it is public; Stop where S3 is out of reach."""
    subnet = settings.SUBNET
    aws.say(f"The subnet {subnet}, and its way to S3.")
    try:
        vpc = aws.text(
            "VPC", "ec2", "describe-subnets", "--subnet-ids", subnet, query="Subnets[0].VpcId"
        )
    except AwsError as error:
        if not error.code.startswith("InvalidSubnetI"):
            raise
        raise Stop(
            f"there is no subnet {subnet} in {aws.region}; list yours: aws ec2 describe-subnets "
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
        aws.remark("One of its routes must lead to an internet gateway, a NAT or an S3 endpoint; a")
        aws.remark("gateway is of use to machines with public addresses only.")
        aws.remark("This script takes the subnet for a public one; a private one gets a third")
        aws.remark("security group, for EMR's own calls (port 9443).")
        return vpc, True
    routes = [route for route in table["Routes"] if route.get("State") != "blackhole"]
    outward = [route for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
    public = any(route.get("GatewayId", "").startswith("igw-") for route in outward)
    if public:
        _check_public(aws, settings, addresses)
    elif not outward and not _s3_endpoint(aws, vpc, table["RouteTableId"]):
        raise Stop(
            f"subnet {subnet} has no route to S3, so its nodes could fetch nothing: give its route "
            f"table a gateway endpoint, which costs nothing: aws ec2 create-vpc-endpoint --vpc-id "
            f"{vpc} --service-name com.amazonaws.{aws.region}.s3 --route-table-ids "
            f"{table['RouteTableId']} --region {aws.region}; or take a subnet with an internet "
            "gateway or a NAT"
        )
    return vpc, public


def _route_table(aws: Aws, subnet: str, vpc: str) -> dict[str, Any]:
    """Return the table that holds for a subnet: its own, or its VPC's main one."""
    find = ["ec2", "describe-route-tables", "--filters"]
    fields = "RouteTables[0].{RouteTableId: RouteTableId, Routes: Routes}"
    own = aws.answer(*find, f"Name=association.subnet-id,Values={subnet}", query=fields)
    if own and own["RouteTableId"]:
        return dict(own)
    if aws.dry_run:
        aws.remark("Without one of its own, its VPC's main one holds:")
    main = ("Name=association.main,Values=true", f"Name=vpc-id,Values={vpc}")
    return dict(aws.answer(*find, *main, query=fields) or {"RouteTableId": "", "Routes": []})


def _s3_endpoint(aws: Aws, vpc: str, table: str) -> bool:
    """Whether a table leads to S3 through a gateway endpoint."""
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
    """Stop where a public subnet's machines would not reach AWS, or the user not them."""
    if addresses != "True":
        raise Stop(
            f"subnet {settings.SUBNET} has an internet gateway but gives its machines no public "
            "addresses, so they would reach neither S3 nor EMR: aws ec2 modify-subnet-attribute "
            f"--subnet-id {settings.SUBNET} --map-public-ip-on-launch --region {aws.region}; or "
            "take another subnet"
        )
    if any(ipaddress.IPv4Address(settings.MY_IP) in block for block in INSIDE):
        raise Stop(
            f"MY_IP={settings.MY_IP} is an address inside your own network, and AWS sees another: "
            "take what this prints: curl -s https://checkip.amazonaws.com"
        )


def make_bucket(aws: Aws, settings: Settings, account: str) -> None:
    """Make the bucket where it is missing, and see to it that it is private and encrypted."""
    bucket = settings.BUCKET
    aws.say(f"The bucket {bucket}: private, encrypted, in {aws.region}.")
    ours = ("--bucket", bucket, "--expected-bucket-owner", account)
    try:
        for _ in aws.unless("s3api", "head-bucket", *ours, codes=("404", "NoSuchBucket")):
            _create_bucket(aws, bucket)
    except AwsError as error:
        if error.code not in ("301", "400", "403", "BucketAlreadyExists"):
            raise
        raise Stop(
            f"the bucket {bucket} belongs to someone else, or your AWS user may not look at it "
            f"({error.code}): names are shared by all of AWS; take another, such as "
            f"BUCKET={bucket}-2"
        ) from error
    where = aws.text(
        "BUCKET_REGION", "s3api", "get-bucket-location", *ours, query="LocationConstraint"
    )
    # S3 has no name for its first region.
    where = "us-east-1" if where == "None" else where
    if not aws.dry_run and where != aws.region:
        raise Stop(
            f"the bucket {bucket} is in {where} and the cluster would be in {aws.region}: take "
            f"another bucket, or REGION={where}"
        )
    _block_public_access(aws, ours)
    encryption = {
        "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}],
    }
    unencrypted = ("ServerSideEncryptionConfigurationNotFoundError",)
    for _ in aws.unless("s3api", "get-bucket-encryption", *ours, codes=unencrypted):
        aws.call(
            "s3api",
            "put-bucket-encryption",
            *ours,
            "--server-side-encryption-configuration",
            json.dumps(encryption),
        )
    lifecycle = {
        "Rules": [
            {
                "ID": "drop-unfinished-uploads",
                "Status": "Enabled",
                "Filter": {"Prefix": ""},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_DAYS},
            }
        ],
    }
    # To put one is to lose all that are there: those of a bucket with rules are left alone.
    get_rules = ("s3api", "get-bucket-lifecycle-configuration", *ours)
    for _ in aws.unless(*get_rules, codes=("NoSuchLifecycleConfiguration",)):
        aws.call(
            "s3api",
            "put-bucket-lifecycle-configuration",
            *ours,
            "--lifecycle-configuration",
            json.dumps(lifecycle),
        )


def _create_bucket(aws: Aws, bucket: str) -> None:
    # S3 takes every region's name here but that of its first.
    place = ["--create-bucket-configuration", f"LocationConstraint={aws.region}"]
    if aws.region == "us-east-1":
        place = []
    makes = f"bucket {bucket}: S3 takes money for what is in it (aws s3 rb s3://{bucket} --force)"
    aws.call("s3api", "create-bucket", "--bucket", bucket, *place, makes=makes)


def _block_public_access(aws: Aws, ours: tuple[str, ...]) -> None:
    block = ",".join(f"{name}=true" for name in _BLOCKED)
    put = ("s3api", "put-public-access-block", *ours, "--public-access-block-configuration", block)
    get = ("s3api", "get-public-access-block", *ours)
    for _ in aws.unless(*get, codes=("NoSuchPublicAccessBlockConfiguration",)):
        aws.call(*put)
    found = aws.answer(*get, query="PublicAccessBlockConfiguration")
    if found is not None and not all(found.get(name) for name in _BLOCKED):
        raise Stop(
            f"the bucket {ours[1]} is open to the public, or may be opened: take another, or shut "
            f"it: aws {' '.join(put)} --region {aws.region}"
        )


def upload(aws: Aws, settings: Settings) -> None:
    """Put onto S3 what the nodes, the job and the notebook need."""
    aws.say("What the nodes and the job need.")
    quiet = "--only-show-errors"
    aws.call("s3", "sync", str(settings.wheelhouse), settings.wheelhouse_uri, "--delete", quiet)
    aws.call("s3", "cp", str(settings.model_file), settings.model_uri, quiet)
    for name in (SCRIPT, JOB):
        aws.call("s3", "cp", f"bootstrap/{name}", f"{settings.uri}/{name}", quiet)
    aws.call("s3", "cp", str(FILLED / "emr.json"), f"{settings.uri}/emr.json", quiet)
    # JupyterHub keeps what its user has made of the notebook under the same key.
    key = f"jupyter/jovyan/{NOTEBOOK.name}"
    there = ("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key)
    for _ in aws.unless(*there, codes=("404", "NoSuchKey")):
        aws.call("s3", "cp", f"notebooks/{NOTEBOOK.name}", f"{settings.uri}/{key}", quiet)
    if settings.local_photos is not None:
        aws.call("s3", "sync", str(settings.local_photos), settings.images_uri, quiet)


def make_roles(aws: Aws, settings: Settings, account: str) -> None:
    """Make a role for the nodes, for this bucket only, and one for EMR itself."""
    values = {
        "BUCKET": settings.BUCKET,
        "ACCOUNT": account,
        "REGION": aws.region,
        "NODES_ROLE": settings.nodes_role,
    }
    nodes, service = settings.nodes_role, settings.service_role
    aws.say(f"The nodes' role: {settings.uri} and nothing else.")
    _make_role(aws, nodes, "nodes-trust", values)
    _put_policy(aws, nodes, "nodes-access", values)
    named = ("--instance-profile-name", nodes)
    for _ in aws.unless("iam", "get-instance-profile", *named, codes=_MISSING_ROLE):
        makes = f"instance profile {nodes}: free"
        aws.call("iam", "create-instance-profile", *named, makes=makes)
    holds = aws.text(
        "PROFILE_ROLE",
        "iam",
        "get-instance-profile",
        *named,
        query="InstanceProfile.Roles[0].RoleName",
    )
    for _ in aws.when(holds == "None", '[ "$PROFILE_ROLE" = None ]'):
        aws.call("iam", "add-role-to-instance-profile", *named, "--role-name", nodes)

    aws.say("EMR's own role: AWS's scoped policy, and the right to give the nodes theirs.")
    _make_role(aws, service, "emr-trust", values)
    aws.call("iam", "attach-role-policy", "--role-name", service, "--policy-arn", SERVICE_POLICY)
    _put_policy(aws, service, "emr-pass-role", values)
    if int(settings.TASKS):
        aws.say("The spot market's role, which an account has from its first spot request on.")
        spot = ("iam", "get-role", "--role-name", "AWSServiceRoleForEC2Spot")
        for _ in aws.unless(*spot, codes=_MISSING_ROLE):
            aws.call(
                "iam", "create-service-linked-role", "--aws-service-name", "spot.amazonaws.com"
            )
    aws.call("iam", "wait", "instance-profile-exists", *named)
    aws.call("iam", "wait", "role-exists", "--role-name", service)


def _make_role(aws: Aws, role: str, trust: str, values: dict[str, str]) -> None:
    path = _filled(aws, trust, values)
    for _ in aws.unless("iam", "get-role", "--role-name", role, codes=_MISSING_ROLE):
        aws.call(
            "iam",
            "create-role",
            "--role-name",
            role,
            "--assume-role-policy-document",
            f"file://{path}",
            makes=f"role {role}: free",
        )


def _put_policy(aws: Aws, role: str, policy: str, values: dict[str, str]) -> None:
    path = _filled(aws, policy, values)
    named = ("--role-name", role, "--policy-name", policy)
    aws.call("iam", "put-role-policy", *named, "--policy-document", f"file://{path}")


def _filled(aws: Aws, policy: str, values: dict[str, str]) -> Path:
    """Write a policy with its placeholders filled, and return its path."""
    text = (BOOTSTRAP / "policies" / f"{policy}.json").read_text(encoding="utf-8")
    path = FILLED / f"{policy}.json"
    aws.write(path, fill(text, values))
    return path


def fill(text: str, values: dict[str, str]) -> str:
    """Put values in the place of `${NAME}`."""
    for name, value in values.items():
        text = text.replace("${%s}" % name, value)  # noqa: UP031 - braces would have to be doubled
    return text


def make_network(aws: Aws, settings: Settings, vpc: str, *, public: bool) -> Network:
    """Make the security groups, tag them and the subnet for EMR, and open SSH to one address."""
    aws.say("The subnet carries the tag that EMR's role needs.")
    aws.call(
        "ec2", "create-tags", "--resources", settings.SUBNET, "--tags", f"Key={TAG},Value=true"
    )
    aws.say("Security groups: EMR itself adds the rules between the nodes.")
    needed = GROUPS[:2] if public else GROUPS
    network = Network(*(_group(aws, settings, vpc, part) for part in needed))
    if network.service:
        _open_to_emr(aws, network)
    open_ssh(aws, settings, network.primary)
    return network


def _group(aws: Aws, settings: Settings, vpc: str, part: str) -> str:
    name, variable = f"{settings.cluster_name}-{part}", f"{part.upper()}_GROUP"
    found = find_group(aws, variable, name, vpc)
    made = found
    for _ in aws.when(found == "None", f'[ "${variable}" = None ]'):
        made = aws.text(
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
    return made


def find_group(aws: Aws, variable: str, name: str, vpc: str) -> str:
    """Return a security group's id; `None` as text where there is none."""
    return aws.text(
        variable,
        "ec2",
        "describe-security-groups",
        "--filters",
        f"Name=group-name,Values={name}",
        f"Name=vpc-id,Values={vpc}",
        query="SecurityGroups[0].GroupId",
    )


def _open_to_emr(aws: Aws, network: Network) -> None:
    """Let the primary node answer EMR, the one rule that EMR does not add by itself."""
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
    """Open port 22 to the user's address, and shut it to any other."""
    mine = f"{settings.MY_IP}/32"
    aws.say(f"Port 22 is open to {mine} and to nobody else; every other port is shut.")
    found = aws.text(
        "SSH_FROM",
        "ec2",
        "describe-security-groups",
        "--group-ids",
        group,
        query="SecurityGroups[0].IpPermissions[?FromPort==`22`].IpRanges[].CidrIp",
    )
    ssh = ("--group-id", group, "--protocol", "tcp", "--port", "22")
    for other in [] if aws.dry_run else found.split():
        if other not in (mine, "None"):
            aws.call("ec2", "revoke-security-group-ingress", *ssh, "--cidr", other)
    for _ in aws.when(mine not in found.split(), f'[ "$SSH_FROM" != {mine} ]'):
        aws.call("ec2", "authorize-security-group-ingress", *ssh, "--cidr", mine)
