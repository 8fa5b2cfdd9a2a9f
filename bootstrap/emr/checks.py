"""Checks of the AWS account, made before anything is created."""

from __future__ import annotations

from emr.aws import Aws
from emr.errors import AwsError, Stop
from emr.settings import Settings


def identity(aws: Aws) -> str:
    """Return the account number; Stop if there are no credentials."""
    aws.say("The AWS account.")
    return aws.text("ACCOUNT", "sts", "get-caller-identity", query="Account")


def check_release(aws: Aws, settings: Settings) -> None:
    """Stop if AWS no longer offers the release."""
    aws.say(f"Does AWS still offer {settings.RELEASE}?")
    prefix = f"Prefix={settings.RELEASE}"
    labels = aws.answer("emr", "list-release-labels", "--filters", prefix, query="ReleaseLabels")
    if not aws.dry_run and settings.RELEASE not in (labels or []):
        raise Stop(
            f"AWS does not offer {settings.RELEASE} in {aws.region}: it does not exist or was "
            "withdrawn. Use another, such as RELEASE=emr-6.15.0 (the last with Python 3.7) or a "
            f"7.x; to list them: aws emr list-release-labels --region {aws.region}"
        )


def check_key(aws: Aws, settings: Settings) -> None:
    """Stop if the region does not have the key pair."""
    aws.say(f"The key pair {settings.KEY}, for SSH.")
    try:
        aws.answer(
            "ec2", "describe-key-pairs", "--key-names", settings.KEY, query="KeyPairs[].KeyName"
        )
    except AwsError as error:
        if error.code != "InvalidKeyPair.NotFound":
            raise
        raise Stop(
            f"{aws.region} has no key pair {settings.KEY} (give its name, not its file; every "
            "region has its own); to create it: aws ec2 create-key-pair --key-name "
            f"{settings.KEY} --query KeyMaterial --output text --region {aws.region} "
            f"> ~/.ssh/{settings.KEY}.pem && chmod 400 ~/.ssh/{settings.KEY}.pem"
        ) from error
