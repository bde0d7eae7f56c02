"""Opens the feed's bucket or folder, and turns the store's errors into ours."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ometria_replica.config import is_loopback
from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    OmetriaError,
    ReplicaError,
    Unavailable,
    UnexpectedResponse,
)
from ometria_replica.ometria import aws_config
from ometria_replica.ometria.aws_credentials import NO_CREDENTIALS, find_credentials, sendable
from ometria_replica.ometria.odd_keys import VALID, OddKeys, has_dots, is_odd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import LocalStore, S3Config, S3Store

    from ometria_replica.config import FeedSettings


@dataclass(frozen=True)
class Bucket:
    """
    An open bucket or folder. *place* names it in messages, *signed_by* its credentials.

    *odd_keys* are the keys of a bucket that *store* cannot name.
    """

    store: S3Store | LocalStore
    place: str
    signed_by: str = ""
    local: bool = False
    odd_keys: OddKeys | None = None
    warning: str | None = None

    def refusal(self, error: Exception, doing: str) -> ReplicaError:
        """
        Turn *error* into an error that says what failed and what to do.

        The driver's text and the cause are left out: they quote the store's answer, which may
        contain the access key and the signed text.
        """
        text, answer = str(error), Answer.of(error)
        what = f"{self.place}: {doing} failed"
        if self.local:
            return OmetriaError(f"{what}. Check that the folder can be read.")
        if "/latest/api/token" in text or "/latest/meta-data" in text:
            return AccessDenied(f"{what}: {NO_CREDENTIALS}")
        if "External AWS credential provider" in text:
            return AccessDenied(f"{what}: no session for {self.signed_by}. Sign in again.")
        if answer.code in _ELSEWHERE or answer.status == "301":
            return OmetriaError(f"{what}: {self._where_else(answer.code, text)}")
        if answer.code in _KEYS or answer.status in {"401", "403"}:
            return AccessDenied(f"{what}: {self._denial(answer.code, answer.status)}")
        return self._trouble(what, answer.code, answer.status)

    def _trouble(self, what: str, code: str | None, status: str | None) -> ReplicaError:
        if status is None or status == "429" or (status[0] == "5" and status not in _NEVER):
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
            " Allow s3:ListBucket on the bucket, s3:GetObject below the prefix, and kms:Decrypt if"
            " the objects are encrypted with a key of your own."
        )


@dataclass(frozen=True)
class Answer:
    """The status and S3's code in the answer that the driver's error quotes. None: no answer."""

    status: str | None
    code: str | None
    asked_for_credentials: bool = False

    @classmethod
    def of(cls, error: Exception) -> Answer:
        """Find them in the text of *error*."""
        text = str(error)
        code, status = _found(r"<Code>([\w.]+)</Code>", text), _found(r"status code: (\d+)", text)
        return cls(status, code, "/latest/" in text)

    @property
    def concerns_all(self) -> bool:
        """Whether it is about our credentials, the bucket or the network, not about one object."""
        if self.status in {None, "301", "401", "429"} or self.asked_for_credentials:
            return True
        return self.code in _KEYS | _SESSION | _ELSEWHERE

    @property
    def may_concern_all(self) -> bool:
        """
        Whether the store could answer so for each object: a denial, or an error of its own.

        For an archived object it has a code of its own.
        """
        if self.status == "403":
            return self.code != "InvalidObjectState"
        return self.concerns_all or (self.status or "").startswith("5")

    @property
    def reason(self) -> str:
        """Say why an object is not given."""
        if self.code == "InvalidObjectState":
            return "it is archived, and has to be restored first (InvalidObjectState)"
        if self.status == "403":
            return f"the store denies access ({self.code or self.status})"
        return f"the store answers {self.status}" + (f" ({self.code})" if self.code else "")


_FILE_NAME = re.compile(r"\.(csv|tsv|txt|jsonl?|ndjson|parquet|gz|zst|zip)$", re.IGNORECASE)
_ELSEWHERE = {"NoSuchBucket", "PermanentRedirect", "AuthorizationHeaderMalformed"}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_SESSION = {"TokenRefreshRequired", "RequestTimeTooSkewed"}
_NEVER = {"501", "505"}  # What the server cannot do.


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
    Open the bucket or folder at ``options.url``, to read and to write.

    Raises ConfigError if the folder does not exist. A bucket is not contacted yet.
    """
    if options.url.startswith("s3://"):
        return _open_s3(options, environ)
    from obstore.store import LocalStore  # noqa: PLC0415 -- Only a backfill on Spark needs it.

    folder = existing_folder(options.url)
    return Bucket(LocalStore(folder), f"{folder}", local=True)


