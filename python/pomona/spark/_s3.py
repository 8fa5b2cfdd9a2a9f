"""How executors access S3, and whether they can, from the settings of Hadoop's S3 clients.

The extension follows the settings of Hadoop's S3A client that this module knows. If a session has
any other setting that matters, Hadoop reads the photos: to ignore such a setting could mean to ask
another server, or with other permissions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Mapping

from pomona.spark._hadoop import HADOOP_ERRORS, S3_SCHEMES, hadoop_conf, why

if TYPE_CHECKING:
    from typing import Iterable

    from pyspark.sql import SparkSession

_LOCAL_SCHEME = "file"
#: Hadoop's file systems whose S3 settings this module knows, including EMR's own.
_S3_CLIENTS = (
    "org.apache.hadoop.fs.s3a.S3AFileSystem",
    "com.amazon.ws.emr.hadoop.fs.EmrFileSystem",
)

_PREFIX = "fs.s3a."
_OF_BUCKET = "fs.s3a.bucket."
# Settings of S3A, and their names in the extension.
_KEYS = {"access.key": "access_key", "secret.key": "secret_key", "session.token": "session_token"}
_ENDPOINT, _REGION = "endpoint", "endpoint.region"
_PATH_STYLE, _TLS = "path.style.access", "connection.ssl.enabled"
_PROVIDERS = "aws.credentials.provider"
_ENCRYPTIONS = ("encryption.algorithm", "server-side-encryption-algorithm")
_KNOWN = (*_KEYS, _ENDPOINT, _REGION, _PATH_STYLE, _TLS, _PROVIDERS, *_ENCRYPTIONS)
# Settings of S3A that only Hadoop follows, if they have a value.
_HADOOPS = (
    "accesspoint.arn",
    "assumed.role.arn",
    "custom.signers",
    "delegation.token.binding",
    "proxy.host",
    "requester.pays.enabled",
    "security.credential.provider.path",
    "signing-algorithm",
)
# Such settings of EMR's client and of Hadoop as a whole.
_OTHERS = (
    "fs.s3.authorization.roleMapping",
    "fs.s3.cse.enabled",
    "fs.s3.customAWSCredentialsProvider",
    "fs.s3.endpoint",
    "hadoop.security.credential.provider.path",
)
_UNSET = ("", "false", "none")
# Encryption modes in which the client holds the key; all others are transparent.
_CLIENTS_ENCRYPTION = ("SSE-C", "CSE")
_OF_ONE_BUCKET = re.compile(
    "{}(.+)[.]({})".format(
        re.escape(_OF_BUCKET),
        "|".join(map(re.escape, sorted((*_KNOWN, *_HADOOPS), key=len, reverse=True))),
    )
)

# Credential providers, by the last part of their class names.
_PROVIDER_KINDS = {
    "TemporaryAWSCredentialsProvider": "keys",
    "SimpleAWSCredentialsProvider": "keys",
    "EnvironmentVariableCredentialsProvider": "environment",
    "IAMInstanceCredentialsProvider": "instance",
    "InstanceProfileCredentialsProvider": "instance",
    "ContainerCredentialsProvider": "instance",
    "EC2ContainerCredentialsProviderWrapper": "instance",
    "AnonymousAWSCredentialsProvider": "anonymous",
}
_CHAIN = "chain"

_AWS = ".amazonaws.com"
_CENTRAL = "s3.amazonaws.com"
_REGIONAL = re.compile(r"s3[.-](?!external|accelerate)([a-z0-9-]+)\.amazonaws\.com")
_REGION_NAME = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-\d+\b")


@dataclass(frozen=True)
class Storage:
    """How executors access S3. Its repr contains no keys."""

    #: The argument `storage` of the extension's `PathFeaturizer`: settings by bucket, and under ""
    #: those of all other buckets.
    settings: dict[str, dict[str, str]] = field(repr=False)
    #: Why only Hadoop can access S3; None if the extension can.
    hadoops: str | None


def storage_of(spark: SparkSession) -> Storage:
    """Return how a session accesses S3."""
    conf = hadoop_conf(spark)
    names = [_PREFIX + name for name in (*_KNOWN, *_HADOOPS)] + list(_OTHERS)
    values = {name: conf.get(name) for name in names}
    values.update(dict(conf.getValByRegex("^" + re.escape(_OF_BUCKET))))
    return storage_from({name: value for name, value in values.items() if value is not None})


def storage_from(values: Mapping[str, str]) -> Storage:
    """Return how S3 is accessed, from Hadoop's settings for all buckets and for single ones.

    Examples
    --------
    >>> storage_from({"fs.s3a.endpoint": "s3.eu-west-3.amazonaws.com"}).settings
    {'': {'credentials': 'chain', 'region': 'eu-west-3'}}
    """
    common = {
        name[len(_PREFIX) :]: value.strip()
        for name, value in values.items()
        if name.startswith(_PREFIX) and not name.startswith(_OF_BUCKET)
    }
    buckets: dict[str, dict[str, str]] = {"": common}
    for name, value in sorted(values.items()):
        match = _OF_ONE_BUCKET.fullmatch(name)
        if match:
            buckets.setdefault(match.group(1), dict(common))[match.group(2)] = value.strip()

    reasons = [f"{name} is set" for name in _OTHERS if _is_set(values.get(name, ""))]
    settings = {}
    for bucket, options in buckets.items():
        reasons += _only_hadoop_can(bucket, options)
        settings[bucket] = _settings(options)
    return Storage(settings, reasons[0] if reasons else None)


def why_not_by_paths(spark: SparkSession, uris: Iterable[str], storage: Storage) -> str | None:
    """Return why only Spark can read files at these addresses; None if the extension can."""
    conf = hadoop_conf(spark)
    for scheme in sorted({uri.partition(":")[0] for uri in uris} - {_LOCAL_SCHEME}):
        if scheme not in S3_SCHEMES:
            return f"only Spark reads {scheme}://"
        try:
            client = spark._jvm.org.apache.hadoop.fs.FileSystem.getFileSystemClass(scheme, conf)
        except HADOOP_ERRORS as error:
            return why(error)
        name = client.getName()
        if name not in _S3_CLIENTS:
            return f"the client of {scheme}:// is {name}"
        if storage.hadoops is not None:
            return storage.hadoops
    return None


def _is_set(value: str) -> bool:
    return value.strip().lower() not in _UNSET


def _only_hadoop_can(bucket: str, options: Mapping[str, str]) -> list[str]:
    prefix = f"{_OF_BUCKET}{bucket}." if bucket else _PREFIX
    reasons = [f"{prefix}{name} is set" for name in _HADOOPS if _is_set(options.get(name, ""))]
    for name in _ENCRYPTIONS:
        value = options.get(name, "").upper()
        if value.startswith(_CLIENTS_ENCRYPTION):
            reasons.append(f"{prefix}{name} is {value}")
    if _credentials(options) is None:
        reasons.append(f"{prefix}{_PROVIDERS} has unknown providers")
    return reasons


def _credentials(options: Mapping[str, str]) -> str | None:
    """Return where the keys come from; None if that is unknown."""
    classes = [one for one in re.split(r"[\s,]+", options.get(_PROVIDERS, "")) if one]
    kinds = {_PROVIDER_KINDS.get(re.split("[.$]", name)[-1]) for name in classes}
    if not kinds:
        return _CHAIN
    if None in kinds or ("anonymous" in kinds and len(kinds) > 1):
        return None
    return kinds.pop() if len(kinds) == 1 else _CHAIN


def _settings(options: Mapping[str, str]) -> dict[str, str]:
    settings = {"credentials": _credentials(options) or _CHAIN}
    for name, ours in _KEYS.items():
        if options.get(name):
            settings[ours] = options[name]
    region = options.get(_REGION, "")
    region = region if region != "sdk" else ""
    endpoint = options.get(_ENDPOINT, "")
    host = endpoint.partition("://")[2] or endpoint
    regional = _REGIONAL.fullmatch(host)
    if regional:
        region = region or regional.group(1)
    elif host and host != _CENTRAL:
        if _AWS in host and not region:
            found = _REGION_NAME.search(host)
            region = found.group() if found else ""
        scheme = "http" if options.get(_TLS, "").lower() == "false" else "https"
        settings["endpoint"] = endpoint if "://" in endpoint else f"{scheme}://{endpoint}"
    if region:
        settings["region"] = region
    if options.get(_PATH_STYLE, "").lower() == "true":
        settings["path_style"] = "true"
    return settings
