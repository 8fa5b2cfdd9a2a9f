"""The CloudFormation template of the cluster, deployed to a simulated AWS with both AWS CLIs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Iterator, NamedTuple

import pytest

import aws_cli
from cloud import BIN, REGION, ROOT
from pomona import plan
from services import Service, free_port

TEMPLATE = ROOT / "bootstrap" / "cluster.yaml"
#: CloudFormation's limit for a template that is part of the request, in bytes.
MAX_TEMPLATE = 51_200
#: Version 2 of the CLI, from Debian's package. Other programs called `aws` may be version 1.
CLI_2 = Path("/usr/bin/aws")
TAG = {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"}
NO_MACHINE = "0.0.0.0"  # noqa: S104 - not to listen on


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """The template as cfn-lint reads it, with the long forms of all functions."""
    program = (
        "import json, sys, cfnlint.decode.cfn_yaml as y; print(json.dumps(y.load(sys.argv[1])))"
    )
    done = subprocess.run(
        [BIN / "python", "-c", program, TEMPLATE], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


class Moto(NamedTuple):
    """A simulated AWS, and an AWS CLI that talks to it."""

    url: str
    folder: Path
    cli: Path

    def __call__(self, *words: str) -> Any:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout or "null")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return subprocess.run(
            [str(self.cli), "--endpoint-url", self.url, "--output", "json", *words],
            env={
                **kept,
                "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "AWS_DEFAULT_REGION": REGION,
                "AWS_MAX_ATTEMPTS": "1",
                "AWS_PAGER": "",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def stack(self, verb: str, name: str, **parameters: str) -> None:
        values = [{"ParameterKey": key, "ParameterValue": parameters[key]} for key in parameters]
        self(
            "cloudformation",
            f"{verb}-stack",
            *("--stack-name", name, "--capabilities", "CAPABILITY_IAM"),
            *("--template-body", f"file://{TEMPLATE}", "--parameters", json.dumps(values)),
        )

    def read(self, name: str) -> dict[str, Any]:
        return self("cloudformation", "describe-stacks", "--stack-name", name)["Stacks"][0]

    def outputs(self, name: str) -> dict[str, str]:
        return {one["OutputKey"]: one["OutputValue"] for one in self.read(name)["Outputs"]}

    def resources(self, name: str) -> dict[str, Any]:
        """The resolved properties of a stack's resources, by logical id."""
        return json.loads((self.folder / "resources.json").read_text())[name]

    def network(self) -> dict[str, str]:
        subnet = self("ec2", "describe-subnets")["Subnets"][0]
        return {"Vpc": subnet["VpcId"], "Subnet": subnet["SubnetId"]}

    def left(self) -> dict[str, list[str]]:
        """Names of everything in the account that a stack makes."""
        groups = self("ec2", "describe-security-groups", "--query", "SecurityGroups[].GroupName")
        return {
            "buckets": self("s3api", "list-buckets", "--query", "Buckets[].Name"),
            "groups": [name for name in groups if name.startswith("pomona-")],
            "roles": self("iam", "list-roles", "--query", "Roles[].RoleName"),
            "profiles": self("iam", "list-instance-profiles")["InstanceProfiles"],
        }