def _folder(url: str) -> Path:
    path = unquote(urlsplit(url).path) if url.startswith("file://") else url
    return Path(path).expanduser()


def existing_folder(url: str) -> Path:
    """Return the folder at *url*; raises ConfigError if there is none."""
    folder = _folder(url)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no such folder. Check the feed's url.")
    return folder


# --- S3 ----------------------------------------------------------------------------------------


def _open_s3(options: FeedSettings, environ: Mapping[str, str]) -> Bucket:
    import obstore  # noqa: PLC0415 -- Only a sync needs it.
    from obstore.store import S3Store  # noqa: PLC0415 -- As above.

    name, _, below = options.url.removeprefix("s3://").partition("/")
    prefix = below.strip("/")
    if prefix and has_dots(prefix):
        raise ConfigError(f"{options.url}: '.' and '..' between slashes are no S3 prefix.")
    endpoint = aws_config.endpoint(options, environ)
    if endpoint:
        endpoint = sendable("the feed's endpoint_url, or AWS_ENDPOINT_URL", endpoint)
    place = f"s3://{name}/{below}" + (f" at {urlsplit(endpoint).netloc}" if endpoint else "")
    found = find_credentials(options, environ, place)
    region = aws_config.region(options, environ) or "us-east-1"
    region = sendable("the feed's region, or AWS_REGION", region)

    def open_store(address: str | None, prefix: str = "", *, names_bucket: bool = False) -> S3Store:
        config: S3Config = {"region": region, "virtual_hosted_style_request": names_bucket}
        if address:  # Takes precedence over the driver's own search.
            config["aws_endpoint_url_s3"] = address
        return S3Store(
            name,
            # The driver matches a prefix by whole segments: `acme` never opens `acme-2/`.
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": bool(address and address.startswith("http://")),
                "connect_timeout": "10s",
                "read_timeout": "30s",
                "timeout": "15m",  # For one part of a file (PART): at least 75 kB a second.
            },
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
            credential_provider=found.provider,
        )

    def sign(path: str) -> str:
        """Sign an address, to the end of which the driver adds a key of its own."""
        host = endpoint or f"https://s3.{region}.amazonaws.com"
        slash = "" if path.startswith("?") else "/"
        signing = open_store(f"{host}/{name}{slash}{path}&x-feed=", names_bucket=True)
        return obstore.sign(signing, "GET", "1", VALID)

    odd = is_odd(prefix) if prefix else False
    return Bucket(
        # Path style: other stores have no host name for each bucket.
        open_store(endpoint, "" if odd else prefix),
        place,
        found.signed_by,
        odd_keys=OddKeys(f"{prefix}/" if prefix else "", sign, all_are_odd=odd),
        warning=_unencrypted(endpoint),
    )


def _unencrypted(endpoint: str | None) -> str | None:
    """Warn of an address that is neither encrypted nor on this machine."""
    address = urlsplit(endpoint or "")
    if address.scheme != "http" or is_loopback(address.hostname or ""):
        return None
    return (
        f"the store at {address.netloc} is asked over http: names and contents of the files can be"
        " read and changed on the way. Use https in endpoint_url."
    )


def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None
