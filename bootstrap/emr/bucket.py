"""The bucket: private, encrypted, in the cluster's region, with everything the cluster reads."""

from __future__ import annotations

import json

from emr.aws import FILLED, Aws
from emr.errors import AwsError, Stop
from emr.files import JOB, NOTEBOOKS, SCRIPT
from emr.settings import Settings

#: Days after which S3 deletes the parts of incomplete uploads, which killed executors leave.
UNFINISHED_DAYS = 2

_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def make(aws: Aws, settings: Settings, account: str) -> None:
    """Create the bucket if it does not exist, and make sure it is private and encrypted."""
    bucket = settings.BUCKET
    aws.say(f"The bucket {bucket}: private, encrypted, in {aws.region}.")
    ours = ("--bucket", bucket, "--expected-bucket-owner", account)
    try:
        for _ in aws.unless("s3api", "head-bucket", *ours, codes=("404", "NoSuchBucket")):
            _create(aws, bucket)
    except AwsError as error:
        if error.code not in ("301", "400", "403", "BucketAlreadyExists"):
            raise
        raise Stop(
            f"the bucket {bucket} belongs to someone else, or your AWS user may not access it "
            f"({error.code}): bucket names are unique across AWS; choose another, such as "
            f"BUCKET={bucket}-2"
        ) from error
    region = aws.text(
        "BUCKET_REGION", "s3api", "get-bucket-location", *ours, query="LocationConstraint"
    )
    # S3 has no name for its first region.
    region = "us-east-1" if region == "None" else region
    aws.demand(
        f'[ "${{BUCKET_REGION/None/us-east-1}}" = {aws.region} ]', "the bucket is in another region"
    )
    if not aws.dry_run and region != aws.region:
        raise Stop(
            f"the bucket {bucket} is in {region} and the cluster would be in {aws.region}: use "
            f"another bucket, or REGION={region}"
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
    # Setting a rule replaces all existing ones, so a bucket that has rules keeps them.
    get_rules = ("s3api", "get-bucket-lifecycle-configuration", *ours)
    for _ in aws.unless(*get_rules, codes=("NoSuchLifecycleConfiguration",)):
        aws.call(
            "s3api",
            "put-bucket-lifecycle-configuration",
            *ours,
            "--lifecycle-configuration",
            json.dumps(lifecycle),
        )


def _create(aws: Aws, bucket: str) -> None:
    # S3 accepts the name of every region here except that of its first.
    location = ["--create-bucket-configuration", f"LocationConstraint={aws.region}"]
    if aws.region == "us-east-1":
        location = []
    makes = f"bucket {bucket}: its content costs money (aws s3 rb s3://{bucket} --force)"
    aws.call("s3api", "create-bucket", "--bucket", bucket, *location, makes=makes)


def _block_public_access(aws: Aws, ours: tuple[str, ...]) -> None:
    block = ",".join(f"{name}=true" for name in _BLOCKED)
    put = ("s3api", "put-public-access-block", *ours, "--public-access-block-configuration", block)
    get = ("s3api", "get-public-access-block", *ours)
    for _ in aws.unless(*get, codes=("NoSuchPublicAccessBlockConfiguration",)):
        aws.call(*put)
    blocked = aws.answer(*get, query="PublicAccessBlockConfiguration")
    if blocked is not None and not all(blocked.get(name) for name in _BLOCKED):
        raise Stop(
            f"the bucket {ours[1]} allows public access: use another, or block it: "
            f"aws {' '.join(put)} --region {aws.region}"
        )


def upload(aws: Aws, settings: Settings) -> None:
    """Upload the files that the nodes, the job and the notebook need."""
    aws.say("Files for the nodes and the job.")
    quiet = "--only-show-errors"
    aws.call("s3", "sync", str(settings.wheelhouse), settings.wheelhouse_uri, "--delete", quiet)
    aws.call("s3", "cp", str(settings.model_file), settings.model_uri, quiet)
    for name in (SCRIPT, JOB):
        aws.call("s3", "cp", f"bootstrap/{name}", f"{settings.uri}/{name}", quiet)
    aws.call("s3", "cp", str(FILLED / "emr.json"), f"{settings.uri}/emr.json", quiet)
    # JupyterHub saves the user's changes under the same key, so an existing notebook stays.
    for notebook in NOTEBOOKS:
        key = f"jupyter/jovyan/{notebook.name}"
        head = ("s3api", "head-object", "--bucket", settings.BUCKET, "--key", key)
        for _ in aws.unless(*head, codes=("404", "NoSuchKey")):
            aws.call("s3", "cp", f"notebooks/{notebook.name}", f"{settings.uri}/{key}", quiet)
    if settings.local_photos is not None:
        aws.call("s3", "sync", str(settings.local_photos), settings.images_uri, quiet)
