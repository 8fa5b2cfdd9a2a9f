"""The commands for EMR, with the real AWS CLI against a simulated AWS.

Stacks fail, roll back and delete as in tests/support/moto_server.py. Rules simulate what moto does
not: the states of a step, and requests that AWS rejects.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from cloud import ACCOUNT, REGION, ROOT, TOOL_PATH, Answer, Call, Cloud, Said, emr, printed, refusal
from emr import __main__ as tool
from emr import access, checks, files
from emr.aws import Aws, AwsError
from emr.settings import Settings
from emr.stack import Failed, Stack
from pomona import plan

MODEL = "MODEL=tests/data/tiny.onnx"
FULL = ("BUCKET=fruits-paris", "KEY=fruits", "SUBNET=subnet-0a1b2c3d", "MY_IP=203.0.113.7")
NEEDED = ("BUCKET", "KEY", "SUBNET", "MY_IP")


class Account(NamedTuple):
    """The resources of an AWS user before the first command."""

    public: str
    private: str
    cut_off: str
    vpc: str
    wheelhouse: Path

    def words(self, bucket: str = "fruits-paris", subnet: str = "", ip: str = "203.0.113.7"):
        return [
            f"BUCKET={bucket}",
            "KEY=fruits",
            f"SUBNET={subnet or self.public}",
            f"MY_IP={ip}",
            f"WHEELHOUSE={self.wheelhouse}",
            MODEL,
        ]


class Done(NamedTuple):
    """The result of a command, and the calls that it made."""

    code: int
    output: str
    errors: str
    calls: list[Call]
    commands: list[list[str]]

    def called(self, action: str) -> list[Call]:
        return [call for call in self.calls if call.action == action]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    yield cloud
    cloud.stop()


@pytest.fixture
def cloud(server: Cloud) -> Iterator[Cloud]:
    yield server
    server.rules.clear()
    (server.folder / "faults.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def account(server: Cloud) -> Account:
    public, private, cut_off = server.aws("ec2", "describe-subnets")["Subnets"]
    vpc = public["VpcId"]
    gateway = server.aws("ec2", "create-internet-gateway")["InternetGateway"]["InternetGatewayId"]
    server.aws("ec2", "attach-internet-gateway", "--internet-gateway-id", gateway, "--vpc-id", vpc)
    main = server.aws("ec2", "describe-route-tables")["RouteTables"][0]["RouteTableId"]
    anywhere = ("--destination-cidr-block", "0.0.0.0/0")
    server.aws("ec2", "create-route", "--route-table-id", main, "--gateway-id", gateway, *anywhere)
    tables = []
    for subnet in (private, cut_off):
        made = server.aws("ec2", "create-route-table", "--vpc-id", vpc)
        tables.append(made["RouteTable"]["RouteTableId"])
        between = ("--subnet-id", subnet["SubnetId"], "--route-table-id", tables[-1])
        server.aws("ec2", "associate-route-table", *between)
    endpoint = ("--vpc-endpoint-type", "Gateway", "--service-name", f"com.amazonaws.{REGION}.s3")
    server.aws(
        "ec2", "create-vpc-endpoint", "--vpc-id", vpc, *endpoint, "--route-table-ids", tables[0]
    )
    server.aws("ec2", "create-key-pair", "--key-name", "fruits")
    wheelhouse = server.folder / "wheelhouse"
    wheelhouse.mkdir()
    (wheelhouse / "SHA256SUMS").write_text("0  a.whl\n")
    (wheelhouse / "a.whl").write_text("a wheel")
    subnets = (subnet["SubnetId"] for subnet in (public, private, cut_off))
    return Account(*subnets, vpc, wheelhouse)


def run(cloud: Cloud, verb: str, *words: str, **environment: str) -> Done:
    calls, commands = len(cloud.calls), len(cloud.commands)
    done = emr(cloud, verb, *words, **environment)
    return Done(
        done.returncode, done.stdout, done.stderr, cloud.calls[calls:], cloud.commands[commands:]
    )


@pytest.fixture(scope="module")
def started(server: Cloud, account: Account) -> Done:
    """The first emr-up in an empty account."""
    done = run(server, "up", *account.words(), "EMAIL=me@example.org", "BUDGET=30")
    assert done.code == 0, done.output + done.errors
    return done


def cluster_of(cloud: Cloud, bucket: str = "fruits-paris") -> str:
    words = ("--stack-name", f"pomona-{bucket}", "--logical-resource-id", "EmrCluster")
    found = cloud.aws("cloudformation", "describe-stack-resource", *words)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def group_of(cloud: Cloud, name: str, bucket: str = "fruits-paris") -> str:
    words = ("--stack-name", f"pomona-{bucket}", "--logical-resource-id", name)
    found = cloud.aws("cloudformation", "describe-stack-resource", *words)
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


@pytest.fixture(scope="module")
def fed(server: Cloud, started: Done) -> str:
    """The running cluster of fruits-paris, whose bucket has photos."""
    put(server, "Test/Apple/1.jpg", b"a photo")
    return cluster_of(server)


def put(cloud: Cloud, key: str, content: bytes, bucket: str = "fruits-paris") -> None:
    path = cloud.folder / "object"
    path.write_bytes(content)
    cloud.aws("s3api", "put-object", "--bucket", bucket, "--key", key, "--body", str(path))


def get(cloud: Cloud, key: str, bucket: str = "fruits-paris") -> bytes:
    return bytes(cloud.aws("s3", "cp", f"s3://{bucket}/{key}", "-", raw=True))


def make_bucket(cloud: Cloud, name: str, region: str = REGION, *, blocked: bool = True) -> None:
    place = ("--create-bucket-configuration", f"LocationConstraint={region}", "--region", region)
    cloud.aws("s3api", "create-bucket", "--bucket", name, *place)
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    block = ",".join(f"{each}={str(blocked).lower()}" for each in names)
    words = ("--bucket", name, "--public-access-block-configuration", block)
    cloud.aws("s3api", "put-public-access-block", *words)


def status_of(kind: str, *statuses: dict[str, Any]):
    """A rule: the status of a cluster or a step, one per request; the last one repeats."""
    left = list(statuses)

    def rule(call: Call, said: Said) -> Said:
        if call.action != f"Describe{kind}" or not isinstance(said, dict):
            return None
        said[kind]["Status"] = left.pop(0) if len(left) > 1 else left[0]
        return said

    return rule


def refusing(action: str, *refusals: Answer):
    """A rule: the first calls of an action are rejected."""
    left = list(refusals)

    def rule(call: Call, said: Said) -> Said:
        return left.pop(0) if call.action == action and said is None and left else None

    return rule


def error(code: str, message: str) -> Answer:
    """An error response in the protocol of CloudFormation."""
    text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Answer(400, f"{text}</ErrorResponse>".encode())


# emr-up


def test_the_stack_has_what_was_asked_for(started: Done, server: Cloud, account: Account):
    (made,) = server.aws("cloudformation", "describe-stacks")["Stacks"]
    assert made["StackName"] == "pomona-fruits-paris"
    found = {each["ParameterKey"]: each["ParameterValue"] for each in made["Parameters"]}
    assert found == {
        "Bucket": "fruits-paris",
        "NewBucket": "yes",
        "KmsKey": "",
        "Vpc": account.vpc,
        "Subnet": account.public,
        "PrivateSubnet": "no",
        "KeyPair": "fruits",
        "MyAddress": "203.0.113.7",
        "SessionManager": "no",
        "Cluster": "yes",
        "Release": "emr-6.4.0",
        "Instance": "m5.xlarge",
        "Workers": "2",
        "Tasks": "0",
        "IdleSeconds": "3600",
        "Model": "tiny.onnx",
        "AlarmEmail": "me@example.org",
        "MonthlyBudget": "30",
    }


def test_files_are_uploaded_before_nodes_start(started: Done, server: Cloud):
    order = [
        call.action if call.service == "cloudformation" else "upload"
        for call in started.calls
        if call.action in ("CreateStack", "UpdateStack") or call.action.startswith("PUT")
    ]
    assert order[0] == "CreateStack"
    assert order[-1] == "UpdateStack"
    assert set(order[1:-1]) == {"upload"}
    listed = server.aws("s3", "ls", "s3://fruits-paris", "--recursive").decode()
    assert {line.split()[-1] for line in listed.splitlines()} >= {
        "bootstrap-emr.sh",
        "jupyter/jovyan/fruits_on_emr.fr.ipynb",
        "jupyter/jovyan/fruits_on_emr.ipynb",
        "models/tiny.onnx",
        "pomona_job.py",
        "wheelhouse/emr-6.4.0/SHA256SUMS",
        "wheelhouse/emr-6.4.0/a.whl",
    }
    (action,) = server.resources("pomona-fruits-paris")["EmrCluster"]["BootstrapActions"]
    for argument in (
        action["ScriptBootstrapAction"]["Path"],
        *action["ScriptBootstrapAction"]["Args"],
    ):
        if argument.startswith("s3://fruits-paris/"):
            assert argument[len("s3://fruits-paris/") :] in listed


def test_every_call_is_printed_as_it_is_made_except_polling(started: Done):
    assert started.commands
    made = iter(started.commands)
    for call in printed(started.output):
        assert call in made  # in this order
    unprinted = [call[2] for call in started.commands if call not in printed(started.output)]
    assert set(unprinted) <= {"describe-stacks", "describe-stack-events"}


def test_it_says_how_to_connect_and_what_is_where(started: Done):
    host = re.search(r"hadoop@(\S+)", started.output).group(1)
    assert f"ssh -i ~/.ssh/fruits.pem -N -L 9443:{host}:9443 hadoop@{host}" in started.output
    assert f"ssh -i ~/.ssh/fruits.pem -N -D 8157 hadoop@{host}" in started.output
    for page in (18080, 8088, 8998, 9870):
        assert f"http://{host}:{page}" in started.output
    assert "s3://fruits-paris/jupyter/jovyan" in started.output
    assert "s3://fruits-paris/results" in started.output
    assert "make emr-run BUCKET=fruits-paris MODEL=tests/data/tiny.onnx\n" in started.output
    assert "make emr-down BUCKET=fruits-paris\n" in started.output
    assert re.search(r"About \$\d\.\d\d per hour \(EC2's prices of 20", started.output)


def test_an_address_that_emr_does_not_tell_is_said_to_be_unknown(
    started: Done, cloud: Cloud, aws: Aws, capsys: pytest.CaptureFixture[str]
):
    settings = Settings.of([*FULL, "EVERY=0"], NEEDED)
    stack = Stack(aws, settings)
    stack.read()
    busy = refusal("InternalServerException", "busy")
    cloud.rules.append(refusing("DescribeCluster", busy))
    access.connect(aws, settings, stack)
    said = capsys.readouterr().out
    assert "The cluster's address is unknown: EMR's console has it" in said
    assert "hadoop@PRIMARY-NODE" in said


def test_emr_7_is_recommended_in_place_of_6(started: Done):
    assert "Recommended: RELEASE=emr-7.14.0" in started.output
    assert "AWS no longer supports emr-6.4.0" in started.output


def test_a_second_one_starts_nothing_and_lets_only_the_new_address_in(
    started: Done, cloud: Cloud, account: Account
):
    before = cluster_of(cloud)
    again = run(cloud, "up", *account.words(ip="203.0.113.8"), "INSTANCE=c5.xlarge")
    assert again.code == 0, again.errors
    assert cluster_of(cloud) == before
    assert not [call for call in again.calls if call.action.startswith("PUT")]
    assert "is already running: nothing is started or uploaded" in again.output
    assert "It keeps Instance=m5.xlarge" in again.output
    assert "port 22 to 203.0.113.8 only" in again.output
    ssh = [
        rule["CidrIpv4"]
        for rule in rules_of(cloud, group_of(cloud, "PrimaryGroup"))
        if "CidrIpv4" in rule
    ]
    assert ssh == ["203.0.113.8/32"]
    assert re.search(r"ssh .* hadoop@", again.output)


def test_a_cluster_that_emr_ended_is_started_again(cloud: Cloud, account: Account):
    first = run(cloud, "up", *account.words("ended"))
    assert first.code == 0, first.errors
    before = cluster_of(cloud, "ended")
    cloud.aws("emr", "terminate-clusters", "--cluster-ids", before)
    again = run(cloud, "up", *account.words("ended"))
    assert again.code == 0, again.errors
    assert f"The cluster {before} has ended (TERMINATED): the stack gets a new one" in again.output
    assert cluster_of(cloud, "ended") != before
    assert len(again.called("UpdateStack")) == 2


# Open groups


def rules_of(cloud: Cloud, group: str) -> list[dict[str, Any]]:
    filters = ("--filters", f"Name=group-id,Values={group}")
    found = cloud.aws("ec2", "describe-security-group-rules", *filters)["SecurityGroupRules"]
    return [rule for rule in found if not rule["IsEgress"]]


def open_to(cloud: Cloud, group: str, source: str, protocol: str, first: int, last: int) -> None:
    ports = f"IpProtocol={protocol},FromPort={first},ToPort={last}"
    words = ("--group-id", group, "--ip-permissions", f"{ports},{source}")
    cloud.aws("ec2", "authorize-security-group-ingress", *words)


def test_whatever_else_was_opened_is_closed_and_named(
    started: Done, cloud: Cloud, account: Account
):
    primary, core = (group_of(cloud, name) for name in ("PrimaryGroup", "CoreGroup"))
    words = ("--group-name", "other", "--description", "o", "--vpc-id", account.vpc)
    other = cloud.aws("ec2", "create-security-group", *words)["GroupId"]
    open_to(cloud, primary, "IpRanges=[{CidrIp=0.0.0.0/0}]", "tcp", 0, 65535)
    open_to(cloud, primary, "Ipv6Ranges=[{CidrIpv6=::/0}]", "tcp", 22, 22)
    open_to(cloud, core, "PrefixListIds=[{PrefixListId=pl-0123456789abcdef0}]", "tcp", 8998, 8998)
    open_to(cloud, core, f"UserIdGroupPairs=[{{GroupId={other}}}]", "tcp", 8088, 8088)
    open_to(cloud, primary, "IpRanges=[{CidrIp=0.0.0.0/0}]", "tcp", 8443, 8443)
    # As EMR opens it in a public subnet.
    open_to(cloud, primary, "IpRanges=[{CidrIp=205.251.233.160/28}]", "tcp", 8443, 8443)
    done = run(cloud, "up", *account.words())
    assert done.code == 0, done.errors
    for opening in (
        f"ports 0-65535 (tcp) from 0.0.0.0/0 into {primary}",
        f"ports 22-22 (tcp) from ::/0 into {primary}",
        f"ports 8998-8998 (tcp) from pl-0123456789abcdef0 into {core}",
        f"ports 8088-8088 (tcp) from {other} into {core}",
        f"ports 8443-8443 (tcp) from 0.0.0.0/0 into {primary}",
    ):
        assert f"Closed: {opening}" in done.output
    assert done.output.count("Closed:") == 5
    assert "And port 8443 to EMR's own service, which manages the cluster" in done.output
    assert "EMR adds these rules itself, at the start (1 blocks now)" in done.output
    left = {
        (rule["FromPort"], rule["CidrIpv4"])
        for group in (primary, core)
        for rule in rules_of(cloud, group)
        if not rule.get("ReferencedGroupInfo")
    }
    assert left == {(22, "203.0.113.7/32"), (8443, "205.251.233.160/28")}


def test_a_rule_that_cannot_be_revoked_stops_the_command(
    started: Done, cloud: Cloud, account: Account
):
    primary = group_of(cloud, "PrimaryGroup")
    open_to(cloud, primary, "IpRanges=[{CidrIp=0.0.0.0/0}]", "-1", -1, -1)
    denied = b"<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message>"
    action = "RevokeSecurityGroupIngress"
    cloud.rules.append(refusing(action, Answer(403, denied + b"</Error></Errors></Response>")))
    done = run(cloud, "up", *account.words())
    assert done.code == 1
    assert f"the cluster is open to all ports (-1) from 0.0.0.0/0 into {primary}" in done.errors
    assert f"aws ec2 revoke-security-group-ingress --group-id {primary}" in done.errors
    assert "only" not in done.output
    assert "IT COSTS MONEY until make emr-down BUCKET=fruits-paris" in done.errors
    cloud.rules.clear()
    assert run(cloud, "up", *account.words()).code == 0


# Stacks that fail


def test_roles_that_iam_does_not_know_everywhere_yet_are_waited_for(cloud: Cloud, account: Account):
    reason = "Failed to authorize instance profile pomona-orchard-NodesProfile"
    cloud.fail("EmrCluster", "CREATE", reason, times=2)
    done = run(cloud, "up", *account.words("orchard"), "ON_FAILURE=keep")
    assert done.code == 0, done.errors
    assert done.output.count("EMR does not know the new roles yet, because IAM takes minutes") == 2
    assert f"CREATE_FAILED: EmrCluster: {reason}" in done.output
    assert "administrator" not in done.output
    assert run(cloud, "down", "BUCKET=orchard").code == 0


VALIDATION = "VALIDATION_ERROR: Service role arn:aws:iam::1:role/x has insufficient EC2 permissions"


@pytest.mark.parametrize("known_after", [2, 9])
@pytest.mark.parametrize(
    "refused",
    [
        AwsError("aws cloudformation update-stack", "", "Invalid InstanceProfile: x"),
        Failed("pomona-x", "UPDATE_FAILED", {"ResourceStatusReason": VALIDATION}),
    ],
)
def test_what_iam_makes_fail_is_repeated_for_minutes_not_for_ever(
    refused: Exception,
    known_after: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    stack = Stack(Aws(REGION), Settings(BUCKET="orchard", EVERY="30"))
    pauses: list[float] = []
    attempts: list[str] = []

    def deploy(parameters: dict[str, str], *, keep: bool) -> None:
        attempts.append(parameters["Cluster"])
        if len(attempts) < known_after:
            raise refused

    monkeypatch.setattr(stack, "deploy", deploy)
    monkeypatch.setattr("time.sleep", pauses.append)
    if known_after == 2:
        stack.deploy_patiently({"Cluster": "yes"}, keep=False)
        assert len(attempts) == 2
    else:
        with pytest.raises(files.Stop, match="5 attempts were not enough: repeat the command"):
            stack.deploy_patiently({"Cluster": "yes"}, keep=False)
        assert sum(pauses) == 600
    assert "IAM takes minutes to make them known everywhere" in capsys.readouterr().out


def failed_bootstrap(cloud: Cloud, account: Account, *words: str) -> Done:
    reason = (
        "Cluster j-1ABCDEFGHIJ4 terminated: On the master instance (i-0abc1), bootstrap action 1 "
        "returned a non-zero return code"
    )
    log = gzip.compress(b"many lines\nPOMONA BOOTSTRAP FAILED on ip-10-0-0-1\n")
    if b"orchard" not in cloud.aws("s3", "ls"):
        make_bucket(cloud, "orchard")
    key = "logs/j-1ABCDEFGHIJ4/node/i-0abc1/bootstrap-actions/1/stderr.gz"
    put(cloud, key, log, "orchard")
    cloud.fail("EmrCluster", "CREATE", reason)
    done = run(cloud, "up", *account.words("orchard"), *words)
    assert done.code == 1
    assert f"because of EmrCluster: {reason}" in done.errors
    assert "| POMONA BOOTSTRAP FAILED on ip-10-0-0-1" in done.output
    return done


def test_a_stack_that_fails_half_way_is_named_and_removed_or_kept(cloud: Cloud, account: Account):
    removed = failed_bootstrap(cloud, account)
    assert "ON_FAILURE=remove: the stack pomona-orchard is deleted" in removed.output
    assert "only its content costs money" in removed.errors
    assert "IT COSTS MONEY" not in removed.errors
    stacks = cloud.aws("cloudformation", "describe-stacks")["Stacks"]
    assert "pomona-orchard" not in [stack["StackName"] for stack in stacks]
    kept = failed_bootstrap(cloud, account, "ON_FAILURE=keep")
    assert "ON_FAILURE=keep: the stack stays, as UPDATE_FAILED" in kept.errors
    assert "make emr-down BUCKET=orchard" in kept.errors
    assert kept.called("UpdateStack")[-1].body["DisableRollback"] == "true"
    assert run(cloud, "down", "BUCKET=orchard").code == 0


def test_a_stack_that_rolled_back_is_replaced(cloud: Cloud, account: Account):
    cloud.fail("CoreGroup", "CREATE", "The maximum number of security groups has been reached.")
    given = {"Bucket": "orchard", "NewBucket": "no", "Vpc": account.vpc, "Subnet": account.public}
    values = [f"ParameterKey={name},ParameterValue={value}" for name, value in given.items()]
    words = ("--template-body", f"file://{ROOT}/bootstrap/cluster.yaml", "--parameters", *values)
    words += ("--capabilities", "CAPABILITY_IAM")
    cloud.aws("cloudformation", "create-stack", "--stack-name", "pomona-orchard", *words)
    done = run(cloud, "up", *account.words("orchard"))
    assert done.code == 0, done.errors
    assert "pomona-orchard is ROLLBACK_COMPLETE: it is deleted and created again" in done.output
    assert run(cloud, "down", "BUCKET=orchard").code == 0


def test_a_stack_that_someone_else_is_changing_is_waited_for(
    started: Done, cloud: Cloud, account: Account
):
    left = [b"UPDATE_IN_PROGRESS", b"UPDATE_IN_PROGRESS"]

    def busy(call: Call, said: Said) -> Said:
        if call.action != "DescribeStacks" or not isinstance(said, Answer) or not left:
            return None
        return Answer(200, said.body.replace(b"UPDATE_COMPLETE", left.pop()))

    cloud.rules.append(busy)
    done = run(cloud, "up", *account.words())
    assert done.code == 0, done.errors
    assert "pomona-fruits-paris is UPDATE_IN_PROGRESS: waiting until that ends" in done.output
    assert not left


def test_who_stops_waiting_is_told_that_the_cluster_goes_on(
    started: Done, cloud: Cloud, account: Account
):
    def busy(call: Call, said: Said) -> Said:
        if call.action != "DescribeStacks" or not isinstance(said, Answer):
            return None
        return Answer(200, said.body.replace(b"UPDATE_COMPLETE", b"UPDATE_IN_PROGRESS"))

    words = [*account.words(ip="203.0.113.9"), "EVERY=0.1"]

    def later(call: Call, said: Said) -> Said:
        if call.action == "UpdateStack":
            cloud.rules.append(busy)
        return None

    cloud.rules.append(later)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "emr", "up", *words],
        cwd=ROOT,
        env=cloud.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with waiting:
        for line in waiting.stdout:
            if line.endswith(" UPDATE_IN_PROGRESS\n"):
                break
        # Like Ctrl-C in a terminal: to the command and to the AWS CLI that it runs.
        os.killpg(waiting.pid, signal.SIGINT)
        errors = waiting.stderr.read()
    assert waiting.returncode == 130
    assert "interrupted" in errors
    assert "IT COSTS MONEY until make emr-down BUCKET=fruits-paris" in errors
    assert "Traceback" not in errors


# Session Manager, private subnets, encrypted buckets


def test_session_manager_needs_no_key_and_no_open_port_and_a_used_group_is_named_at_the_end(
    cloud: Cloud, account: Account
):
    words = [word for word in account.words("private") if not word.startswith(("KEY", "MY_IP"))]
    done = run(cloud, "up", *words, "SSM=1", f"SUBNET={account.private}")
    assert done.code == 0, done.errors
    assert "aws ssm start-session --document-name AWS-StartPortForwardingSession" in done.output
    assert "interface endpoints for com.amazonaws.eu-west-3.ssm" in done.output
    assert "Open from outside: no port to you." in done.output
    made = cloud.resources("pomona-private")
    assert "ServiceGroup" in made
    assert "SshFromMyAddress" not in made
    assert "Ec2KeyName" not in made["EmrCluster"]["Instances"]
    assert any("AmazonSSMManaged" in arn for arn in made["NodesRole"]["ManagedPolicyArns"])
    # Something else uses a group.
    reason = "resource sg-0abc has a dependent object (Service: Ec2, Status Code: 400)"
    cloud.fail("PrimaryGroup", "DELETE", reason)
    ended = run(cloud, "down", "BUCKET=private")
    assert ended.code == 1
    assert f"DELETE_FAILED: PrimaryGroup: {reason}" in ended.output
    assert "Remove what uses PrimaryGroup (a security group: machines, network" in ended.errors
    assert "repeat make emr-down BUCKET=private" in ended.errors
    assert run(cloud, "down", "BUCKET=private").code == 0


def encrypt(cloud: Cloud, bucket: str, key: str) -> None:
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    rule = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    words = ("--bucket", bucket, "--server-side-encryption-configuration", json.dumps(rule))
    cloud.aws("s3api", "put-bucket-encryption", *words)


@pytest.fixture
def aws(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """The calls of a user of the cloud, made by this process."""
    monkeypatch.chdir(ROOT)
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return Aws(REGION)


def test_the_nodes_may_use_the_key_of_an_encrypted_bucket(cloud: Cloud, account: Account, aws: Aws):
    make_bucket(cloud, "sealed")
    key = cloud.aws("kms", "create-key")["KeyMetadata"]
    encrypt(cloud, "sealed", key["KeyId"])
    settings = Settings.of(account.words("sealed"), NEEDED)
    parameters = checks.check_bucket(aws, settings)
    assert parameters["KmsKey"] == key["Arn"]
    assert parameters["NewBucket"] == "no"
    cloud.aws("kms", "disable-key", "--key-id", key["KeyId"])
    with pytest.raises(files.Stop, match=f"the key {key['Arn']} of the bucket sealed is Disabled"):
        checks.check_bucket(aws, settings)
    for number, region in ((ACCOUNT, "eu-west-1"), ("999999999999", REGION)):
        arn = f"arn:aws:kms:{region}:{number}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
        encrypt(cloud, "sealed", arn)
        with pytest.raises(files.Stop, match=f"bucket sealed is of account {number} in {region}"):
            checks.check_bucket(aws, settings)


# The notebook


@pytest.mark.parametrize("instance", list(plan.instances()))
def test_yarn_has_room_for_an_executor_and_a_driver_of_the_notebook(instance: str):
    asked = files.configure(instance)
    spark = plan.spark_settings(instance)
    given = {
        "spark.driver.memory": asked["driverMemory"],
        "spark.executor.memory": asked["executorMemory"],
        "spark.executor.cores": str(asked["executorCores"]),
        **{name: value for name, value in asked["conf"].items() if name in spark},
    }
    assert given == spark

    def mebibytes(text: str) -> int:
        return int(re.fullmatch(r"(\d+)g", text).group(1)) * 1024

    overhead = asked["conf"]["spark.executor.memoryOverhead"]
    executor = mebibytes(asked["executorMemory"]) + mebibytes(overhead)
    driver = mebibytes(asked["driverMemory"])
    node = plan.instances()[instance]
    driver += max(384, driver * 0.1875)
    assert executor * (node.vcpus // asked["executorCores"]) + driver <= node.yarn_mb


@pytest.mark.parametrize("name", files.NOTEBOOKS)
def test_the_notebook_is_filled_with_the_clusters_settings(name: str):
    words = [*FULL, "INSTANCE=c5.xlarge", MODEL, "IMAGES=s3://fruits-paris/Un été"]
    settings = Settings.of(words, NEEDED)
    text = (ROOT / "notebooks" / name).read_text()
    before, after = json.loads(text), json.loads(files.fill(text, settings))
    changed = [
        "".join(new["source"]) for old, new in zip(before["cells"], after["cells"]) if old != new
    ]
    assert len(changed) == 2
    magic, _, content = changed[0].partition("\n")
    assert magic == "%%configure -f"
    assert json.loads(content) == files.configure("c5.xlarge")
    found: dict[str, str] = {}
    exec(changed[1], found)  # noqa: S102 - the cell is ours
    assert found["PHOTOS"] == "s3://fruits-paris/Un été"
    assert found["MODEL"] == "s3://fruits-paris/models/tiny.onnx"
    assert found["RESULTS"] == "s3://fruits-paris/results"


def test_a_notebook_that_the_user_changed_stays(
    cloud: Cloud, account: Account, aws: Aws, capsys: pytest.CaptureFixture[str]
):
    make_bucket(cloud, "noted")
    english, french = (f"jupyter/jovyan/{name}" for name in files.NOTEBOOKS)
    put(cloud, english, b"my notes", "noted")
    for instance, memory in (("c5.xlarge", b"1g"), ("m5.xlarge", b"2g")):
        settings = Settings.of([*account.words("noted"), f"INSTANCE={instance}"], NEEDED)
        files.upload(aws, settings, account.wheelhouse)
        said = capsys.readouterr().out
        assert f"s3://noted/{english} stays, because you have changed it" in said
        assert f'%%configure -f {{"driverMemory": "{memory.decode()}"' in said
        assert get(cloud, english, "noted") == b"my notes"
        # The one that nobody changed gets the settings of the next cluster.
        assert b'\\"driverMemory\\": \\"%s\\"' % memory in get(cloud, french, "noted")


# WHEELHOUSE


def test_an_archive_of_a_wheelhouse_is_unpacked(account: Account, tmp_path: Path):
    archive = tmp_path / "pomona-wheelhouse-emr-7.14.0-1.0.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("emr-7.14.0/SHA256SUMS", "0  a.whl\n")
        packed.writestr("emr-7.14.0/requirements.txt", "# release: emr-7.14.0\n")
        packed.writestr("emr-7.14.0/a.whl", "a wheel")
    words = [*FULL, f"WHEELHOUSE={archive}"]
    folder = files.wheelhouse(Settings.of([*words, "RELEASE=emr-7.13.0"], NEEDED))
    assert (folder / "a.whl").read_text() == "a wheel"
    with pytest.raises(files.Stop, match=r"is for emr-7\.14\.0, and RELEASE is emr-6\.4\.0"):
        files.wheelhouse(Settings.of(words, NEEDED))
    with pytest.raises(files.Stop, match="does not exist, or is not a zip archive"):
        files.wheelhouse(Settings.of([*FULL, "WHEELHOUSE=/nowhere.zip"], NEEDED))


# DRY_RUN=1


def dry(verb: str, *words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "emr", verb, *words, "DRY_RUN=1"],
        cwd=ROOT,
        env={"PYTHONPATH": TOOL_PATH, "HOME": "/home/me", **environment},
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout.decode()


def test_a_dry_run_needs_no_cli_no_credentials_and_no_wheel():
    told = [*FULL, "INSTANCE=c5.xlarge", "IMAGES=docs", "TASKS=2"]
    said = dry("up", *told, "MODEL=efficientnet_lite0", "EMAIL=me@example.org", PATH="/nowhere")
    assert f"The stack pomona-fruits-paris in eu-west-3, from {ROOT}/bootstrap/cluster.yaml" in said
    for parameter in ("Instance=c5.xlarge", "Tasks=2", "AlarmEmail=me@example.org", "Cluster=no"):
        assert f"  {parameter}\n" in said
    model = "efficientnet_lite0.onnx"
    assert f"{model} -> s3://fruits-paris/models/{model}\n" in said
    assert "docs -> s3://fruits-paris/docs\n" in said
    assert 'PHOTOS = "s3://fruits-paris/docs"\n' in said
    assert '"driverMemory": "1g"' in said
    assert "per hour" in said
    job = dry("run", "BUCKET=fruits-paris", PATH="/nowhere")
    assert '"s3://fruits-paris/pomona_job.py"' in job
    assert "The bucket s3://fruits-paris stays" in dry("down", "BUCKET=fruits-paris")


def test_a_dry_run_asks_aws_nothing(cloud: Cloud, account: Account):
    done = run(cloud, "up", *account.words("fruits-dry"), "DRY_RUN=1")
    assert done.code == 0
    assert not done.commands
    assert not done.calls


ALONE = {name: value for name, value in os.environ.items() if "MAKE" not in name}


def test_make_passes_on_what_it_is_told():
    words = [*FULL, "TASKS=2", "IDLE=900", "RELEASE=emr-6.15.0", "EMAIL=me@example.org", "SSM=1"]
    words += ["BUDGET=7", "ON_FAILURE=keep", "WHEELHOUSE=/my/wheels.zip"]
    done = subprocess.run(
        ["make", "emr-up", *words, "DRY_RUN=1"],
        cwd=ROOT,
        env=ALONE,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == dry("up", *words, HOME=str(Path.home()), PATH="/nowhere")
    for expected in ("emr-6.15.0", "IdleSeconds=900", "MonthlyBudget=7", "/my/wheels.zip -> s3://"):
        assert expected in done.stdout


def test_make_passes_on_quotes_and_refuses_what_cannot_be_before_it_builds():
    options = {"cwd": ROOT, "env": ALONE, "capture_output": True, "text": True, "check": False}
    words = [*FULL, "MODEL=./weights.h5"]
    refused = subprocess.run(["make", "emr-up", *words, "RELEASE=emr-6.99.0"], **options)
    assert refused.returncode == 2
    assert "MODEL=./weights.h5 is neither the name of a pulled model nor an .onnx" in refused.stderr
    assert not refused.stdout
    quoted = ["BUCKET=fruits-paris", "ARGS=--label 'a fig' --by \"it's\"", "DRY_RUN=1"]
    done = subprocess.run(["make", "emr-run", *quoted], **options)
    assert done.returncode == 0, done.stderr
    assert re.search(r'"--label",\s+"a fig",\s+"--by",\s+"it\'s"', done.stdout)


def test_nothing_is_built_if_a_wheelhouse_is_given():
    words = ["make", "--dry-run", "emr-up", *FULL]
    options = {"cwd": ROOT, "env": ALONE, "capture_output": True, "text": True, "check": True}
    assert "wheelhouse.py build" not in subprocess.run([*words, "WHEELHOUSE=w"], **options).stdout


# emr-run


def test_the_job_is_a_step_that_is_followed_to_its_end(cloud: Cloud, fed: str):
    cloud.rules.append(
        status_of("Step", {"State": "PENDING"}, {"State": "RUNNING"}, {"State": "COMPLETED"})
    )
    done = run(cloud, "run", "BUCKET=fruits-paris", MODEL, "ARGS=--variance 0.9 --no-resume")
    assert done.code == 0, done.errors
    (call,) = done.called("AddJobFlowSteps")
    (step,) = call.body["Steps"]
    assert step["ActionOnFailure"] == "CONTINUE"
    assert step["HadoopJarStep"]["Jar"] == "command-runner.jar"
    assert step["HadoopJarStep"]["Args"] == [
        "spark-submit",
        *("--deploy-mode", "cluster"),
        *("--name", "pomona run"),
        "s3://fruits-paris/pomona_job.py",
        *("--images", "s3://fruits-paris/Test"),
        *("--output", "s3://fruits-paris/results"),
        *("--model", "s3://fruits-paris/models/tiny.onnx"),
        *("--variance", "0.9", "--no-resume"),
    ]
    assert len(done.called("DescribeStep")) == 3
    states = re.findall(r"^  [\d:]{8} (\w+)$", done.output, re.MULTILINE)
    assert states == ["PENDING", "RUNNING", "COMPLETED"]
    assert "s3://fruits-paris/results" in done.output
    assert "make emr-down" in done.output


def test_a_job_that_fails_shows_the_drivers_log_and_fails_too(cloud: Cloud, fed: str):
    application = "application_1700000000000_0001"

    def logs_come(call: Call, said: Said) -> None:
        if call.action == "DescribeStep" and said is None:
            step = call.body["StepId"]
            told = gzip.compress(f"Submitted {application}\nexit status 1\n".encode())
            for key, content in (
                (f"logs/{fed}/steps/{step}/stderr.gz", told),
                (
                    f"logs/{fed}/containers/{application}/"
                    f"container_1700000000000_0001_01_000001/stdout.gz",
                    gzip.compress(b"pomona run: there are no photos in s3://fruits-paris/Test\n"),
                ),
            ):
                put(cloud, key, content)

    failure = {"Reason": "Unknown Error.", "LogFile": "s3://fruits-paris/logs/x"}
    cloud.rules += [
        logs_come,
        status_of("Step", {"State": "FAILED", "FailureDetails": failure}),
    ]
    done = run(cloud, "run", "BUCKET=fruits-paris", MODEL)
    assert done.code == 1
    assert "| pomona run: there are no photos in s3://fruits-paris/Test" in done.output
    assert "FAILED: Unknown Error." in done.errors
    assert f"s3://fruits-paris/logs/{fed}/steps/" in done.errors
    assert f"cluster {fed}: IT COSTS MONEY until make emr-down BUCKET=fruits-paris" in done.errors


def test_a_job_without_photos_or_model_is_not_submitted(cloud: Cloud, fed: str):
    nowhere = run(cloud, "run", "BUCKET=fruits-paris", MODEL, "IMAGES=s3://fruits-paris/None")
    assert nowhere.code == 1
    assert "s3://fruits-paris/None has no photos" in nowhere.errors
    other = run(cloud, "run", "BUCKET=fruits-paris", "MODEL=another")
    assert other.code == 1
    assert "the model s3://fruits-paris/models/another.onnx does not exist" in other.errors
    assert not nowhere.called("AddJobFlowSteps") + other.called("AddJobFlowSteps")


def test_a_job_without_a_cluster_says_how_to_start_one(cloud: Cloud):
    done = run(cloud, "run", "BUCKET=nobodys-fruits", MODEL)
    assert done.code == 1
    assert (
        "no cluster of the stack pomona-nobodys-fruits is running in eu-west-3: start"
        in done.errors
    )


def test_a_cluster_that_does_not_take_the_job_is_explained(cloud: Cloud, fed: str):
    message = "A job flow that is shutting down, terminated, or finished may not be modified."
    cloud.rules.append(refusing("AddJobFlowSteps", refusal("ValidationException", message)))
    done = run(cloud, "run", "BUCKET=fruits-paris", MODEL)
    assert done.code == 1
    assert f"the cluster {fed} does not take the job ({message})" in done.errors
    assert "make emr-up with BUCKET=fruits-paris starts another" in done.errors


# emr-down


@pytest.fixture(scope="module")
def kept_bucket(server: Cloud, account: Account) -> Done:
    """emr-down of a stack whose bucket keeps old versions."""
    done = run(server, "up", *account.words("versioned"))
    assert done.code == 0, done.errors
    versions = ("--bucket", "versioned", "--versioning-configuration", "Status=Enabled")
    server.aws("s3api", "put-bucket-versioning", *versions)
    for content in (b"a" * 2**20, b"b" * 2**20):
        put(server, "results/x.parquet", content, "versioned")
    server.aws("s3", "rm", "s3://versioned/bootstrap-emr.sh")
    address = server.aws("ec2", "allocate-address", "--domain", "vpc")
    ended = run(server, "down", "BUCKET=versioned")
    server.aws("ec2", "release-address", "--allocation-id", address["AllocationId"])
    assert ended.code == 0, ended.errors
    assert f"Elastic IP {address['PublicIp']} is unused and costs money" in ended.output
    return ended


def test_the_stack_ends_and_what_still_costs_money_is_said(
    kept_bucket: Done, started: Done, cloud: Cloud
):
    assert "DELETE_COMPLETE" in kept_bucket.output
    assert re.search(
        r"The bucket s3://versioned stays, and its \d+ objects cost money: \d\.\d MiB, of which "
        r"\d old versions, 1\.0 MiB",
        kept_bucket.output,
    )
    running = cluster_of(cloud)
    assert f"Cluster pomona-fruits-paris ({running}) is running" in kept_bucket.output
    again = run(cloud, "down", "BUCKET=versioned")
    assert again.code == 0
    assert "There is no such stack in eu-west-3" in again.output
    assert not again.called("DeleteStack")


def test_the_commands_that_remove_the_bucket_work(kept_bucket: Done, cloud: Cloud, tmp_path: Path):
    removal = kept_bucket.output.partition("and the bucket, for good:")[2]
    script = "\n".join(line for line in removal.splitlines() if line.startswith("  "))
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=cloud.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert b"versioned" not in cloud.aws("s3", "ls")


def test_who_cannot_end_anything_is_not_told_that_nothing_costs_money(cloud: Cloud):
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = run(cloud, "down", "BUCKET=fruits-paris", **nobody)
    assert done.code == 1
    assert "run `aws configure`" in done.errors
    assert "Nothing was terminated: a running cluster still costs money." in done.errors


# Bad input


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("BUCKET=Fruits", "is not the name of a bucket, without s3://: 3 to 63 lower-case"),
        ("BUCKET=s3://fruits", "is not the name of a bucket, without s3://"),
        ("BUCKET=my.fruits", "no dots"),
        ("BUCKET=", "BUCKET must be given, for example BUCKET=fruits-paris"),
        ("KEY=", "KEY must be given"),
        ("REGION=us-east-1", "not in the European Union"),
        ("REGION=eu-west-2", "not in the European Union"),
        ("REGION=eu-central-2", "not in the European Union"),
        ("MY_IP=0.0.0.0", "is not the IPv4 address of one machine"),
        ("MY_IP=0.0.0.0/0", "is not the IPv4 address of one machine"),
        ("MY_IP=224.0.0.1", "is not the IPv4 address of one machine"),
        ("MY_IP=2001:db8::1", "is not the IPv4 address of one machine"),
        ("MY_IP=203.0.113.256", "is not the IPv4 address of one machine"),
        ("MY_IP=me", "is not the IPv4 address of one machine"),
        ("SUBNET=vpc-123", "is not a subnet id"),
        ("RELEASE=6.4.0", "is not a release label of EMR 6 or 7, such as emr-6.4.0"),
        ("WORKERS=0", "must be a whole number from 1 to 1,000"),
        ("TASKS=two", "must be a whole number from 0 to 1,000"),
        ("IDLE=30", "must be a whole number from 60 to 604,800"),
        ("IMAGES=s3://others/Test", "is not in s3://fruits-paris"),
        ("IMAGES=s3://fruits-paris//Test", "has a double slash"),
        ("OUTPUT=s3://others/out", "is not in s3://fruits-paris"),
        ("ARGS=--variance '0.9", "cannot be split into options: No closing quotation"),
        ("EVERY=often", "is not a number of seconds"),
        ("MODEL=./weights.h5", "pomona model convert ./weights.h5 -o NAME.onnx"),
        ("MODEL=./my,model.onnx", "letters, digits, dots, hyphens and underscores only: rename it"),
        ("WORKER=2", "is not one of BUCKET=…"),
        ("RELEASE=emr-5.36.0", "is not a release label of EMR 6 or 7, such as emr-6.4.0"),
        ("INSTANCE=m1.tiny", "unknown instance type 'm1.tiny'; known: m5.xlarge"),
        ("INSTANCE=m6i.xlarge", "needs EMR release emr-6.6.0 or later, not emr-6.4.0"),
        ("EMAIL=me", "is not an e-mail address"),
        ("BUDGET=0", "must be a whole number from 1 to"),
        ("ON_FAILURE=stop", "is not keep or remove"),
        ("IMAGES=/", "would be the whole bucket"),
        ("IMAGES=s3://fruits-paris/", "would be the whole bucket"),
        *(
            (f"IMAGES={start}{name}", f"would be in s3://fruits-paris/{name}, where Pomona or EMR")
            for name in ("results", "logs", "models", "wheelhouse", "jupyter")
            for start in ("", "photos/", "s3://fruits-paris/")
        ),
        *(
            (f"OUTPUT=s3://fruits-paris/{name}/x", f"would be in s3://fruits-paris/{name}, where")
            for name in ("logs", "models", "wheelhouse", "jupyter")
        ),
        ("OUTPUT=s3://fruits-paris", "would be the whole bucket"),
        ("OUTPUT=s3://fruits-paris/Test/out", "one must not be inside the other"),
    ],
)
def test_what_cannot_be_is_refused_before_aws_is_asked(
    word: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("PATH", "/nowhere")
    name = word.partition("=")[0]
    others = [other for other in FULL if not other.startswith(f"{name}=")]
    assert tool.main(["up", *others, word]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert not output.out


def test_neither_numpy_nor_the_extension_is_needed():
    script = (
        "import sys; sys.modules['numpy'] = sys.modules['pomona._native'] = None\n"
        "from emr.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "up", *FULL, "DRY_RUN=1"],
        env={"PYTHONPATH": TOOL_PATH, "HOME": "/home/me", "PATH": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "executorMemory" in done.stdout
    assert "/home/me/.cache/pomona/mobilenet_v2.onnx" in done.stdout


def test_a_mistake_of_the_tools_own_tells_what_runs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(aws: Any, settings: Any, stack: Any) -> None:
        stack.costs = "a cluster runs"
        raise ZeroDivisionError

    monkeypatch.setitem(tool.VERBS, "run", broken)
    with pytest.raises(ZeroDivisionError):
        tool.main(["run", "BUCKET=fruits-paris"])
    assert capsys.readouterr().err.splitlines()[-1] == "a cluster runs."


def test_a_region_outside_the_eu_is_allowed_to_who_insists():
    with pytest.raises(files.Stop, match="not in the European Union"):
        Settings.of(["BUCKET=fruits", "REGION=us-east-1", "ALLOW_REGION=0"], ["BUCKET"])
    script = dry("up", *FULL, "REGION=us-east-1", "ALLOW_REGION=1")
    assert "pomona-fruits-paris in us-east-1" in script


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("WHEELHOUSE=/nowhere", "make wheelhouse EMR=6.4.0"),
        ("MODEL=nothing", "pomona model pull nothing"),
        ("IMAGES=/nowhere", "is not a folder on this machine"),
    ],
)
def test_what_is_not_here_is_named(cloud: Cloud, account: Account, word: str, said: str):
    done = run(cloud, "up", *account.words(), word)
    assert done.code == 1
    assert said in done.errors
    assert not done.commands


def failing_up(cloud: Cloud, *words: str, **environment: str) -> str:
    done = run(cloud, "up", *words, **environment)
    assert done.code == 1
    writing = re.compile(r"(create|update|put|attach|authorize|add|sync|cp)\b")
    assert not [command for command in done.commands if writing.match(command[2])]
    assert "Nothing that costs money was created or started." in done.errors
    return done.errors


def test_no_aws_cli(cloud: Cloud, account: Account):
    said = failing_up(cloud, *account.words("another"), PATH="/nowhere")
    assert "the AWS CLI is not installed: install it" in said


def test_no_credentials(cloud: Cloud, account: Account):
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert "run `aws configure`" in failing_up(cloud, *account.words("another"), **nobody)


def test_credentials_that_aws_does_not_know(cloud: Cloud, account: Account):
    message = "The security token included in the request is invalid"
    code = "UnrecognizedClientException"
    cloud.rules.append(refusing("GetCallerIdentity", error(code, message)))
    said = failing_up(cloud, *account.words("another"))
    assert f"AWS does not accept these credentials in {REGION} ({code}: {message})" in said


def test_a_user_who_may_not(cloud: Cloud, account: Account):
    message = "User: arn:aws:iam::1:user/me is not authorized to perform: this"
    cloud.rules.append(refusing("ListReleaseLabels", refusal("AccessDeniedException", message)))
    said = failing_up(cloud, *account.words("another"))
    assert "your AWS user is not allowed to call ListReleaseLabels" in said
    assert message in said


def test_a_region_that_is_none(cloud: Cloud, account: Account):
    words = [*account.words("another"), "REGION=eu-west-33", "ALLOW_REGION=1"]
    # The real CLI, whose endpoint depends on the region.
    real = {"PATH": f"{ROOT}/.venv/aws/bin"}
    said = failing_up(cloud, *words, **real)
    assert "Check REGION=eu-west-33" in said


def test_a_release_that_aws_has_withdrawn(cloud: Cloud, account: Account):
    said = failing_up(cloud, *account.words("another"), "RELEASE=emr-6.4.9")
    assert f"AWS does not offer emr-6.4.9 in {REGION}" in said
    assert "RELEASE=emr-7.14.0" in said


@pytest.mark.parametrize("attribute", ["dns-hostnames", "dns-support"])
def test_a_network_without_names(cloud: Cloud, account: Account, attribute: str):
    change = ("ec2", "modify-vpc-attribute", "--vpc-id", account.vpc)
    cloud.aws(*change, f"--no-enable-{attribute}")
    try:
        said = failing_up(cloud, *account.words("another"))
    finally:
        cloud.aws(*change, f"--enable-{attribute}")
    assert f"the network {account.vpc} has enableDns" in said
    assert f"aws ec2 modify-vpc-attribute --vpc-id {account.vpc} --enable-{attribute}" in said


def test_a_key_pair_that_is_missing(cloud: Cloud, account: Account):
    said = failing_up(cloud, *account.words("another"), "KEY=lost")
    assert f"{REGION} has no key pair lost" in said
    assert "aws ec2 create-key-pair --key-name lost" in said


def test_a_subnet_that_is_missing(cloud: Cloud, account: Account):
    said = failing_up(cloud, *account.words("another", "subnet-0123456789abcdef0"))
    assert f"{REGION} has no subnet subnet-0123456789abcdef0" in said


def test_a_subnet_without_a_way_to_s3(cloud: Cloud, account: Account):
    said = failing_up(cloud, *account.words("another", account.cut_off))
    assert f"subnet {account.cut_off} has no route to S3" in said
    assert "aws ec2 create-vpc-endpoint" in said


def test_a_subnet_whose_machines_get_no_addresses(cloud: Cloud, account: Account):
    (there,) = cloud.aws("ec2", "describe-subnets", "--subnet-ids", account.public)["Subnets"]
    place = ("--vpc-id", there["VpcId"], "--cidr-block", "172.31.128.0/20")
    subnet = cloud.aws("ec2", "create-subnet", *place)["Subnet"]["SubnetId"]
    said = failing_up(cloud, *account.words("another", subnet))
    assert f"subnet {subnet} has an internet gateway but gives its machines no public" in said
    assert f"--subnet-id {subnet} --map-public-ip-on-launch" in said


def test_an_address_inside_the_users_own_network(cloud: Cloud, account: Account):
    said = failing_up(cloud, *account.words("another", ip="192.168.1.20"))
    assert "is an address inside your own network" in said


def test_a_bucket_of_someone_else(cloud: Cloud, account: Account):
    # Moto ignores the expected owner, and lets every account access all buckets.
    cloud.rules.append(refusing("HEAD /theirs", Answer(403, b"")))
    said = failing_up(cloud, *account.words("theirs"))
    assert "the bucket theirs belongs to someone else" in said
    assert "BUCKET=theirs-2" in said


def test_a_bucket_in_another_region(cloud: Cloud, account: Account):
    make_bucket(cloud, "irish", "eu-west-1")
    said = failing_up(cloud, *account.words("irish"))
    assert f"the bucket irish is in eu-west-1 and the cluster would be in {REGION}" in said


def test_a_bucket_that_is_open_to_the_public(cloud: Cloud, account: Account):
    make_bucket(cloud, "open", blocked=False)
    said = failing_up(cloud, *account.words("open"))
    assert "the bucket open allows public access" in said
