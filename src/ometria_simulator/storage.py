"""The target of the export: a folder, or a bucket of an S3 server."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

REGION = "eu-west-1"
# The S3 server of the tests accepts any keys.
ACCESS_KEY, SECRET_KEY = "simulated-access-key", "simulated-secret-key"


class StorageError(Exception):
    """The target is not usable; the message names it and a remedy."""


class Storage(Protocol):
    """A target for files."""

    def write(self, name: str, data: bytes, moment: datetime) -> datetime:
        """Write a file with the simulated time *moment*; return its actual modification time."""

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""

    def delete(self, name: str) -> None:
        """Delete a file."""


class Folder:
    """A folder, whose files have simulated modification times."""

    def __init__(self, path: Path) -> None:
        """Create the folder if it does not exist."""
        self._path = path
        path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, data: bytes, moment: datetime) -> datetime:
        """Write atomically, as an upload appears; a rewritten file always has a newer time."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        seconds = int(moment.timestamp())
        if path.exists():
            seconds = max(seconds, int(path.stat().st_mtime) + 1)
        hidden = path.with_name(f".{path.name}.upload")
        hidden.write_bytes(data)
        os.utime(hidden, (seconds, seconds))
        hidden.replace(path)
        return type(moment).fromtimestamp(seconds, tz=moment.tzinfo)

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return (self._path / name).read_bytes()

    def delete(self, name: str) -> None:
        """Delete a file."""
        (self._path / name).unlink()


class Bucket:
    """A prefix in a bucket; the S3 server sets the modification times."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        """Use an open client; *prefix* ends with a slash or is empty."""
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def write(self, name: str, data: bytes, moment: datetime) -> datetime:  # noqa: ARG002 -- S3 sets its own time
        """Upload in one request."""
        key = self._prefix + name
        self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        head = self._client.head_object(Bucket=self._bucket, Key=key)
        modified: datetime = head["LastModified"]
        return modified

    def read(self, name: str) -> bytes:
        """Download a file."""
        answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
        data: bytes = answer["Body"].read()
        return data

    def delete(self, name: str) -> None:
        """Delete the object."""
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)


@dataclass(frozen=True, slots=True)
class S3Access:
    """Access to an S3 server; fields that are None fall back to the AWS settings."""

    endpoint_url: str | None = None
    access_key: str | None = None
    secret_key: str | None = None
    region: str | None = None


def open_storage(target: str | Path, access: S3Access | None = None) -> Storage:
    """Open a folder, ``file://…`` or ``s3://bucket/prefix``. Raises StorageError."""
    if isinstance(target, Path):
        return Folder(target)
    parts = urlsplit(target)
    if parts.scheme == "s3":
        prefix = parts.path.strip("/")
        client = _client(access or S3Access())
        _check_bucket(client, parts.netloc)
        return Bucket(client, parts.netloc, f"{prefix}/" if prefix else "")
    if parts.scheme == "file":
        return Folder(Path(parts.path))
    if "://" in target:
        message = f"Cannot export to {target!r}. Use a folder, file:// or s3://bucket/prefix."
        raise StorageError(message)
    return Folder(Path(target))


def _check_bucket(client: Any, bucket: str) -> None:
    try:
        client.head_bucket(Bucket=bucket)
    except Exception as error:
        message = f"Cannot access the bucket {bucket!r} ({error}). Create it, or check the keys."
        raise StorageError(message) from error


def _client(access: S3Access) -> Any:
    try:
        import boto3  # noqa: PLC0415 -- an extra, which folders do not need
        from botocore.config import Config  # noqa: PLC0415
    except ImportError as error:
        message = "S3 needs an extra: pip install 'ometria-replica[simulator]'."
        raise StorageError(message) from error
    return boto3.client(
        "s3",
        endpoint_url=access.endpoint_url,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
        config=Config(s3={"addressing_style": "path"}, connect_timeout=5),
    )


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 server with its keys."""

    endpoint_url: str
    bucket: str
    access_key: str
    secret_key: str
    region: str

    @property
    def url(self) -> str:
        """The address of the bucket, as a target for an export."""
        return f"s3://{self.bucket}"

    @property
    def access(self) -> S3Access:
        """The access to this server."""
        return S3Access(self.endpoint_url, self.access_key, self.secret_key, self.region)

    def client(self) -> Any:
        """Open a boto3 client for this server."""
        return _client(self.access)

    def create_bucket(self, name: str) -> None:
        """Create another bucket."""
        self.client().create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": self.region}
        )


@contextlib.contextmanager
def s3_server(bucket: str = "ometria-exports", *, port: int = 0) -> Iterator[S3Server]:
    """
    Run moto's S3 server on the loopback address with an empty *bucket*.

    All servers of a process share their buckets; the end of the block deletes all of them.
    """
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 -- an extra, and slow to import
    except ImportError as error:
        message = "An S3 server needs an extra: pip install 'ometria-replica[simulator]'."
        raise StorageError(message) from error
    # By default, werkzeug prints a line for each request to standard error.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    moto.start()
    try:
        host, chosen_port = moto.get_host_and_port()
        server = S3Server(f"http://{host}:{chosen_port}", bucket, ACCESS_KEY, SECRET_KEY, REGION)
        _delete_buckets(server.client())
        server.create_bucket(bucket)
        yield server
        _delete_buckets(server.client())
    finally:
        moto.stop()


def _delete_buckets(client: Any) -> None:
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for item in page.get("Contents", ()):
                client.delete_object(Bucket=bucket["Name"], Key=item["Key"])
        client.delete_bucket(Bucket=bucket["Name"])
