"""The EMR tool, with the real AWS CLI against a simulated AWS.

Rules simulate what moto does not: the states that a cluster or a step goes through, and requests
that EMR rejects. Tests compare the requests as they were sent.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

from cloud import ACCOUNT, REGION, ROOT, TOOL_PATH, Answer, Call, Cloud, emr, printed, refusal
from pomona import plan

MODEL = "MODEL=tests/data/tiny.onnx"
TAG = "for-use-with-amazon-emr-managed-policies"
#: YARN's memory on an m5.xlarge, in MiB (EMR's Release Guide, emr-hadoop-task-config).
YARN_MEMORY = 12_288
FULL = ("BUCKET=fruits-paris", "KEY=fruits", "SUBNET=subnet-0a1b2c3d", "MY_IP=203.0.113.7")


class Account(NamedTuple):
    """The resources of an AWS user before the first command."""

    public: str
    private: str
    cut_off: str
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

    @property
    def request(self) -> dict[str, Any]:
        (call,) = self.called("RunJobFlow")
        return call.body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    yield cloud
    cloud.stop()


@pytest.fixture
def cloud(server: Cloud) -> Iterator[Cloud]:
    yield server
    server.rules.clear()


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
    return Account(public["SubnetId"], private["SubnetId"], cut_off["SubnetId"], wheelhouse)


def run(cloud: Cloud, verb: str, *words: str, **environment: str) -> Done:
    calls, commands = len(cloud.calls), len(cloud.commands)
    done = emr(cloud, verb, *words, **environment)
    return Done(
        done.returncode, done.stdout, done.stderr, cloud.calls[calls:], cloud.commands[commands:]
    )


@pytest.fixture(scope="module")
def started(server: Cloud, account: Account) -> Done:
    """The first emr-up in an empty account."""
    done = run(server, "up", *account.words())
    assert done.code == 0, done.errors
    return done


@pytest.fixture
def running(cloud: Cloud, started: Done) -> Iterator[str]:
    """A running cluster, and the bucket `fruits-run` with a model and photos."""
    groups = ",".join(
        f"EmrManaged{kind}SecurityGroup="
        + started.request["Instances"][f"EmrManaged{kind}SecurityGroup"]
        for kind in ("Master", "Slave")
    )
    cluster = cloud.aws(
        *("emr", "create-cluster", "--name", "pomona-fruits-run", "--no-auto-terminate"),
        *("--release-label", "emr-6.4.0", "--service-role", "r", "--ec2-attributes", groups),
        *("--instance-type", "m5.xlarge", "--instance-count", "3"),
    )
    if b"fruits-run" not in cloud.aws("s3", "ls"):
        place = ("--create-bucket-configuration", f"LocationConstraint={REGION}")
        cloud.aws("s3api", "create-bucket", "--bucket", "fruits-run", *place)
        put(cloud, "models/tiny.onnx", b"a model")
        put(cloud, "Test/Apple/1.jpg", b"a photo")
    yield str(cluster["ClusterId"])
    cloud.aws("emr", "terminate-clusters", "--cluster-ids", cluster["ClusterId"])


def put(cloud: Cloud, key: str, content: bytes) -> None:
    path = cloud.folder / "object"
    path.write_bytes(content)
    cloud.aws("s3api", "put-object", "--bucket", "fruits-run", "--key", key, "--body", str(path))


def status_of(kind: str, *statuses: dict[str, Any]):
    """A rule: the status of a cluster or a step, one per request; the last one repeats."""
    left = list(statuses)

    def rule(call: Call, said: dict[str, Any] | None) -> dict[str, Any] | None:
        if call.action != f"Describe{kind}" or said is None:
            return None
        said[kind]["Status"] = left.pop(0) if len(left) > 1 else left[0]
        return said

    return rule


def refusing(action: str, *refusals: Answer):
    """A rule: the first calls of an action are rejected."""
    left = list(refusals)

    def rule(call: Call, said: dict[str, Any] | None) -> Answer | None:
        return left.pop(0) if call.action == action and said is None and left else None

    return rule


# emr-up


def test_the_cluster_is_what_was_asked_for(started: Done, account: Account):
    request = started.request
    assert request["ReleaseLabel"] == "emr-6.4.0"
    assert [application["Name"] for application in request["Applications"]] == [
        "Hadoop",
        "Spark",
        "Livy",
        "JupyterHub",
        "JupyterEnterpriseGateway",
    ]
    assert request["Instances"]["InstanceGroups"] == [
        {
            "Name": name,
            "InstanceRole": role,
            "InstanceCount": count,
            "InstanceType": "m5.xlarge",
            "Market": "ON_DEMAND",
        }
        for name, role, count in (("primary", "MASTER", 1), ("core", "CORE", 2))
    ]
    assert request["Instances"]["Ec2KeyName"] == "fruits"
    assert request["Instances"]["Ec2SubnetId"] == account.public
    assert request["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert request["LogUri"] == "s3://fruits-paris/logs/"
    assert {tag["Key"]: tag["Value"] for tag in request["Tags"]} == {
        TAG: "true",
        "Name": "pomona-fruits-paris",
        "project": "pomona",
    }


def test_every_node_runs_the_bootstrap(started: Done):
    (action,) = started.request["BootstrapActions"]
    assert action["ScriptBootstrapAction"] == {
        "Path": "s3://fruits-paris/bootstrap-emr.sh",
        "Args": [
            "s3://fruits-paris/wheelhouse/emr-6.4.0",
            *("--model", "s3://fruits-paris/models/tiny.onnx"),
            *("--target", "/opt/pomona"),
        ],
    }


def settings_of(request: dict[str, Any]) -> dict[str, dict[str, str]]:
    found = {}
    for entry in request["Configurations"]:
        found[entry["Classification"]] = entry["Properties"]
        for inner in entry.get("Configurations", []):
            found[f"{entry['Classification']}/{inner['Classification']}"] = inner["Properties"]
    return found


def test_spark_and_livy_use_the_python_that_the_bootstrap_makes(started: Done):
    (action,) = started.request["BootstrapActions"]
    python = f"{action['ScriptBootstrapAction']['Args'][-1]}/venv/bin/python"
    settings = settings_of(started.request)
    assert settings["spark-env/export"] == {"PYSPARK_PYTHON": python}
    assert settings["spark-defaults"]["spark.pyspark.python"] == python
    assert settings["spark-defaults"]["spark.pyspark.driver.python"] == python


def test_an_executor_and_a_driver_fit_a_node(started: Done):
    spark = settings_of(started.request)["spark-defaults"]

    def mebibytes(name: str) -> int:
        return int(re.fullmatch(r"(\d+)g", spark[name]).group(1)) * 1024

    executor = mebibytes("spark.executor.memory") + mebibytes("spark.executor.memoryOverhead")
    # Spark 3.1: a tenth of the driver's memory on top, 384 MiB at least.
    driver = mebibytes("spark.driver.memory") + 384
    assert executor + driver <= YARN_MEMORY
    assert spark["spark.executor.cores"] == "4"


def test_the_settings_in_the_repository_are_those_of_the_default_instance(started: Done):
    kept = json.loads((ROOT / "bootstrap" / "emr.json").read_text())
    text = json.dumps([entry for entry in kept if entry["Classification"] != "yarn-site"])
    filled = text.replace("${BUCKET}", "fruits-paris").replace("${VENV}", "/opt/pomona/venv")
    assert started.request["Configurations"] == json.loads(filled)


def test_another_instance_gets_the_settings_of_the_plan():
    script = dry("up", *FULL, "INSTANCE=c5.2xlarge", PATH="/nowhere")
    assert script.count("InstanceType=c5.2xlarge") == 2
    (text,) = re.findall(r"emr.json <<END\n(.*?)\nEND\n", script, re.DOTALL)
    (spark,) = [x for x in json.loads(text) if x["Classification"] == "spark-defaults"]
    assert spark["Properties"].items() >= plan.spark_settings("c5.2xlarge").items()
    assert re.search(r"# The cluster. About \$\d\.\d\d per hour \(EC2's prices of 20", script)


def test_notebooks_are_kept_in_the_bucket(started: Done, server: Cloud):
    kept = settings_of(started.request)["jupyter-s3-conf"]
    assert kept == {"s3.persistence.enabled": "true", "s3.persistence.bucket": "fruits-paris"}
    listed = server.aws("s3", "ls", "s3://fruits-paris", "--recursive").decode()
    assert {line.split()[-1] for line in listed.splitlines()} == {
        "bootstrap-emr.sh",
        "emr.json",
        "jupyter/jovyan/fruits_on_emr.fr.ipynb",
        "jupyter/jovyan/fruits_on_emr.ipynb",
        "models/tiny.onnx",
        "pomona_job.py",
        "wheelhouse/emr-6.4.0/SHA256SUMS",
        "wheelhouse/emr-6.4.0/a.whl",
    }


def test_the_bucket_is_private_and_encrypted_and_drops_unfinished_uploads(
    started: Done, server: Cloud
):
    bucket = ("--bucket", "fruits-paris")
    where = server.aws("s3api", "get-bucket-location", *bucket)
    assert where["LocationConstraint"] == REGION
    block = server.aws("s3api", "get-public-access-block", *bucket)
    assert set(block["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(block["PublicAccessBlockConfiguration"]) == 4
    encryption = server.aws("s3api", "get-bucket-encryption", *bucket)
    (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    (rule,) = server.aws("s3api", "get-bucket-lifecycle-configuration", *bucket)["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}


def test_the_nodes_may_use_this_bucket_and_nothing_else(started: Done, server: Cloud):
    role = started.request["JobFlowRole"]
    named = ("--role-name", role)
    inline = server.aws("iam", "list-role-policies", *named)["PolicyNames"]
    assert server.aws("iam", "list-attached-role-policies", *named)["AttachedPolicies"] == []
    (name,) = inline
    policy = server.aws("iam", "get-role-policy", *named, "--policy-name", name)["PolicyDocument"]
    for statement in policy["Statement"]:
        assert re.fullmatch(r"arn:aws:s3:::fruits-paris(/\*)?", statement["Resource"])
        for action in statement["Action"]:
            assert re.fullmatch(r"s3:\w+", action)
            # Actions on a bucket need the bucket as resource, actions on objects the objects.
            assert ("Bucket" in action) == (not statement["Resource"].endswith("/*"))
    trust = server.aws("iam", "get-role", *named)["Role"]["AssumeRolePolicyDocument"]
    assert [s["Principal"] for s in trust["Statement"]] == [{"Service": "ec2.amazonaws.com"}]
    profile = server.aws("iam", "get-instance-profile", "--instance-profile-name", role)
    assert [role["RoleName"] for role in profile["InstanceProfile"]["Roles"]] == [role]


def test_emr_itself_has_the_scoped_policy_and_may_pass_on_one_role(started: Done, server: Cloud):
    named = ("--role-name", started.request["ServiceRole"])
    attached = server.aws("iam", "list-attached-role-policies", *named)["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AmazonEMRServicePolicy_v2"]
    found = server.aws("iam", "get-role-policy", *named, "--policy-name", "emr-pass-role")
    (statement,) = found["PolicyDocument"]["Statement"]
    assert statement["Action"] == "iam:PassRole"
    assert statement["Resource"] == f"arn:aws:iam::{ACCOUNT}:role/{started.request['JobFlowRole']}"
    trust = server.aws("iam", "get-role", *named)["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    assert statement["Principal"] == {"Service": "elasticmapreduce.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}


def rules_of(cloud: Cloud, group: str) -> list[dict[str, Any]]:
    found = cloud.aws("ec2", "describe-security-groups", "--group-ids", group)
    return list(found["SecurityGroups"][0]["IpPermissions"])


def test_the_only_way_in_is_ssh_from_one_address(started: Done, server: Cloud, account: Account):
    instances = started.request["Instances"]
    primary, core = (instances[f"EmrManaged{kind}SecurityGroup"] for kind in ("Master", "Slave"))
    from_addresses = [
        (rule.get("FromPort"), rule.get("ToPort"), address["CidrIp"])
        for group in (primary, core)
        for rule in rules_of(server, group)
        for address in rule["IpRanges"]
    ]
    assert from_addresses == [(22, 22, "203.0.113.7/32")]
    for resource in (primary, core, account.public):
        tagged = ("--filters", f"Name=resource-id,Values={resource}", f"Name=key,Values={TAG}")
        (tag,) = server.aws("ec2", "describe-tags", *tagged)["Tags"]
        assert tag["Value"] == "true"


def test_every_call_is_printed_as_it_is_made(started: Done):
    assert started.commands
    assert printed(started.output) == started.commands


def test_it_says_how_to_connect(started: Done):
    host = re.search(r"hadoop@(\S+)", started.output).group(1)
    assert f"ssh -i ~/.ssh/fruits.pem -N -D 8157 hadoop@{host}" in started.output
    for page in ("https://HOST:9443", "http://HOST:18080", "http://HOST:8088"):
        assert page.replace("HOST", host) in started.output
    for page in ("http://HOST:8998", "http://HOST:9870"):
        assert page.replace("HOST", host) in started.output


def test_a_second_one_starts_nothing_and_lets_only_the_new_address_in(
    started: Done, cloud: Cloud, account: Account
):
    again = run(cloud, "up", *account.words(ip="203.0.113.8"))
    assert again.code == 0
    assert not again.called("RunJobFlow")
    assert not [call for call in again.calls if call.action.startswith("PUT")]
    ssh = [
        address["CidrIp"]
        for rule in rules_of(cloud, started.request["Instances"]["EmrManagedMasterSecurityGroup"])
        for address in rule["IpRanges"]
    ]
    assert ssh == ["203.0.113.8/32"]
    assert "is already running" in again.output
    assert re.search(r"ssh .* hadoop@", again.output)


def test_a_cluster_that_does_not_start_is_told_with_its_reason_and_its_log(
    started: Done, cloud: Cloud, account: Account, running: str
):
    message = "On the master instance (i-0abc1), bootstrap action 1 returned a non-zero return code"
    reason = {"Code": "BOOTSTRAP_FAILURE", "Message": message}
    log = gzip.compress(b"many lines\nPOMONA BOOTSTRAP FAILED on ip-10-0-0-1\n")
    put(cloud, f"logs/{running}/node/i-0abc1/bootstrap-actions/1/stderr.gz", log)
    cloud.rules.append(
        status_of(
            "Cluster",
            {"State": "STARTING"},
            {"State": "BOOTSTRAPPING"},
            {"State": "TERMINATED_WITH_ERRORS", "StateChangeReason": reason},
        )
    )
    failed = run(cloud, "up", *account.words("fruits-run"))
    assert failed.code == 1
    assert "BOOTSTRAP_FAILURE" in failed.errors
    assert message in failed.errors
    assert f"s3://fruits-run/logs/{running}/" in failed.errors
    assert "is terminated and costs nothing" in failed.errors
    assert "COSTS MONEY" not in failed.errors
    assert "| POMONA BOOTSTRAP FAILED on ip-10-0-0-1" in failed.output
    assert "BOOTSTRAPPING" in failed.output


def test_who_stops_waiting_is_told_that_the_cluster_goes_on(
    cloud: Cloud, account: Account, running: str
):
    cloud.rules.append(status_of("Cluster", {"State": "STARTING"}))
    waiting = subprocess.Popen(
        [sys.executable, "-m", "emr", "up", *account.words("fruits-run"), "EVERY=0.1"],
        cwd=ROOT,
        env=cloud.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with waiting:
        for line in waiting.stdout:
            if line.endswith(" STARTING\n"):
                break
        # Like Ctrl-C in a terminal: to the command and to the AWS CLI that it runs.
        os.killpg(waiting.pid, signal.SIGINT)
        errors = waiting.stderr.read()
    assert waiting.returncode == 130
    assert f"cluster {running}: IT COSTS MONEY until make emr-down BUCKET=fruits-run" in errors
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def refused(server: Cloud, account: Account) -> Done:
    """A cluster with spot nodes in a private subnet, which EMR rejects for two reasons."""
    server.rules.append(
        refusing(
            "RunJobFlow",
            refusal("ValidationException", "Invalid InstanceProfile: pomona-orchard-nodes."),
            refusal("ValidationException", "Instance type 'm5.xlarge' is not supported."),
        )
    )
    words = account.words("orchard", account.private)
    done = run(server, "up", *words, "TASKS=3", "WORKERS=4", "IDLE=600")
    server.rules.clear()
    assert done.called("RunJobFlow"), done.errors
    return done


def test_roles_that_are_not_known_everywhere_yet_are_waited_for(refused: Done):
    assert len(refused.called("RunJobFlow")) == 2
    assert "does not know the new roles yet" in refused.output


def test_a_failure_half_way_says_what_was_made_and_what_it_costs(refused: Done):
    assert refused.code == 1
    assert (
        "EMR rejected the cluster (ValidationException: Instance type 'm5.xlarge'" in refused.errors
    )
    assert "so none is running" in refused.errors
    made = refused.errors.partition("Created or running now:")[2]
    assert "bucket orchard: its content costs money" in made
    assert "role pomona-orchard-nodes: free" in made
    assert "role pomona-orchard-emr: free" in made
    assert "(pomona-orchard-primary): free" in made
    assert "COSTS MONEY" not in refused.errors
    assert "possibly" not in refused.errors


def test_an_answer_that_is_lost_leaves_perhaps_a_cluster(cloud: Cloud, account: Account):
    cloud.rules.append(refusing("RunJobFlow", Answer(500, b'{"__type": "InternalFailure"}')))
    done = run(cloud, "up", *account.words("lost"), AWS_MAX_ATTEMPTS="1")
    assert done.code == 1
    assert "A cluster may have been started" in done.errors
    assert "possibly a cluster pomona-lost, which would cost money: make emr-down" in done.errors
    assert "Nothing that costs money was created or started" not in done.errors


def test_spot_nodes_are_for_tasks_only_and_the_driver_is_not_on_them(refused: Done, started: Done):
    request = refused.called("RunJobFlow")[-1].body
    markets = {
        group["InstanceRole"]: (group["Market"], group["InstanceCount"])
        for group in request["Instances"]["InstanceGroups"]
    }
    assert markets == {"MASTER": ("ON_DEMAND", 1), "CORE": ("ON_DEMAND", 4), "TASK": ("SPOT", 3)}
    assert settings_of(request)["yarn-site"] == {
        "yarn.node-labels.enabled": "true",
        "yarn.node-labels.am.default-node-label-expression": "CORE",
    }
    assert "yarn-site" not in settings_of(started.request)
    assert refused.called("CreateServiceLinkedRole")
    assert not started.called("CreateServiceLinkedRole")
    assert request["AutoTerminationPolicy"] == {"IdleTimeout": 600}


def test_a_private_subnet_gets_a_group_for_the_calls_of_emr(
    refused: Done, started: Done, server: Cloud
):
    instances = refused.called("RunJobFlow")[-1].body["Instances"]
    group = instances["ServiceAccessSecurityGroup"]
    opened = [rule for rule in rules_of(server, group) if rule.get("FromPort") == 9443]
    (rule,) = opened
    from_groups = [pair["GroupId"] for pair in rule["UserIdGroupPairs"]]
    assert from_groups == [instances["EmrManagedMasterSecurityGroup"]]
    assert "ServiceAccessSecurityGroup" not in started.request["Instances"]


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


@pytest.mark.parametrize("verb", ["up", "run", "down"])
def test_a_dry_run_needs_no_cli_no_credentials_and_no_wheel(verb: str):
    script = dry(verb, *FULL, PATH="/nowhere")
    assert subprocess.run(["bash", "-n"], input=script.encode(), check=True)
    assert "aws emr " in script


def test_a_dry_run_asks_aws_nothing(cloud: Cloud, account: Account):
    done = run(cloud, "up", *account.words("fruits-dry"), "DRY_RUN=1")
    assert done.code == 0
    assert not done.commands
    assert not done.calls


def test_what_a_dry_run_prints_is_a_script_that_does_the_same(
    started: Done, cloud: Cloud, account: Account
):
    script = dry("up", *account.words("fruits-dry"))
    before = len(cloud.calls)
    done = subprocess.run(
        ["bash"],
        input=script,
        cwd=ROOT,
        env=cloud.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    (call,) = [call for call in cloud.calls[before:] if call.action == "RunJobFlow"]

    def comparable(request: dict[str, Any], bucket: str) -> str:
        text = json.dumps(request).replace(bucket, "BUCKET")
        return re.sub(r"sg-[0-9a-f]+", "GROUP", text)

    assert comparable(call.body, "fruits-dry") == comparable(started.request, "fruits-paris")
    assert re.search(r"ssh .* hadoop@ec2-", done.stdout)


def test_make_passes_on_what_it_is_told():
    words = [*FULL, "TASKS=2", "IDLE=900", "RELEASE=emr-6.15.0"]
    # A nested make prints its directory.
    alone = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    done = subprocess.run(
        ["make", "emr-up", *words, "DRY_RUN=1"],
        cwd=ROOT,
        env=alone,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout == dry("up", *words, HOME=str(Path.home()), PATH="/nowhere")
    for expected in ("emr-6.15.0", "IdleTimeout=900", "InstanceCount=2,InstanceType=m5.xlarge,Bid"):
        assert expected in done.stdout


def test_make_passes_on_quotes_and_refuses_what_cannot_be_before_it_builds():
    alone = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    options = {"cwd": ROOT, "env": alone, "capture_output": True, "text": True, "check": False}
    words = [*FULL, "MODEL=./weights.h5"]
    refused = subprocess.run(["make", "emr-up", *words, "RELEASE=emr-6.99.0"], **options)
    assert refused.returncode == 2
    assert "MODEL=./weights.h5 is neither the name of a pulled model nor an .onnx" in refused.stderr
    assert not refused.stdout
    quoted = ["BUCKET=fruits-paris", "ARGS=--label 'a fig' --by \"it's\"", "DRY_RUN=1"]
    done = subprocess.run(["make", "emr-run", *quoted], **options)
    assert done.returncode == 0, done.stderr
    assert """"--label", "a fig", "--by", "it'"'"'s"]""" in done.stdout


