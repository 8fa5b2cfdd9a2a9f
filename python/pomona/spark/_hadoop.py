"""Folders on any file system that Spark's Hadoop knows: local, HDFS, S3."""

from __future__ import annotations

import builtins
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

from py4j.protocol import Py4JJavaError
from pyspark.sql.utils import IllegalArgumentException

from pomona._images import utf8_text

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject
    from pyspark.sql import SparkSession

_GLOB_CHARACTERS = re.compile(r"([{}\[\]*?\\])")
#: The spellings of S3: one file system, by three of Hadoop's clients.
S3_SCHEMES = ("s3", "s3a", "s3n")
#: Hadoop's errors in Python. The second is what Spark makes of arguments that cannot be, among them
#: hosts that nobody knows.
HADOOP_ERRORS = (Py4JJavaError, IllegalArgumentException)

# What to do about an error of Hadoop's, by a mark in it: classes differ from version to version.
_REMEDIES = (
    (
        "NoAuthWithAWS|NoAwsCredentials|Unable to load (AWS )?credentials",
        "there are no credentials: give the job a role, or keys",
    ),
    (
        "AccessDenied|AccessControl|Forbidden",
        "access denied: check the credentials and what they may do there",
    ),
    (
        r"UnknownStore|NoSuchBucket|[Bb]ucket (\S+ )?does not exist",
        "there is no such bucket: check its name",
    ),
    (
        'No FileSystem for scheme "?s3"?$',
        "this cluster has no s3://, which is EMR's own: elsewhere, write s3a://",
    ),
    (
        "S3AFileSystem not found",
        "Spark lacks its S3 client: add --packages org.apache.hadoop:hadoop-aws:VERSION, with the "
        "version of its Hadoop",
    ),
    (
        "Connection refused|UnknownHost|ConnectTimeout|Unable to execute HTTP request",
        "the server does not answer: check the network and the endpoint",
    ),
)


class Folder:
    """A folder that may not exist yet.

    Nothing here renames: on an object store a rename is a copy and a deletion, neither of them
    atomic.

    Parameters
    ----------
    spark
        Its Hadoop settings and credentials are used.
    uri
        Where. Without a scheme it belongs to the cluster's default file system, as everywhere in
        Spark.

    Raises
    ------
    ValueError
        It is empty, or no text that Java can hold.
    OSError
        There is no such file system.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        check_name(uri)
        self._spark = spark
        with _os_errors(f"cannot reach {uri}"):
            path = spark._jvm.org.apache.hadoop.fs.Path(uri)
            conf = spark._jsparkSession.sessionState().newHadoopConf()
            self._files: JavaObject = path.getFileSystem(conf)
            self._path: JavaObject = self._files.makeQualified(path)
        #: The whole address: scheme, host or bucket, path without doubled slashes.
        self.uri: str = self._path.toString()

    def __truediv__(self, name: str) -> Folder:
        return Folder(self._spark, f"{self.uri.rstrip('/')}/{name}")

    @property
    def pattern(self) -> str:
        """The address for Spark's readers, which take some characters for those of a glob."""
        return literal(self.uri)

    def contains(self, other: Folder) -> bool:
        """Whether `other` is this folder or lies in it; the spellings of S3 are one file system."""
        return f"{_comparable(other)}/".startswith(f"{_comparable(self)}/")

    def sizes(self) -> dict[str, int | None]:
        """Bytes of each file in this folder, None for folders; empty if there is no such folder."""
        with _os_errors(f"cannot list {self.uri}"):
            if not self._files.exists(self._path):
                return {}
            entries = self._files.listStatus(self._path)
            return {
                entry.getPath().getName(): None if entry.isDirectory() else entry.getLen()
                for entry in entries
            }

    def bytes(self) -> int:
        """Bytes of all files in this folder and below."""
        with _os_errors(f"cannot list {self.uri}"):
            return int(self._files.getContentSummary(self._path).getLength())

    def exists(self) -> bool:
        """Whether there is a file or folder of this name."""
        with _os_errors(f"cannot look for {self.uri}"):
            return bool(self._files.exists(self._path))

    def delete(self) -> None:
        """Delete this file or folder with all that is in it; fine if it is not there."""
        with _os_errors(f"cannot delete {self.uri}"):
            self._files.delete(self._path, True)

    def write_bytes(self, content: builtins.bytes) -> None:
        """Write this file at once: on an object store it appears whole or not at all."""
        with _os_errors(f"cannot write {self.uri}"):
            stream = self._files.create(self._path, True)
            try:
                stream.write(bytearray(content))
            finally:
                stream.close()

    def write_text(self, text: str) -> None:
        """Write this file at once, as `write_bytes`."""
        self.write_bytes(text.encode())

    def write_json(self, value: Any) -> None:
        """Write this file at once, as JSON."""
        self.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_bytes(self) -> builtins.bytes:
        """Read this file."""
        with _os_errors(f"cannot read {self.uri}"):
            return self._read()

    def read_json(self) -> Any | None:
        """Read the value in this file; None if a crash cut it short, as object stores never do."""
        with _os_errors(f"cannot read {self.uri}"):
            try:
                text = self._read().decode()
            except Py4JJavaError as error:
                # Hadoop's local file system keeps a checksum beside each file.
                if error.java_exception.getClass().getSimpleName() == "ChecksumException":
                    return None
                raise
        try:
            return json.loads(text)
        except ValueError:
            return None

    def _read(self) -> builtins.bytes:
        stream = self._files.open(self._path)
        try:
            return bytes(self._spark._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()


def check_name(uri: str) -> None:
    """Refuse what is no name of a file or folder."""
    if not uri:
        raise ValueError("the name of a folder is empty")
    if utf8_text(uri) != uri:
        raise ValueError(f"{utf8_text(uri)}: the name is not UTF-8, and Spark takes no other")


def is_pattern(path: str) -> bool:
    """Whether Spark and Hadoop take some characters of a path for those of a glob."""
    return _GLOB_CHARACTERS.search(path) is not None


def literal(path: str) -> str:
    """Make a glob that matches nothing but this path."""
    return _GLOB_CHARACTERS.sub(r"\\\1", path)


def _comparable(folder: Folder) -> str:
    scheme, _, rest = folder.uri.partition(":")
    return f"{'s3' if scheme in S3_SCHEMES else scheme}:{rest.rstrip('/')}"


@contextmanager
def _os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except HADOOP_ERRORS as error:
        raise OSError(f"{what}: {why(error)}") from error


def why(error: Py4JJavaError | IllegalArgumentException) -> str:
    """Say in one line why Hadoop failed, and first what to do about it where that is known."""
    java = isinstance(error, Py4JJavaError)
    reason = error.java_exception.toString() if java else str(error)
    return with_remedy(reason.strip().splitlines()[0])


def with_remedy(reason: str) -> str:
    """Put before an error of Hadoop's what to do about it, where that is known."""
    for mark, remedy in _REMEDIES:
        if re.search(mark, reason):
            return f"{remedy} ({reason})"
    return reason
