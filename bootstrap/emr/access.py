"""The ways into a cluster: which ports are open and to whom, and how to connect."""

from __future__ import annotations

import ipaddress

from emr.aws import Aws, Stop, say
from emr.settings import Settings
from emr.stack import Stack

#: EMR's own service manages the nodes of a public subnet through this port.
_EMR_PORT = 8443
#: What is read of a rule.
_RULE = (
    "{id: SecurityGroupRuleId, group: GroupId, protocol: IpProtocol, first: FromPort, last: ToPort,"
    " block: CidrIpv4, source: CidrIpv4 || CidrIpv6 || PrefixListId || ReferencedGroupInfo.GroupId}"
)
#: The shortest prefix of an address block that can be EMR's own: never half of the internet.
_EMR_PREFIX = 8
_BY_SSM = """
Forward JupyterHub's port in a second terminal; this needs the Session Manager plugin
of the AWS CLI, and neither a key nor an open port:
  aws ssm start-session --document-name AWS-StartPortForwardingSession --parameters \
portNumber=9443,localPortNumber=9443 --region {settings.REGION} --target $(aws emr list-instances \
--cluster-id {stack.outputs[ClusterId]} --instance-fleet-type MASTER --query \
'Instances[0].Ec2InstanceId' --output text --region {settings.REGION})
and open https://localhost:9443 in your browser. In the same way: 18080 (Spark history),
8088 (YARN), 8998 (Livy) and 9870 (HDFS).
"""
_BY_SSH = """
Open a tunnel to JupyterHub in a second terminal (it prints nothing and stays open):
  ssh -i ~/.ssh/{stack.parameters[KeyPair]}.pem -N -L 9443:{host}:9443 hadoop@{host}
and open https://localhost:9443 in your browser.
For all pages, use a SOCKS proxy, 127.0.0.1:8157:
  ssh -i ~/.ssh/{stack.parameters[KeyPair]}.pem -N -D 8157 hadoop@{host}
  google-chrome --user-data-dir=/tmp/emr --proxy-server=socks5://127.0.0.1:8157 https://{host}:9443
  Spark history: http://{host}:18080   YARN: http://{host}:8088
  Livy:          http://{host}:8998    HDFS: http://{host}:9870
"""
_WHAT = """
JupyterHub's certificate is self-signed, so the browser warns. Log in as jovyan with the
password jupyter, and change it. Open fruits_on_emr.ipynb (fruits_on_emr.fr.ipynb is its
French version) with the kernel PySpark. Its session's memory and its paths are filled
in for this cluster.

Notebooks:    {settings.uri}/jupyter/jovyan
Results:      {settings.output_uri}
Run the job:  make emr-run {settings.again}
The end:      make emr-down {settings.place}
The cluster costs money until then. It ends itself after {stack.parameters[IdleSeconds]} s without \
work."""


def close_groups(aws: Aws, stack: Stack) -> None:
    """Revoke every rule that lets in more than the template and EMR do, and tell what is open."""
    query = "StackResources[?ResourceType=='AWS::EC2::SecurityGroup'].PhysicalResourceId"
    groups = stack.call("describe-stack-resources", query=query)
    mine = stack.parameters.get("MyAddress", "")
    public = stack.parameters.get("PrivateSubnet") == "no"
    emr, is_open = 0, not mine
    filters = ("--filters", f"Name=group-id,Values={','.join(groups)}")
    query = f"SecurityGroupRules[?!IsEgress].{_RULE}"
    for rule in aws("ec2", "describe-security-group-rules", *filters, query=query):
        ports, source = (rule["protocol"], rule["first"], rule["last"]), rule["source"]
        if source in groups:
            continue
        if ports == ("tcp", 22, 22) and source == f"{mine}/32":
            is_open = True
            continue
        prefix = ipaddress.IPv4Network(rule["block"] or "0.0.0.0/0").prefixlen
        if public and ports == ("tcp", _EMR_PORT, _EMR_PORT) and prefix >= _EMR_PREFIX:
            emr += 1
            continue
        opened = "all ports" if rule["first"] == -1 else f"ports {rule['first']}-{rule['last']}"
        opening = f"{opened} ({rule['protocol']}) from {source} into {rule['group']}"
        words = ("--group-id", rule["group"], "--security-group-rule-ids", rule["id"])
        try:
            aws("ec2", "revoke-security-group-ingress", *words)
        except Stop as error:
            raise Stop(f"""the cluster is open to {opening}, and this rule cannot be revoked
                ({error}): aws ec2 revoke-security-group-ingress {" ".join(words)} --region
                {aws.region}""") from error
        say(f"  Closed: {opening}. The template has no such rule.")
    if not is_open:
        # CloudFormation does not notice that someone has removed a rule of the stack.
        ssh = ("--protocol", "tcp", "--port", "22", "--cidr", f"{mine}/32")
        group = ("--group-id", stack.outputs["PrimaryGroup"])
        aws("ec2", "authorize-security-group-ingress", *group, *ssh)
    say(f"  Open from outside: {f'port 22 to {mine} only' if mine else 'no port to you'}.")
    if public:
        say(f"""  And port {_EMR_PORT} to EMR's own service, which manages the cluster through it:
            in a public subnet, EMR adds these rules itself, at the start ({emr} blocks now).""")


def connect(aws: Aws, settings: Settings, stack: Stack) -> None:
    """Tell what is open, how to connect to the cluster, and where everything is."""
    close_groups(aws, stack)
    cluster, has = stack.outputs["ClusterId"], stack.parameters
    words = ("emr", "describe-cluster", "--cluster-id", cluster)
    host = aws(*words, query="Cluster.MasterPublicDnsName", absent=".") or "PRIMARY-NODE"
    if host == "PRIMARY-NODE":
        say("  The cluster's address is unknown: EMR's console has it, for PRIMARY-NODE below.")
    print(f"\nCluster {cluster} ({stack.name}), {has['Release']} in {aws.region}.")
    text = (_BY_SSM if has["SessionManager"] == "yes" else _BY_SSH) + _WHAT
    print(text.format(settings=settings, stack=stack, host=host), flush=True)