def test_it_says_how_to_go_on_with_what_was_told():
    told = [*FULL, "REGION=eu-west-1", "MODEL=efficientnet_lite0", "IMAGES=fruits/Train"]
    script = dry("up", *told, PATH="/nowhere")
    place = "BUCKET=fruits-paris REGION=eu-west-1"
    images = "IMAGES=s3://fruits-paris/Train"
    assert f"make emr-run {place} MODEL=efficientnet_lite0 {images}\n" in script
    assert f"make emr-down {place}\n" in script
    # The notebook has other paths.
    assert 'PHOTOS = "s3://fruits-paris/Train"\n' in script
    assert 'MODEL = "s3://fruits-paris/models/efficientnet_lite0.onnx"\n' in script


# emr-run


def test_the_job_is_a_step_that_is_followed_to_its_end(cloud: Cloud, running: str):
    cloud.rules.append(
        status_of("Step", {"State": "PENDING"}, {"State": "RUNNING"}, {"State": "COMPLETED"})
    )
    done = run(cloud, "run", "BUCKET=fruits-run", MODEL, "ARGS=--variance 0.9 --no-resume")
    assert done.code == 0, done.errors
    (call,) = done.called("AddJobFlowSteps")
    (step,) = call.body["Steps"]
    assert step["ActionOnFailure"] == "CONTINUE"
    assert step["HadoopJarStep"]["Jar"] == "command-runner.jar"
    assert step["HadoopJarStep"]["Args"] == [
        "spark-submit",
        *("--deploy-mode", "cluster"),
        *("--name", "pomona run"),
        "s3://fruits-run/pomona_job.py",
        *("--images", "s3://fruits-run/Test"),
        *("--output", "s3://fruits-run/results"),
        *("--model", "s3://fruits-run/models/tiny.onnx"),
        *("--variance", "0.9", "--no-resume"),
    ]
    assert len(done.called("DescribeStep")) == 3
    states = re.findall(r"^  [\d:]{8} (\w+)$", done.output, re.MULTILINE)
    assert states == ["PENDING", "RUNNING", "COMPLETED"]
    assert "s3://fruits-run/results" in done.output
    assert "make emr-down" in done.output