def start(folder: Path, *server: str) -> tuple[Service, str]:
    port = free_port()
    service = Service(
        [*server, "-H", "127.0.0.1", "-p", str(port)],
        folder / "moto.log",
        {**os.environ, "MOTO_FOLDER": str(folder), "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"},
    )
    service.says(r"Running on (http://127.0.0.1)")
    return service, f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def loaded_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Version 1 of the CLI, loaded only once."""
    folder = tmp_path_factory.mktemp("cli")
    socket = str(folder / "socket")
    service = Service(
        [str(BIN / "python"), aws_cli.__file__, socket], folder / "log", dict(os.environ)
    )
    service.says("(ready)")
    client = aws_cli.CLIENT.format(path=socket, log=str(folder / "calls"), words=[])
    script = folder / "aws"
    script.write_text(f"#!{BIN}/python -IS\n{client}")
    script.chmod(0o755)
    yield script
    service.kill()


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory, loaded_cli: Path) -> Iterator[Moto]:
    folder = tmp_path_factory.mktemp("moto")
    server = (str(BIN / "python"), str(ROOT / "tests" / "support" / "moto_server.py"))
    service, url = start(folder, *server)
    yield Moto(url, folder, loaded_cli)
    service.kill()


@pytest.fixture(params=["version 1", "version 2"])
def cli(request: pytest.FixtureRequest, moto: Moto) -> Moto:
    """The simulated AWS with each version of the CLI."""
    if request.param == "version 1":
        return moto
    if not CLI_2.exists():
        pytest.skip(f"needs version 2 of the AWS CLI as {CLI_2}: apt-get install awscli")
    moto = moto._replace(cli=CLI_2)
    version = moto.run("--version").stdout
    if not version.startswith("aws-cli/2."):
        pytest.skip(f"needs version 2 of the AWS CLI as {CLI_2}, which is {version.strip()}")
    return moto


def test_cfn_lint_has_nothing_to_say_about_the_template() -> None:
    command = [BIN / "cfn-lint", "--regions", REGION, "--", *TEMPLATE.parent.glob("*.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_request_has_room_for_the_template() -> None:
    assert len(TEMPLATE.read_bytes()) < MAX_TEMPLATE


def test_every_parameter_is_described_grouped_and_labelled(template: dict[str, Any]) -> None:
    interface = template["Metadata"]["AWS::CloudFormation::Interface"]
    grouped = [name for group in interface["ParameterGroups"] for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"]) == sorted(interface["ParameterLabels"])
    for name, parameter in template["Parameters"].items():
        assert parameter["Description"], name
        assert "AllowedPattern" not in parameter or parameter["ConstraintDescription"], name


def test_the_mapping_has_the_settings_of_plan_for_every_instance(template: dict[str, Any]) -> None:
    mapping = template["Mappings"]["Instances"]
    assert list(mapping) == list(plan.instances())
    assert template["Parameters"]["Instance"]["AllowedValues"] == list(mapping)
    fixed = properties_of(template, "spark-defaults")
    for name, row in mapping.items():
        wanted = plan.spark_settings(name)
        assert row["Driver"] == wanted.pop("spark.driver.memory"), name
        assert row["Executor"] == wanted.pop("spark.executor.memory"), name
        assert row["Overhead"] == wanted.pop("spark.executor.memoryOverhead"), name
        assert wanted.items() <= fixed.items(), name


def properties_of(template: dict[str, Any], classification: str) -> dict[str, Any]:
    entries = template["Resources"]["EmrCluster"]["Properties"]["Configurations"]
    (entry,) = (one for one in entries if one.get("Classification") == classification)
    return entry["ConfigurationProperties"]


def test_the_mapping_has_the_spot_types_of_plan(template: dict[str, Any]) -> None:
    for name, row in template["Mappings"]["Instances"].items():
        assert (row["Spot2"], row["Spot3"]) == plan.instances()[name].alternatives


def test_an_instance_type_that_needs_a_later_release_is_refused_by_a_rule(
    template: dict[str, Any],
) -> None:
    rule = template["Rules"]["ReleaseHasInstance"]
    types, _ = rule["RuleCondition"]["Fn::Contains"]
    assert types == [name for name, one in plan.instances().items() if one.emr_since]
    releases, _ = rule["Assertions"][0]["Assert"]["Fn::Not"][0]["Fn::Contains"]
    for release in releases:
        with pytest.raises(
            ValueError, match=f"needs EMR release emr-6.6.0 or later, not {release}"
        ):
            plan.check_release("m6i.xlarge", release)


SAMPLES = {
    "Bucket": (
        ["abc", "fruits-paris", "a" * 63],
        ["ab", "Fruits", "fruits.paris", "-fruits", "fruits-", "a" * 64, "s3://fruits", ""],
    ),
    "KmsKey": (
        ["", "arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"],
        ["1234abcd", "arn:aws:kms:eu-west-3:123456789012:alias/photos", "arn:aws:s3:::fruits"],
    ),
    "KeyPair": (["", "fruits", "my key"], [" fruits", "fruits ", "clé"]),
    "MyAddress": (
        ["", "203.0.113.7", "10.0.0.1", "223.255.255.255"],
        [
            *(NO_MACHINE, "127.0.0.1", "224.0.0.1", "255.255.255.255", "203.0.113.256"),
            *("203.0.113.7/32", "203.0.113", "203.0.113.07", "203.0.113.7.", "2001:db8::1"),
        ],
    ),
    "Release": (
        ["emr-6.4.0", "emr-6.15.0", "emr-7.14.0"],
        ["6.4.0", "emr-5.36.0", "emr-6.4", "emr-6.4.0 ", "emr-spark-8.0.0"],
    ),
    "Model": (
        ["mobilenet_v2.onnx", "my-model.v2.onnx"],
        [".onnx/", "a,b.onnx", "my model.onnx", "models/a.onnx", "model.keras"],
    ),
    "AlarmEmail": (["", "lea@example.org"], ["lea", "lea@example", "a b@example.org", "@x.org"]),
}


def test_patterns_accept_good_values_and_refuse_bad_ones(template: dict[str, Any]) -> None:
    patterns = {
        name: one["AllowedPattern"]
        for name, one in template["Parameters"].items()
        if "AllowedPattern" in one
    }
    assert list(patterns) == list(SAMPLES)
    for name, (good, bad) in SAMPLES.items():
        bounds = template["Parameters"][name]
        for value in good + bad:
            fits = (
                bounds.get("MinLength", 0) <= len(value) <= bounds.get("MaxLength", 9999)
            ) and re.fullmatch(patterns[name], value) is not None
            assert fits == (value in good), (name, value)


def test_a_bad_parameter_is_refused_before_anything_is_made(moto: Moto) -> None:
    given = {"Bucket": "refused", **moto.network()}
    address = "empty, or the IPv4 address of one machine, such as 203.0.113.7."
    for name, value, said in (
        ("Workers", "0", ""),
        ("Tasks", "1001", ""),
        ("IdleSeconds", "59", ""),
        ("Instance", "t2.micro", ""),
        ("MyAddress", NO_MACHINE, address),
    ):
        with pytest.raises(AssertionError) as refused:
            moto.stack("create", "refused", **{**given, name: value})
        assert f"Parameter {name} failed to satisfy constraint: {said}" in str(refused.value)
    assert "refused" not in moto.left()["buckets"]


def test_a_stack_is_created_without_a_cluster_then_with_one_and_deleted_but_for_its_bucket(
    cli: Moto, moto: Moto
) -> None:
    name, bucket = "pomona-life", f"life-{'2' if cli.cli == CLI_2 else '1'}"
    given = {"Bucket": bucket, **moto.network(), "KeyPair": "fruits", "MyAddress": "203.0.113.7"}
    cli.stack("create", name, **given)
    made, outputs = moto.resources(name), cli.outputs(name)
    assert "EmrCluster" not in made
    assert set(outputs) == {"BucketName", "PrimaryGroup", "NodesRole", "NotebookConfigure"}

    # The same resources, with a cluster and another address.
    cli.stack("update", name, **{**given, "Cluster": "yes", "MyAddress": "203.0.113.99"})
    updated = moto.outputs(name)
    cluster = updated.pop("ClusterId")
    assert updated == outputs
    shown = ("--stack-name", name, "--logical-resource-id", "EmrCluster")
    resource = cli("cloudformation", "describe-stack-resource", *shown)["StackResourceDetail"]
    assert resource["PhysicalResourceId"] == cluster
    after = moto.resources(name)
    after.pop("EmrCluster")
    assert after.pop("SshFromMyAddress")["CidrIp"] == "203.0.113.99/32"
    assert after == {key: value for key, value in made.items() if key != "SshFromMyAddress"}
    groups = ("ec2", "describe-security-groups", "--group-ids", outputs["PrimaryGroup"])
    permissions = moto(*groups)["SecurityGroups"][0]["IpPermissions"]
    addresses = [entry["CidrIp"] for rule in permissions for entry in rule["IpRanges"]]
    assert addresses == ["203.0.113.99/32"]

    # Back to no cluster, which keeps the rest.
    moto.stack("update", name, **given)
    assert "EmrCluster" not in moto.resources(name)
    cli("cloudformation", "delete-stack", "--stack-name", name)
    left = moto.left()
    assert bucket in left.pop("buckets")
    assert left == {"groups": [], "roles": [], "profiles": []}


@pytest.fixture(scope="module")
def made(moto: Moto) -> Iterator[dict[str, Any]]:
    """The resources of a small stack in a public subnet, with a cluster."""
    given = {"Bucket": "fruits", "Cluster": "yes", "KeyPair": "fruits", "MyAddress": "203.0.113.7"}
    moto.stack("create", "pomona-fruits", **given, **moto.network())
    yield moto.resources("pomona-fruits")
    moto("cloudformation", "delete-stack", "--stack-name", "pomona-fruits")


@pytest.fixture(scope="module")
def full(moto: Moto) -> Iterator[dict[str, Any]]:
    """The resources of a stack with every option, in a private subnet."""
    moto.stack(
        "create",
        "pomona-full",
        Bucket="full",
        Cluster="yes",
        PrivateSubnet="yes",
        SessionManager="yes",
        Release="emr-7.14.0",
        Instance="c6i.2xlarge",
        Workers="3",
        Tasks="4",
        KmsKey=KEY,
        AlarmEmail="lea@example.org",
        MonthlyBudget="50",
        **moto.network(),
    )
    yield moto.resources("pomona-full")
    moto("cloudformation", "delete-stack", "--stack-name", "pomona-full")


KEY = "arn:aws:kms:eu-west-3:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def classified(cluster: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        one["Classification"]: one["ConfigurationProperties"] for one in cluster["Configurations"]
    }


def test_the_cluster_has_what_the_job_and_the_notebook_need(
    moto: Moto, made: dict[str, Any]
) -> None:
    cluster = made["EmrCluster"]
    applications = ["Hadoop", "Spark", "Livy", "JupyterHub", "JupyterEnterpriseGateway"]
    assert [one["Name"] for one in cluster["Applications"]] == applications
    assert cluster["ReleaseLabel"] == "emr-6.4.0"
    assert cluster["LogUri"] == "s3://fruits/logs/"
    assert cluster["EbsRootVolumeSize"] == 20
    assert cluster["AutoTerminationPolicy"] == {"IdleTimeout": 3600}
    assert cluster["Instances"]["KeepJobFlowAliveWhenNoSteps"] is True
    assert cluster["BootstrapActions"] == [
        {
            "Name": "pomona",
            "ScriptBootstrapAction": {
                "Path": "s3://fruits/bootstrap-emr.sh",
                "Args": [
                    "s3://fruits/wheelhouse/emr-6.4.0",
                    *("--model", "s3://fruits/models/mobilenet_v2.onnx"),
                    *("--target", "/opt/pomona"),
                ],
            },
        }
    ]
    assert TAG in cluster["Tags"]
    assert {"Key": "project", "Value": "pomona"} in cluster["Tags"]
    settings = classified(cluster)
    assert set(settings) == {"jupyter-s3-conf", "livy-conf", "spark-env", "spark-defaults"}
    assert settings["jupyter-s3-conf"]["s3.persistence.bucket"] == "fruits"
    assert plan.spark_settings("m5.xlarge").items() <= settings["spark-defaults"].items()
    cluster_id = moto.outputs("pomona-fruits")["ClusterId"]
    assert cluster_id.startswith("j-")


def test_the_cluster_uses_the_groups_roles_and_key_of_the_stack(made: dict[str, Any]) -> None:
    cluster, instances = made["EmrCluster"], made["EmrCluster"]["Instances"]
    assert instances["Ec2KeyName"] == "fruits"
    assert instances["EmrManagedMasterSecurityGroup"] != instances["EmrManagedSlaveSecurityGroup"]
    assert "ServiceAccessSecurityGroup" not in instances
    assert cluster["JobFlowRole"].startswith("pomona-fruits-NodesProfile-")
    assert cluster["ServiceRole"].startswith("pomona-fruits-ServiceRole-")
    assert made["NodesProfile"]["Roles"][0].startswith("pomona-fruits-NodesRole-")


def test_a_cluster_without_spot_nodes_has_only_on_demand_fleets(made: dict[str, Any]) -> None:
    instances = made["EmrCluster"]["Instances"]
    assert "TaskInstanceFleets" not in instances
    for fleet, count in (("MasterInstanceFleet", 1), ("CoreInstanceFleet", 2)):
        assert instances[fleet]["TargetOnDemandCapacity"] == count
        assert instances[fleet]["InstanceTypeConfigs"] == [{"InstanceType": "m5.xlarge"}]


def test_spot_nodes_are_of_several_types_and_the_driver_stays_off_them(
    full: dict[str, Any],
) -> None:
    instances = full["EmrCluster"]["Instances"]
    assert instances["CoreInstanceFleet"]["TargetOnDemandCapacity"] == 3
    (fleet,) = instances["TaskInstanceFleets"]
    assert fleet["TargetSpotCapacity"] == 4
    assert "TargetOnDemandCapacity" not in fleet
    types = ["c6i.2xlarge", "c5.2xlarge", "c7i.2xlarge"]
    assert [one["InstanceType"] for one in fleet["InstanceTypeConfigs"]] == types
    # One unit each, so that the number of nodes does not depend on their types.
    assert {one["WeightedCapacity"] for one in fleet["InstanceTypeConfigs"]} == {1}
    assert fleet["LaunchSpecifications"]["SpotSpecification"] == {
        "AllocationStrategy": "capacity-optimized",
        "TimeoutDurationMinutes": 10,
        "TimeoutAction": "SWITCH_TO_ON_DEMAND",
    }
    assert classified(full["EmrCluster"])["yarn-site"] == {
        "yarn.node-labels.enabled": "true",
        "yarn.node-labels.am.default-node-label-expression": "CORE",
    }


def test_settings_follow_the_instance_type_in_the_cluster_and_in_the_notebook(
    moto: Moto, full: dict[str, Any]
) -> None:
    wanted = plan.spark_settings("c6i.2xlarge")
    assert wanted.items() <= classified(full["EmrCluster"])["spark-defaults"].items()
    notebook = json.loads(moto.outputs("pomona-full")["NotebookConfigure"])
    assert notebook == {
        "driverMemory": wanted.pop("spark.driver.memory"),
        "executorMemory": wanted.pop("spark.executor.memory"),
        "executorCores": int(wanted.pop("spark.executor.cores")),
        "conf": {
            **wanted,
            "spark.pyspark.python": "/opt/pomona/venv/bin/python",
            "spark.pyspark.driver.python": "/opt/pomona/venv/bin/python",
        },
    }


def test_nodes_reach_one_bucket_only_and_the_key_and_session_manager_if_asked(
    made: dict[str, Any], full: dict[str, Any]
) -> None:
    (policy,) = made["NodesRole"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    assert {one["Resource"] for one in statements} == {
        "arn:aws:s3:::fruits",
        "arn:aws:s3:::fruits/*",
    }
    assert "ManagedPolicyArns" not in made["NodesRole"]
    assert "NodesKeyPolicy" not in made

    manager = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
    assert full["NodesRole"]["ManagedPolicyArns"] == [manager]
    assert full["NodesKeyPolicy"]["PolicyDocument"]["Statement"] == [
        {
            "Sid": "UseTheKeyThroughS3",
            "Effect": "Allow",
            "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
            "Resource": KEY,
            "Condition": {"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}},
        }
    ]


def test_emr_may_do_in_the_subnet_what_its_policy_allows_in_tagged_ones(
    moto: Moto, made: dict[str, Any]
) -> None:
    arn = "arn:aws:iam::aws:policy/service-role/AmazonEMRServicePolicy_v2"
    assert made["ServiceRole"]["ManagedPolicyArns"] == [arn]
    version = moto("iam", "get-policy", "--policy-arn", arn)["Policy"]["DefaultVersionId"]
    read = ("iam", "get-policy-version", "--policy-arn", arn, "--version-id", version)
    managed = {one["Sid"]: one for one in moto(*read)["PolicyVersion"]["Document"]["Statement"]}
    (policy,) = made["ServiceRole"]["Policies"]
    own = {one["Sid"]: one for one in policy["PolicyDocument"]["Statement"]}
    (subnet,) = made["EmrCluster"]["Instances"]["Ec2SubnetIds"]
    there = own["StartNodesInThisSubnet"]
    assert there["Resource"] == f"arn:aws:ec2:{REGION}:123456789012:subnet/{subnet}"
    assert sorted(there["Action"]) == sorted(managed["CreateInTaggedNetwork"]["Action"])
    # The managed policy passes EMR's default role only.
    assert own["GiveTheNodesTheirRole"]["Condition"] == managed["PassRoleForEC2"]["Condition"]
    assert own["CreateTheRoleOfSpot"]["Action"] == "iam:CreateServiceLinkedRole"
    trust = made["ServiceRole"]["AssumeRolePolicyDocument"]["Statement"][0]["Condition"]
    assert trust == {
        "StringEquals": {"aws:SourceAccount": "123456789012"},
        "ArnLike": {"aws:SourceArn": f"arn:aws:elasticmapreduce:{REGION}:123456789012:*"},
    }


def rules(made: dict[str, Any]) -> set[tuple[str, str, str, int, int]]:
    """Who may reach whom, by which protocol and ports, by the names of the groups."""
    instances = made["EmrCluster"]["Instances"]
    names = {
        instances["EmrManagedMasterSecurityGroup"]: "primary",
        instances["EmrManagedSlaveSecurityGroup"]: "core",
        instances.get("ServiceAccessSecurityGroup"): "emr",
    }
    single = [one for one in made.values() if "GroupId" in one]
    inside = [
        {**rule, "GroupId": instances["ServiceAccessSecurityGroup"]}
        for rule in made.get("ServiceGroup", {}).get("SecurityGroupIngress", [])
    ]
    return {
        (
            one.get("CidrIp") or names[one["SourceSecurityGroupId"]],
            names[one["GroupId"]],
            one["IpProtocol"],
            one["FromPort"],
            one["ToPort"],
        )
        for one in single + inside
    }


BETWEEN_NODES = {
    (source, target, protocol, *ports)
    for source in ("primary", "core")
    for target in ("primary", "core")
    for protocol, ports in (("tcp", (0, 65535)), ("udp", (0, 65535)), ("icmp", (-1, -1)))
}


def test_the_stack_owns_the_rules_that_emr_would_add(
    made: dict[str, Any], full: dict[str, Any]
) -> None:
    assert rules(made) == {*BETWEEN_NODES, ("203.0.113.7/32", "primary", "tcp", 22, 22)}
    assert rules(full) == {
        *BETWEEN_NODES,
        ("emr", "primary", "tcp", 8443, 8443),
        ("emr", "core", "tcp", 8443, 8443),
        ("primary", "emr", "tcp", 9443, 9443),
    }
    out = full["ServiceGroup"]["SecurityGroupEgress"]
    instances = full["EmrCluster"]["Instances"]
    assert [(one["DestinationSecurityGroupId"], one["FromPort"]) for one in out] == [
        (instances["EmrManagedMasterSecurityGroup"], 8443),
        (instances["EmrManagedSlaveSecurityGroup"], 8443),
    ]
    for group in ("PrimaryGroup", "CoreGroup", "ServiceGroup"):
        assert TAG in full[group]["Tags"]


def test_the_cluster_is_made_after_and_ended_before_all_rules_and_policies(
    template: dict[str, Any],
) -> None:
    resources = template["Resources"]
    cluster = resources["EmrCluster"]
    needed = {*cluster["DependsOn"], *cluster["Metadata"]}
    kinds = ("AWS::EC2::SecurityGroupIngress", "AWS::IAM::Policy", "AWS::S3::BucketPolicy")
    wanted = {name for name, one in resources.items() if one["Type"] in kinds}
    # The rule for the user's address changes while the cluster runs.
    assert needed == wanted - {"SshFromMyAddress"}


def test_a_new_bucket_is_private_and_encrypted_and_refuses_requests_without_tls(
    made: dict[str, Any], full: dict[str, Any]
) -> None:
    assert made["DataBucket"]["BucketName"] == "fruits"
    assert set(made["DataBucket"]["PublicAccessBlockConfiguration"].values()) == {True}
    encryption = made["DataBucket"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
    lifecycle = made["DataBucket"]["LifecycleConfiguration"]["Rules"]
    assert [one["AbortIncompleteMultipartUpload"] for one in lifecycle] == [
        {"DaysAfterInitiation": 2}
    ]
    (statement,) = made["BucketPolicy"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    encryption = full["DataBucket"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == [
        {
            "BucketKeyEnabled": True,
            "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY},
        }
    ]


def test_an_existing_bucket_is_left_as_it_is(moto: Moto) -> None:
    moto(*("s3api", "create-bucket", "--bucket", "mine", "--create-bucket-configuration"),
         f"LocationConstraint={REGION}")  # fmt: skip
    moto.stack("create", "pomona-mine", Bucket="mine", NewBucket="no", **moto.network())
    made = moto.resources("pomona-mine")
    assert not {"DataBucket", "BucketPolicy"} & set(made)
    assert moto.outputs("pomona-mine")["BucketName"] == "mine"
    moto("cloudformation", "delete-stack", "--stack-name", "pomona-mine")
    assert "mine" in moto.left()["buckets"]


def test_an_alarm_is_sent_at_80_percent_and_if_the_forecast_exceeds_the_budget(
    made: dict[str, Any], full: dict[str, Any]
) -> None:
    assert "Budget" not in made
    budget = full["Budget"]
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 50, "Unit": "USD"}
    assert budget["Budget"]["TimeUnit"] == "MONTHLY"
    assert [
        (
            one["Notification"]["NotificationType"],
            one["Notification"]["Threshold"],
            one["Subscribers"],
        )
        for one in budget["NotificationsWithSubscribers"]
    ] == [
        (kind, threshold, [{"SubscriptionType": "EMAIL", "Address": "lea@example.org"}])
        for kind, threshold in (("ACTUAL", 80), ("FORECASTED", 100))
    ]


def test_a_cluster_that_does_not_start_leaves_the_stack_as_it_was(moto: Moto) -> None:
    """How the simulated CloudFormation fails, which the tests of the commands rely on."""
    given = {"Bucket": "fails", **moto.network()}
    moto.stack("create", "pomona-fails", **given)
    before = moto.resources("pomona-fails")
    reason = "VALIDATION_ERROR: insufficient EC2 permissions"
    fault = {"resource": "EmrCluster", "action": "CREATE", "reason": reason, "times": 1}
    (moto.folder / "faults.json").write_text(json.dumps([fault]))
    moto.stack("update", "pomona-fails", **given, Cluster="yes")
    assert moto.read("pomona-fails")["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    assert moto.resources("pomona-fails") == before
    events = moto("cloudformation", "describe-stack-events", "--stack-name", "pomona-fails")
    (failed,) = (one for one in events["StackEvents"] if one["ResourceStatus"] == "CREATE_FAILED")
    assert (failed["LogicalResourceId"], failed["ResourceStatusReason"]) == ("EmrCluster", reason)
    moto.stack("update", "pomona-fails", **given, Cluster="yes")
    assert moto.read("pomona-fails")["StackStatus"] == "UPDATE_COMPLETE"
    moto("cloudformation", "delete-stack", "--stack-name", "pomona-fails")


def test_the_template_works_in_plain_moto_too(tmp_path: Path, loaded_cli: Path) -> None:
    service, url = start(tmp_path, str(BIN / "moto_server"))
    try:
        moto = Moto(url, tmp_path, loaded_cli)
        given = {"Bucket": "plain", **moto.network(), "KeyPair": "fruits"}
        moto.stack("create", "pomona-plain", **given)
        assert "ClusterId" not in moto.outputs("pomona-plain")
        moto.stack("update", "pomona-plain", **given, Cluster="yes")
        cluster = moto.outputs("pomona-plain")["ClusterId"]
        shown = ("--stack-name", "pomona-plain", "--logical-resource-id", "EmrCluster")
        resource = moto("cloudformation", "describe-stack-resource", *shown)
        assert resource["StackResourceDetail"]["PhysicalResourceId"] == cluster
        moto("cloudformation", "delete-stack", "--stack-name", "pomona-plain")
        left = moto.left()
        assert left == {"buckets": ["plain"], "groups": [], "roles": [], "profiles": []}
    finally:
        service.kill()
