"""The IAM roles: one for the nodes, limited to one bucket, and one for EMR itself."""

from __future__ import annotations

from emr.aws import Aws
from emr.files import filled_policy
from emr.settings import Settings

#: AWS's own policy for EMR. It applies only to resources with the tag emr.network.TAG.
SERVICE_POLICY = "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"

_MISSING = ("NoSuchEntity",)


def make(aws: Aws, settings: Settings, account: str) -> None:
    """Create a role for the nodes, limited to this bucket, and one for EMR itself."""
    values = {
        "BUCKET": settings.BUCKET,
        "ACCOUNT": account,
        "REGION": aws.region,
        "NODES_ROLE": settings.nodes_role,
    }
    nodes, service = settings.nodes_role, settings.service_role
    aws.say(f"The nodes' role, limited to {settings.uri}.")
    _make_one(aws, nodes, "nodes-trust", values)
    _put_policy(aws, nodes, "nodes-access", values)
    named = ("--instance-profile-name", nodes)
    for _ in aws.unless("iam", "get-instance-profile", *named, codes=_MISSING):
        makes = f"instance profile {nodes}: free"
        aws.call("iam", "create-instance-profile", *named, makes=makes)
    role = aws.text(
        "PROFILE_ROLE",
        "iam",
        "get-instance-profile",
        *named,
        query="InstanceProfile.Roles[0].RoleName",
    )
    for _ in aws.when(role == "None", '[ "$PROFILE_ROLE" = None ]'):
        aws.call("iam", "add-role-to-instance-profile", *named, "--role-name", nodes)

    aws.say("EMR's own role: AWS's scoped policy, and permission to pass the nodes' role.")
    _make_one(aws, service, "emr-trust", values)
    aws.call("iam", "attach-role-policy", "--role-name", service, "--policy-arn", SERVICE_POLICY)
    _put_policy(aws, service, "emr-pass-role", values)
    if int(settings.TASKS):
        aws.say("The role for spot instances, which an account gets with its first spot request.")
        spot = ("iam", "get-role", "--role-name", "AWSServiceRoleForEC2Spot")
        for _ in aws.unless(*spot, codes=_MISSING):
            aws.call(
                "iam", "create-service-linked-role", "--aws-service-name", "spot.amazonaws.com"
            )
    aws.call("iam", "wait", "instance-profile-exists", *named)
    aws.call("iam", "wait", "role-exists", "--role-name", service)


def _make_one(aws: Aws, role: str, trust: str, values: dict[str, str]) -> None:
    path = filled_policy(aws, trust, values)
    for _ in aws.unless("iam", "get-role", "--role-name", role, codes=_MISSING):
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
    path = filled_policy(aws, policy, values)
    named = ("--role-name", role, "--policy-name", policy)
    aws.call("iam", "put-role-policy", *named, "--policy-document", f"file://{path}")