def test_a_job_that_fails_shows_the_drivers_log_and_fails_too(cloud: Cloud, running: str):
    application = "application_1700000000000_0001"

    def logs_come(call: Call, said: dict[str, Any] | None) -> None:
        if call.action == "DescribeStep" and said is None:
            step = call.body["StepId"]
            told = gzip.compress(f"Submitted {application}\nexit status 1\n".encode())
            path = cloud.folder / "log"
            for key, content in (
                (f"logs/{running}/steps/{step}/stderr.gz", told),
                (
                    f"logs/{running}/containers/{application}/"
                    f"container_1700000000000_0001_01_000001/stdout.gz",
                    gzip.compress(b"pomona run: there are no photos in s3://fruits-run/Test\n"),
                ),
            ):
                path.write_bytes(content)
                body = ("--bucket", "fruits-run", "--key", key, "--body", str(path))
                cloud.aws("s3api", "put-object", *body)

    failure = {"Reason": "Unknown Error.", "LogFile": "s3://fruits-run/logs/x"}
    cloud.rules += [
        logs_come,
        status_of("Step", {"State": "FAILED", "FailureDetails": failure}),
    ]
    done = run(cloud, "run", "BUCKET=fruits-run", MODEL)
    assert done.code == 1
    assert "| pomona run: there are no photos in s3://fruits-run/Test" in done.output
    assert "FAILED: Unknown Error." in done.errors
    assert f"s3://fruits-run/logs/{running}/steps/" in done.errors
    assert f"cluster {running}: IT COSTS MONEY until make emr-down BUCKET=fruits-run" in done.errors


