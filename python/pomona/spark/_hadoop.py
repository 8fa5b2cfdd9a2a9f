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
    from pathlib import Path

    from py4j.java_gateway import JavaObject
    from pyspark.sql import SparkSession

#: Bytes that are copied at a time.
_BUFFER = 1 << 20
_GLOB_CHARACTERS = re.compile(r"([{}\[\]*?\\])")
#: The schemes of S3: one storage, accessed by three of Hadoop's clients.
S3_SCHEMES = ("s3", "s3a", "s3n")
#: Hadoop's errors in Python. Spark turns invalid arguments, including unknown hosts, into the
#: second.
HADOOP_ERRORS = (Py4JJavaError, IllegalArgumentException)

# What to do about an error of Hadoop, by patterns: its classes differ from version to version.
_REMEDIES = (
    (
        "NoAuthWithAWS|NoAwsCredentials|Unable to load (AWS )?credentials",
        "no credentials: give the job a role or keys",
    ),
    (
        "AccessDenied|AccessControl|Forbidden",
        "access denied: check the credentials and their permissions",
    ),
    (
        r"UnknownStore|NoSuchBucket|[Bb]ucket (\S+ )?does not exist",
        "no such bucket: check its name",
    ),
    ('No FileSystem for scheme "?s3"?$', "only EMR has s3://: use s3a:// on this cluster"),
    (
        "S3AFileSystem not found",
        "Spark has no S3 client: add --packages org.apache.hadoop:hadoop-aws:VERSION, with the "
        "version of its Hadoop",
    ),
    (
        "Connection refused|UnknownHost|ConnectTimeout|Unable to execute HTTP request",
        "the server does not answer: check the network and the endpoint",
    ),
)


def hadoop_conf(spark: SparkSession) -> JavaObject:
    """Copy the Hadoop settings of a session, for as many paths as needed."""
    return spark._jsparkSession.sessionState().newHadoopConf()


def path_and_files(
    spark: SparkSession, path: str, conf: JavaObject
) -> tuple[JavaObject, JavaObject]:
    """Return a path as Hadoop's, and its file system."""
    hadoop_path = spark._jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path, hadoop_path.getFileSystem(conf)


class Folder:
    """A folder that may not exist yet, accessed with a session's Hadoop settings and credentials.

    Without a scheme, its address is on the cluster's default file system, as everywhere in Spark.
    No method renames anything: on an object store, a rename is a copy and a deletion, and not
    atomic.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        check_name(uri)
        self._spark = spark
        with _os_errors(f"cannot reach {uri}"):
            path, self._files = path_and_files(spark, uri, hadoop_conf(spark))
            self._path: JavaObject = self._files.makeQualified(path)
        #: The complete address: scheme, host or bucket, and path without double slashes.
        self.uri: str = self._path.toString()

    def __truediv__(self, name: str) -> Folder:
        return Folder(self._spark, f"{self.uri.rstrip('/')}/{name}")

    @property
    def pattern(self) -> str:
        """The address for Spark's readers, with the characters of globs escaped."""
        return literal(self.uri)

    def contains(self, other: Folder) -> bool:
        """Whether `other` is this folder or inside it; the schemes of S3 are the same storage."""
        return f"{_comparable(other)}/".startswith(f"{_comparable(self)}/")

    def sizes(self) -> dict[str, int | None]:
        """Bytes of each file in this folder, None for folders; empty if it does not exist."""
        with _os_errors(f"cannot list {self.uri}"):
            if not self._files.exists(self._path):
                return {}
            entries = self._files.listStatus(self._path)
            return {
                entry.getPath().getName(): None if entry.isDirectory() else entry.getLen()
                for entry in entries
            }

    def bytes(self) -> int:
        """Bytes of all files in this folder and its subfolders."""
        with _os_errors(f"cannot list {self.uri}"):
            return int(self._files.getContentSummary(self._path).getLength())

    def exists(self) -> bool:
        """Whether this file or folder exists."""
        with _os_errors(f"cannot look for {self.uri}"):
            return bool(self._files.exists(self._path))

    def delete(self) -> None:
        """Delete this file or folder and its contents, if it exists."""
        with _os_errors(f"cannot delete {self.uri}"):
            self._files.delete(self._path, True)

    def write_bytes(self, content: builtins.bytes) -> None:
        """Write this file; on an object store this is atomic."""
        with _os_errors(f"cannot write {self.uri}"):
            stream = self._files.create(self._path, True)
            try:
                stream.write(bytearray(content))
            finally:
                stream.close()

    def replace_by(self, folder: Path) -> None:
        """Copy a folder of this machine here, in place of whatever is here."""
        self.delete()
        jvm = self._spark._jvm
        with _os_errors(f"cannot write {self.uri}"):
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    name = file.relative_to(folder).as_posix()
                    target = self._files.create(jvm.org.apache.hadoop.fs.Path(self._path, name))
                    # Not copyFromLocalFile: for S3, it takes no folders before Hadoop 3.4, and
                    # then uploads in a way that not every server of S3 knows.
                    source = jvm.java.io.FileInputStream(str(file))
                    jvm.org.apache.hadoop.io.IOUtils.copyBytes(source, target, _BUFFER, True)

    def write_text(self, text: str) -> None:
        """Write this file, as `write_bytes` does."""
        self.write_bytes(text.encode())

    def write_json(self, value: Any) -> None:
        """Write this file as JSON, as `write_bytes` does."""
        self.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_bytes(self) -> builtins.bytes:
        """Read this file."""
        with _os_errors(f"cannot read {self.uri}"):
            return self._read()

    def read_json(self) -> Any | None:
        """Read this JSON file; None if a crash truncated it, which object stores never do."""
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
    """Raise ValueError for an empty or undecodable name."""
    if not uri:
        raise ValueError("the name of a folder is empty")
    if utf8_text(uri) != uri:
        raise ValueError(f"{utf8_text(uri)}: the name is not UTF-8, which Spark requires")


def is_pattern(path: str) -> bool:
    """Whether a path contains characters that Spark and Hadoop interpret as a glob."""
    return _GLOB_CHARACTERS.search(path) is not None


def literal(path: str) -> str:
    """Make a glob that matches only this path."""
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
    """Return Hadoop's error in one line, after what to do about it if that is known."""
    java = isinstance(error, Py4JJavaError)
    reason = error.java_exception.toString() if java else str(error)
    return with_remedy(reason.strip().splitlines()[0])


def with_remedy(reason: str) -> str:
    """Prepend to an error of Hadoop what to do about it, if that is known."""
    for mark, remedy in _REMEDIES:
        if re.search(mark, reason):
            return f"{remedy} ({reason})"
    return reason
