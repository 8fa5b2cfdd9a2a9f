"""The bucket: private, encrypted, in the cluster's region, with all that the cluster reads."""

from __future__ import annotations

import json

from emr.aws import FILLED, Aws
from emr.errors import AwsError, Stop
from emr.files import JOB, NOTEBOOK, SCRIPT
from emr.settings import Settings

#: Days after which S3 drops the parts of an upload that a killed executor has left.
UNFINISHED_DAYS = 2

_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def make(aws: Aws, settings: Settings, account: str) -> None:
    """Make the bucket where it is missing, and see to it that it is private and encrypted."""
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
            f"the bucket {bucket} belongs to someone else, or your AWS user may not look at it "
            f"({error.code}): names are shared by all of AWS; take another, such as "
            f"BUCKET={bucket}-2"
        ) from error
    where = aws.text(
        "BUCKET_REGION", "s3api", "get-bucket-location", *ours, query="LocationConstraint"
    )
    # S3 has no name for its first region.
    where = "us-east-1" if where == "None" else where
    aws.demand(f'[ "${{BUCKET_REGION/None/us-east-1}}" = {aws.region} ]', "it is elsewhere")
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


def _create(aws: Aws, bucket: str) -> None:
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