def test_a_job_without_photos_or_model_is_not_submitted(cloud: Cloud, running: str):
    nowhere = run(cloud, "run", "BUCKET=fruits-run", MODEL, "IMAGES=s3://fruits-run/None")
    assert nowhere.code == 1
    assert "s3://fruits-run/None has no photos" in nowhere.errors
    other = run(cloud, "run", "BUCKET=fruits-run", "MODEL=another")
    assert other.code == 1
    assert "the model s3://fruits-run/models/another.onnx does not exist" in other.errors
    assert not nowhere.called("AddJobFlowSteps") + other.called("AddJobFlowSteps")


def test_a_job_without_a_cluster_says_how_to_start_one(cloud: Cloud):
    done = run(cloud, "run", "BUCKET=nobodys-fruits", MODEL)
    assert done.code == 1
    assert "no cluster pomona-nobodys-fruits is running in eu-west-3: start one with" in done.errors


# emr-down


def test_the_cluster_ends_and_what_still_costs_money_is_said(cloud: Cloud, running: str):
    address = cloud.aws("ec2", "allocate-address", "--domain", "vpc")
    done = run(cloud, "down", "BUCKET=fruits-run")
    assert done.code == 0, done.errors
    state = cloud.aws("emr", "describe-cluster", "--cluster-id", running)
    assert state["Cluster"]["Status"]["State"] == "TERMINATED"
    assert re.search(r"content of s3://fruits-run costs money: Total Objects: \d+", done.output)
    assert f"Elastic IP {address['PublicIp']} is unused and costs money" in done.output
    assert "aws s3 rb s3://fruits-run --force" in done.output
    again = run(cloud, "down", "BUCKET=fruits-run")
    assert again.code == 0
    assert "No cluster pomona-fruits-run is running" in again.output
    assert not again.called("TerminateJobFlows")
    cloud.aws("ec2", "release-address", "--allocation-id", address["AllocationId"])


