"""Who asks, and what AWS must have before anything is made."""

from __future__ import annotations

from emr.aws import Aws
from emr.errors import AwsError, Stop
from emr.settings import Settings


def identity(aws: Aws) -> str:
    """Return the account's number; Stop where there are no credentials."""
    aws.say("Who is asking.")
    return aws.text("ACCOUNT", "sts", "get-caller-identity", query="Account")


def check_release(aws: Aws, settings: Settings) -> None:
    """Stop where AWS no longer offers the release."""
    aws.say(f"{settings.RELEASE} must still be offered, or nothing is made.")
    wanted = f"Prefix={settings.RELEASE}"
    labels = aws.answer("emr", "list-release-labels", "--filters", wanted, query="ReleaseLabels")
    if not aws.dry_run and settings.RELEASE not in (labels or []):
        raise Stop(
            f"AWS does not offer {settings.RELEASE} in {aws.region}: it never was, or has been "
            "withdrawn. Take another, such as RELEASE=emr-6.15.0 (the last with Python 3.7) or a "
            f"7.x; what is offered: aws emr list-release-labels --region {aws.region}"
        )


def check_key(aws: Aws, settings: Settings) -> None:
    """Stop where the key pair is not in the region."""
    aws.say(f"The key pair {settings.KEY}, for SSH.")
    try:
        aws.answer(
            "ec2", "describe-key-pairs", "--key-names", settings.KEY, query="KeyPairs[].KeyName"
        )
    except AwsError as error:
        if error.code != "InvalidKeyPair.NotFound":
            raise
        raise Stop(
            f"there is no key pair {settings.KEY} in {aws.region} (give its name, not its file; "
            "each region has its own): aws ec2 create-key-pair --key-name "
            f"{settings.KEY} --query KeyMaterial --output text --region {aws.region} "
            f"> ~/.ssh/{settings.KEY}.pem && chmod 400 ~/.ssh/{settings.KEY}.pem"
        ) from error
