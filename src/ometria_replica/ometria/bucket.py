"""Opens the feed's bucket or folder, and turns the store's errors into ours."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    OmetriaError,
    ReplicaError,
    Unavailable,
    UnexpectedResponse,
)
from ometria_replica.ometria.aws_credentials import NO_CREDENTIALS, find_credentials, sendable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import LocalStore, S3Config, S3Store

    from ometria_replica.config import FeedSettings


@dataclass(frozen=True)
class Bucket:
    """An open bucket or folder. *place* names it in messages, *signed_by* its credentials."""

    store: S3Store | LocalStore
    place: str
    signed_by: str = ""
    local: bool = False

    def refusal(self, error: Exception, doing: str) -> ReplicaError:
        """
        Turn *error* into an error that says what failed and what to do.

        The driver's text and the cause are left out: they quote the store's answer, which may
        contain the access key and the signed text.
        """
        text = str(error)
        code, status = _found(r"<Code>(\w+)</Code>", text), _found(r"status code: (\d+)", text)
        what = f"{self.place}: {doing} failed"
        if self.local:
            return OmetriaError(f"{what}. Check that the folder can be read.")
        if "/latest/api/token" in text or "/latest/meta-data" in text:
            return AccessDenied(f"{what}: {NO_CREDENTIALS}")
        if "External AWS credential provider" in text:
            return AccessDenied(f"{what}: no session for {self.signed_by}. Sign in again.")
        if code in _ELSEWHERE or status == "301":
            return OmetriaError(f"{what}: {self._where_else(code, text)}")
        if code in _KEYS or status in {"401", "403"}:
            return AccessDenied(f"{what}: {self._denial(code, status)}")
        return self._trouble(what, code, status)

    def trouble_with_one(self, error: Exception) -> str | None:
        """
        Say why the store does not give one object, although it may give others.

        The object may be archived, damaged, or encrypted with a key that we may not use; a file
        may have no permission to read it. None if *error* concerns all objects: our credentials,
        the bucket, the network.
        """
        text = str(error)
        if self.local:
            found = _found(rf"({'|'.join(_OF_ONE_FILE)})", text)
            return None if found is None else f"it cannot be opened ({found.lower()})"
        code, status = _found(r"<Code>(\w+)</Code>", text), _found(r"status code: (\d+)", text)
        if status is None or status in {"301", "401", "429"} or "/latest/" in text:
            return None
        if code in _KEYS | _SESSION | _ELSEWHERE:
            return None
        if status == "403":
            return f"the store denies access ({code or status})"
        return f"the store answers {status}" + (f" ({code})" if code else "")

    def _trouble(self, what: str, code: str | None, status: str | None) -> ReplicaError:
        if status is None or status == "429" or status.startswith("5"):
            answer = f"it answered {status}" if status else "no answer within the retries"
            return Unavailable(f"{what}: {answer}. Check the address, or try again later.")
        return UnexpectedResponse(
            f"{what}: the store answered {status} {code or ''}".rstrip()
            + ", which S3 does not document here. Check `endpoint_url`."
        )

    def _where_else(self, code: str | None, text: str) -> str:
        if code == "NoSuchBucket":
            return "there is no such bucket. Check the feed's url."
        region = _found(r"<Region>([\w-]+)</Region>", text)
        named = f", in {region}" if region else ""
        return f"the bucket is in another region{named}. Set the feed's region."

    def _denial(self, code: str | None, status: str | None) -> str:
        signed = f"signed with {self.signed_by}"
        match code:
            case "InvalidAccessKeyId":
                return f"the store does not know the access key ({signed}). Check the access key."
            case "SignatureDoesNotMatch":
                return f"the secret does not match the access key ({signed}). Check the secret."
            case "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired":
                return f"the session token has expired ({signed}). Renew it."
            case "RequestTimeTooSkewed":
                return "this machine's clock is wrong by more than 15 minutes. Set it."
        return (
            f"access denied ({status}, {signed})."
            " Allow s3:ListBucket on the bucket and s3:GetObject below the prefix."
        )


_FILE_NAME = re.compile(r"\.(csv|tsv|txt|jsonl?|ndjson|parquet|gz|zst|zip)$", re.IGNORECASE)
_OF_ONE_FILE = ("Permission denied", "Too many levels of symbolic links", "Is a directory")
_ELSEWHERE = {"NoSuchBucket", "PermanentRedirect", "AuthorizationHeaderMalformed"}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_SESSION = {"TokenRefreshRequired", "RequestTimeTooSkewed"}


def naming_a_folder(options: FeedSettings) -> FeedSettings:
    """
    Split a url that names one file, or files by a pattern, into a folder and a pattern.

    Raises ConfigError if the settings have another pattern too.
    """
    folder, slash, name = options.url.rpartition("/")
    in_bucket = options.url.startswith("s3://")
    is_file = _FILE_NAME.search(name) if in_bucket else _folder(options.url).is_file()
    if not name or not (is_file or re.search(r"[*?\[]", name)):
        return options
    if options.pattern:
        raise ConfigError(
            f"{options.url}: names files, and so does the feed's pattern, {options.pattern}."
            " Leave out one of them."
        )
    return replace(options, url=folder or slash or ".", pattern=name)


def open_bucket(options: FeedSettings, environ: Mapping[str, str] = os.environ) -> Bucket:
    """
    Open the bucket or folder at ``options.url``.

    Raises ConfigError if the folder does not exist. A bucket is not contacted yet.
    """
    if options.url.startswith("s3://"):
        return _open_s3(options, environ)
    return _open_folder(_folder(options.url))


def _folder(url: str) -> Path:
    path = unquote(urlsplit(url).path) if url.startswith("file://") else url
    return Path(path).expanduser()


def _open_folder(folder: Path) -> Bucket:
    from obstore.store import LocalStore  # noqa: PLC0415 -- Only a sync needs it.

    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder. Check the feed's url.")
    return Bucket(LocalStore(folder), f"{folder}", local=True)


# --- S3 ----------------------------------------------------------------------------------------


def _open_s3(options: FeedSettings, environ: Mapping[str, str]) -> Bucket:
    from obstore.store import S3Store  # noqa: PLC0415 -- Only a sync needs it.

    name, _, prefix = options.url.removeprefix("s3://").partition("/")
    endpoint = (
        options.endpoint_url
        or environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or None
    )
    if endpoint:
        endpoint = sendable("the feed's endpoint_url, or AWS_ENDPOINT_URL", endpoint)
    place = f"s3://{name}/{prefix}" + (f" at {urlsplit(endpoint).netloc}" if endpoint else "")
    found = find_credentials(options, environ, place)
    region = options.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    region = sendable("the feed's region, or AWS_REGION", region or found.region or "us-east-1")
    config: S3Config = {
        "region": region,
        "virtual_hosted_style_request": False,  # Other stores have no host name per bucket.
    }
    if endpoint:
        config["aws_endpoint_url_s3"] = endpoint  # Takes precedence over the driver's own search.
    store = S3Store(
        name,
        # The driver matches a prefix by whole segments: `acme` never opens `acme-2/`.
        prefix=prefix.strip("/") or None,
        config=config,
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "connect_timeout": "10s",
            "read_timeout": "30s",
            "timeout": "15m",  # For one part of a file (export.PART): at least 75 kB a second.
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
        credential_provider=found.provider,
    )
    return Bucket(store, place, found.signed_by)


def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None