def test_a_cluster_that_may_not_be_ended_goes_on_costing_money(cloud: Cloud, running: str):
    protected = "Could not shut down one or more job flows since they are termination protected."
    cloud.rules.append(refusing("TerminateJobFlows", refusal("ValidationException", protected)))
    done = run(cloud, "down", "BUCKET=fruits-run")
    assert done.code == 1
    assert protected in done.errors
    assert f"cluster {running}: IT COSTS MONEY until make emr-down BUCKET=fruits-run" in done.errors


def test_who_cannot_end_anything_is_not_told_that_nothing_costs_money(cloud: Cloud):
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = run(cloud, "down", "BUCKET=fruits-run", **nobody)
    assert done.code == 1
    assert "run `aws configure`" in done.errors
    assert "Nothing was terminated: a running cluster still costs money." in done.errors


def test_the_way_to_remove_the_rest_works(refused: Done, cloud: Cloud):
    done = run(cloud, "down", "BUCKET=orchard")
    removal = done.output.partition("To delete the photos")[2]
    script = "\n".join(line for line in removal.splitlines() if line.startswith("  "))
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=cloud.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert b"orchard" not in cloud.aws("s3", "ls")
    roles = [role["RoleName"] for role in cloud.aws("iam", "list-roles")["Roles"]]
    assert not [role for role in roles if "orchard" in role]
    groups = cloud.aws("ec2", "describe-security-groups")["SecurityGroups"]
    assert not [group["GroupName"] for group in groups if "orchard" in group["GroupName"]]


