"""Instructions: how to connect to a cluster, and what costs money after it is terminated."""

from __future__ import annotations

from emr.aws import Aws
from emr.network import GROUPS, TAG
from emr.roles import SERVICE_POLICY
from emr.settings import Settings

SOCKS_PORT = 8157
#: From EMR's Management Guide, emr-web-interfaces; the port of HDFS is that of Hadoop 3.
PAGES = (
    ("JupyterHub", "https", 9443),
    ("Spark history", "http", 18080),
    ("YARN", "http", 8088),
    ("Livy", "http", 8998),
    ("HDFS", "http", 9870),
)


def connect(aws: Aws, settings: Settings, cluster: str) -> None:
    """Print how to connect to a cluster."""
    aws.say("How to connect.")
    host = aws.text(
        "PRIMARY",
        *("emr", "describe-cluster", "--cluster-id", cluster),
        query="Cluster.MasterPublicDnsName",
    )
    key = settings.KEY or "KEY"
    lines = [
        f"Cluster {cluster} ({settings.cluster_name}), {settings.RELEASE} in {aws.region}.",
        "",
        "Open a tunnel in a second terminal (it prints nothing and stays open):",
        f"  ssh -i ~/.ssh/{key}.pem -N -D {SOCKS_PORT} hadoop@{host}",
        "",
        "Start a browser that uses it:",
        f"  google-chrome --user-data-dir=/tmp/emr --proxy-server=socks5://127.0.0.1:{SOCKS_PORT} "
        f"https://{host}:9443",
        "  (Firefox: use FoxyProxy with SOCKS5 127.0.0.1, this port, and DNS through the proxy.)",
        "",
        *(f"  {name + ':':15}{scheme}://{host}:{port}" for name, scheme, port in PAGES),
        "",
        "JupyterHub's certificate is self-signed, so the browser warns. Log in as jovyan with the",
        "password jupyter, and change it. Open fruits_on_emr.ipynb (fruits_on_emr.fr.ipynb is its",
        "French version) with the kernel PySpark, and set these paths in its first cells:",
        f'  BUCKET = "{settings.BUCKET}"',
        f'  PHOTOS = "{settings.images_uri}"',
        f'  MODEL = "{settings.model_uri}"',
        f'  RESULTS = "{settings.output_uri}"',
        "",
        f"To run the job:   make emr-run {settings.again}",
        f"To terminate it:  make emr-down {settings.place}",
        f"The cluster terminates itself after {int(settings.IDLE):,} s without work.",
    ]
    aws.page(lines)


def costs(aws: Aws, settings: Settings) -> None:
    """Find what still costs money without the cluster, and print how to remove it."""
    aws.say("What still costs money in this region?")
    lines: list[str] = []
    with aws.allowed_to_fail():
        other = aws.answer("emr", "list-clusters", "--active", query="Clusters[].[Id,Name]") or []
        lines += [f"Cluster {name} ({key}) is running and costs money." for key, name in other]
    with aws.allowed_to_fail():
        tagged = ("--filters", f"Name=tag:{TAG},Values=true")
        disks = aws.answer("ec2", "describe-volumes", *tagged, query="Volumes[].VolumeId") or []
        lines += [
            f"Disk {disk} exists; if no running cluster uses it: aws ec2 delete-volume "
            f"--volume-id {disk} --region {aws.region}"
            for disk in disks
        ]
        if not disks:
            lines.append("No disks are left; AWS deletes them with the cluster.")
    with aws.allowed_to_fail():
        free = "Addresses[?AssociationId==null].[PublicIp,AllocationId]"
        for address, key in aws.answer("ec2", "describe-addresses", query=free) or []:
            lines.append(
                f"Elastic IP {address} is unused and costs money: aws ec2 "
                f"release-address --allocation-id {key} --region {aws.region}"
            )
    with aws.allowed_to_fail():
        available = ("--filter", "Name=state,Values=available")
        gateways = aws.answer(
            "ec2", "describe-nat-gateways", *available, query="NatGateways[].NatGatewayId"
        )
        lines += [f"NAT gateway {key} costs money every hour." for key in gateways or []]
    with aws.allowed_to_fail():
        summary = ("s3", "ls", settings.uri, "--recursive", "--summarize", "--human-readable")
        total = aws.raw(*summary).decode(errors="replace").splitlines()[-2:]
        size = ", ".join(line.strip() for line in total) or "its objects"
        lines.append(f"The content of {settings.uri} costs money: {size}.")
    aws.page(removal(aws, settings) if aws.dry_run else [*lines, "", *removal(aws, settings)])


def removal(aws: Aws, settings: Settings) -> list[str]:
    """Return the commands that remove everything that emr-up creates."""
    nodes, service = settings.nodes_role, settings.service_role
    region = f"--region {aws.region}"
    named = ",".join(f"{settings.cluster_name}-{part}" for part in GROUPS)
    groups = (
        f"$(aws ec2 describe-security-groups --filters Name=group-name,Values={named} "
        f"--query 'SecurityGroups[].GroupId' --output text {region})"
    )
    rules = (
        "$(aws ec2 describe-security-group-rules --filters Name=group-id,Values=$GROUP "
        f"--query 'SecurityGroupRules[?!IsEgress].SecurityGroupRuleId' --output text {region})"
    )
    return [
        "To delete the photos, the results and the bucket, for good:",
        f"  aws s3 rb s3://{settings.BUCKET} --force {region}",
        "To delete the rest, which costs nothing:",
        f"  aws iam remove-role-from-instance-profile --instance-profile-name {nodes} "
        f"--role-name {nodes} {region}",
        f"  aws iam delete-instance-profile --instance-profile-name {nodes} {region}",
        f"  aws iam delete-role-policy --role-name {nodes} --policy-name nodes-access {region}",
        f"  aws iam delete-role --role-name {nodes} {region}",
        f"  aws iam detach-role-policy --role-name {service} "
        f"--policy-arn {SERVICE_POLICY} {region}",
        f"  aws iam delete-role-policy --role-name {service} --policy-name emr-pass-role {region}",
        f"  aws iam delete-role --role-name {service} {region}",
        "The security groups refer to each other, so delete their rules first:",
        f"  for GROUP in {groups}; do aws ec2 revoke-security-group-ingress --group-id $GROUP "
        f"--security-group-rule-ids {rules} {region}; done",
        f"  for GROUP in {groups}; do aws ec2 delete-security-group --group-id $GROUP "
        f"{region}; done",
    ]
