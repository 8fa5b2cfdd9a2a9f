"""The ways into a cluster: which ports are open and to whom, and how to connect."""

from __future__ import annotations

import ipaddress
from typing import Any

from emr.aws import Aws, AwsError, Stop
from emr.settings import Settings
from emr.stack import Stack

#: EMR's own service manages the nodes of a public subnet through this port.
_EMR_PORT = 8443
#: The shortest prefix of an address block that can be EMR's own: never half of the internet.
_EMR_PREFIX = 8
_SOCKS_PORT = 8157
#: From EMR's Management Guide, emr-web-interfaces; the port of HDFS is that of Hadoop 3.
_PAGES = (
    ("Spark history", 18080),
    ("YARN", 8088),
    ("Livy", 8998),
    ("HDFS", 9870),
)


def close_groups(aws: Aws, stack: Stack) -> None:
    """Revoke every rule that lets in more than the template and EMR do, and tell what is open."""
    groups = stack.resources("AWS::EC2::SecurityGroup")
    filters = ("--filters", f"Name=group-id,Values={','.join(groups)}")
    rules = aws(
        *("ec2", "describe-security-group-rules", *filters),
        query="SecurityGroupRules[?!IsEgress]",
    )
    mine = stack.parameters.get("MyAddress", "")
    public = stack.parameters.get("PrivateSubnet") == "no"
    emr = 0
    for rule in rules:
        if (rule.get("ReferencedGroupInfo") or {}).get("GroupId") in groups:
            continue
        if mine and _tcp(rule, 22) and rule.get("CidrIpv4") == f"{mine}/32":
            continue
        if public and _tcp(rule, _EMR_PORT) and _is_emrs(rule.get("CidrIpv4")):
            emr += 1
            continue
        _revoke(aws, rule)
    if mine:
        print(f"  Open from outside: port 22 to {mine} only.")
    else:
        print("  Open from outside: no port to you.")
    if public:
        print(
            f"  And port {_EMR_PORT} to EMR's own service, which manages the cluster through it: "
            f"in a public subnet, EMR adds these rules itself, at the start ({emr} blocks now)."
        )


def _tcp(rule: dict[str, Any], port: int) -> bool:
    return [rule["IpProtocol"], rule["FromPort"], rule["ToPort"]] == ["tcp", port, port]


def _is_emrs(block: str | None) -> bool:
    return block is not None and ipaddress.IPv4Network(block).prefixlen >= _EMR_PREFIX


def _revoke(aws: Aws, rule: dict[str, Any]) -> None:
    ports = {-1: "all ports"}.get(rule["FromPort"], f"ports {rule['FromPort']}-{rule['ToPort']}")
    source = (
        rule.get("CidrIpv4")
        or rule.get("CidrIpv6")
        or rule.get("PrefixListId")
        or (rule.get("ReferencedGroupInfo") or {}).get("GroupId", "an unknown source")
    )
    opening = f"{ports} ({rule['IpProtocol']}) from {source} into {rule['GroupId']}"
    words = ["ec2", "revoke-security-group-ingress", "--group-id", rule["GroupId"]]
    words += ["--security-group-rule-ids", rule["SecurityGroupRuleId"]]
    try:
        aws(*words)
    except Stop as error:
        raise Stop(
            f"the cluster is open to {opening}, and this rule cannot be revoked ({error}): "
            f"aws {' '.join(words)} --region {aws.region}"
        ) from error
    print(f"  Closed: {opening}. The template has no such rule.", flush=True)


def connect(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Print how to connect to the cluster, and where everything is."""
    cluster, region = stack.outputs["ClusterId"], f"--region {aws.region}"
    try:
        found = aws("emr", "describe-cluster", "--cluster-id", cluster, query="Cluster")
    except AwsError as error:
        print(f"  The cluster's address is unknown: {error}")
        found = {}
    host = found.get("MasterPublicDnsName") or "PRIMARY-NODE"
    jupyter = "and open https://localhost:9443 in your browser."
    if stack.parameters["SessionManager"] == "yes":
        lines = [
            "Forward JupyterHub's port in a second terminal; this needs the Session Manager plugin",
            "of the AWS CLI, and neither a key nor an open port:",
            "  aws ssm start-session --document-name AWS-StartPortForwardingSession --parameters "
            f"portNumber=9443,localPortNumber=9443 {region} --target $(aws emr list-instances "
            f"--cluster-id {cluster} --instance-fleet-type MASTER --query "
            f"'Instances[0].Ec2InstanceId' --output text {region})",
            jupyter,
            "In the same way: " + ", ".join(f"{port} ({name})" for name, port in _PAGES) + ".",
        ]
    else:
        ssh = f"  ssh -i ~/.ssh/{stack.parameters['KeyPair']}.pem -N"
        lines = [
            "Open a tunnel to JupyterHub in a second terminal (it prints nothing and stays open):",
            f"{ssh} -L 9443:{host}:9443 hadoop@{host}",
            jupyter,
            f"For all pages, use a SOCKS proxy, 127.0.0.1:{_SOCKS_PORT}:",
            f"{ssh} -D {_SOCKS_PORT} hadoop@{host}",
            "  google-chrome --user-data-dir=/tmp/emr "
            f"--proxy-server=socks5://127.0.0.1:{_SOCKS_PORT} https://{host}:9443",
            *(f"  {name + ':':15}http://{host}:{port}" for name, port in _PAGES),
        ]
    lines += [
        "",
        "JupyterHub's certificate is self-signed, so the browser warns. Log in as jovyan with the",
        "password jupyter, and change it. Open fruits_on_emr.ipynb (fruits_on_emr.fr.ipynb is its",
        "French version) with the kernel PySpark. Its session's memory and its paths are filled",
        "in for this cluster.",
        "",
        f"Notebooks:    {settings.uri}/jupyter/jovyan",
        f"Results:      {settings.output_uri}",
        f"Run the job:  make emr-run {settings.again}",
        f"The end:      make emr-down {settings.place}",
        f"The cluster costs money until then. It ends itself after "
        f"{int(stack.parameters['IdleSeconds']):,} s without work.",
    ]
    release = stack.parameters["Release"]
    print(f"\nCluster {cluster} ({stack.name}), {release} in {aws.region}.\n")
    print("\n".join(lines), flush=True)