# Bad input


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("BUCKET=Fruits", "bucket names have no upper-case letters; use BUCKET=fruits"),
        ("BUCKET=s3://fruits", "give the name only"),
        ("BUCKET=my.fruits", "no dots"),
        ("BUCKET=", "BUCKET must be given, for example BUCKET=fruits-paris"),
        ("KEY=", "KEY must be given"),
        ("REGION=us-east-1", "not in the European Union"),
        ("REGION=eu-west-2", "not in the European Union"),
        ("REGION=eu-central-2", "not in the European Union"),
        ("MY_IP=0.0.0.0", "not the address of one machine"),
        ("MY_IP=0.0.0.0/0", "is not an IPv4 address"),
        ("MY_IP=me", "is not an IPv4 address"),
        ("SUBNET=vpc-123", "is not a subnet id"),
        ("RELEASE=6.4.0", "is not a release label such as emr-6.4.0"),
        ("WORKERS=0", "must be a whole number from 1 to 1,000"),
        ("TASKS=two", "must be a whole number from 0 to 1,000"),
        ("IDLE=30", "must be a whole number from 60 to 604,800"),
        ("IMAGES=s3://others/Test", "is not in s3://fruits-paris"),
        ("IMAGES=s3://fruits-paris//Test", "has a double slash"),
        ("OUTPUT=s3://others/out", "is not in s3://fruits-paris"),
        ("ARGS=--variance '0.9", "cannot be split into options: No closing quotation"),
        ("EVERY=often", "is not a number of seconds"),
        ("MODEL=./weights.h5", "pomona model convert ./weights.h5 -o NAME.onnx"),
        ("MODEL=./my,model.onnx", "is not a valid file name on the nodes: rename the file"),
        ("WORKER=2", "is not one of BUCKET=…"),
    ],
)
def test_what_cannot_be_is_refused_before_aws_is_asked(word: str, said: str):
    name = word.partition("=")[0]
    others = [other for other in FULL if not other.startswith(f"{name}=")]
    done = subprocess.run(
        [sys.executable, "-m", "emr", "up", *others, word],
        env={"PYTHONPATH": TOOL_PATH, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert not done.stdout


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
    assert "spark.executor.memory" in done.stdout
    assert "/home/me/.cache/pomona/mobilenet_v2.onnx" in done.stdout


def test_a_mistake_of_the_tools_own_tells_what_runs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from emr import __main__ as tool

    def broken(aws: Any, settings: Any) -> None:
        aws.made.append("a cluster")
        raise ZeroDivisionError

    monkeypatch.setitem(tool.VERBS, "run", broken)
    with pytest.raises(ZeroDivisionError):
        tool.main(["run", "BUCKET=fruits-paris"])
    assert capsys.readouterr().err.splitlines()[-2:] == ["Created or running now:", "  a cluster"]


def test_a_region_outside_the_eu_is_allowed_to_who_insists():
    from emr.errors import Stop
    from emr.settings import Settings

    with pytest.raises(Stop, match="not in the European Union"):
        Settings.of(["BUCKET=fruits", "REGION=us-east-1", "ALLOW_REGION=0"], ["BUCKET"])
    script = dry("up", *FULL, "REGION=us-east-1", "ALLOW_REGION=1")
    assert "--region us-east-1" in script
    assert "LocationConstraint" not in script.partition("create-bucket")[2].partition("\nfi")[0]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("WHEELHOUSE=/nowhere", "make wheelhouse EMR=6.4.0"),
        ("MODEL=nothing", "pomona model pull nothing"),
        ("INSTANCE=m1.tiny", "unknown instance type 'm1.tiny'"),
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
    assert not done.called("RunJobFlow")
    writing = re.compile(r"(create|put|attach|authorize|add|sync|cp)\b")
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
    cloud.rules.append(refusing("ListClusters", refusal(code, message)))
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
    assert "RELEASE=emr-6.15.0" in said


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


def test_a_bucket_that_someone_else_was_quicker_to_make(cloud: Cloud, account: Account):
    exists = b"<Error><Code>BucketAlreadyExists</Code><Message>not yours</Message></Error>"
    cloud.rules.append(refusing("PUT /taken", Answer(409, exists)))
    done = run(cloud, "up", *account.words("taken"))
    assert done.code == 1
    assert "the bucket taken belongs to someone else" in done.errors
    assert not done.called("RunJobFlow")


def test_a_bucket_in_another_region(cloud: Cloud, account: Account):
    place = ("--create-bucket-configuration", "LocationConstraint=eu-west-1")
    cloud.aws("s3api", "create-bucket", "--bucket", "irish", *place, "--region", "eu-west-1")
    said = failing_up(cloud, *account.words("irish"))
    assert f"the bucket irish is in eu-west-1 and the cluster would be in {REGION}" in said


def test_a_bucket_that_is_open_to_the_public(cloud: Cloud, account: Account):
    place = ("--create-bucket-configuration", f"LocationConstraint={REGION}")
    cloud.aws("s3api", "create-bucket", "--bucket", "open", *place)
    blocked = ("--public-access-block-configuration", "BlockPublicAcls=false,IgnorePublicAcls=true")
    cloud.aws("s3api", "put-public-access-block", "--bucket", "open", *blocked)
    said = failing_up(cloud, *account.words("open"))
    assert "the bucket open allows public access" in said
