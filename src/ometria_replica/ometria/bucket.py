"""The way into the feed's bucket or folder: address, credentials, and what a refusal means."""

from __future__ import annotations

import configparser
import os
import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ometria_replica.errors import (
    AccessDenied,
    ConfigError,
    OmetriaError,
    ReplicaError,
    Unavailable,
    UnexpectedResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import LocalStore, S3Config, S3Credential, S3Store

    from ometria_replica.config import FeedSettings

METADATA = "http://169.254.169.254"
METADATA_SECONDS = 1.0  # Amazon's own answer within a millisecond; elsewhere nobody does.
SESSION = "ometria-replica"
ASK_AGAIN_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class Bucket:
    """An open bucket or folder. *place* names it in messages, *signed_by* its credentials."""

    store: S3Store | LocalStore
    place: str
    signed_by: str = ""
    local: bool = False

    def refusal(self, error: Exception, doing: str) -> ReplicaError:
        """
        Say what *error* means, and what to do.

        The driver's own text is left out, and the cause with it: it quotes the
        store's answer, in which the access key and what was signed can stand.
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

    def denied_for(self, error: Exception) -> str | None:
        """
        Give the code for which the store denies one object, though it knows who asks.

        An object may be archived, or encrypted with a key that is not ours to use.
        None where *error* says anything else, or something about our credentials.
        """
        text = str(error)
        code, status = _found(r"<Code>(\w+)</Code>", text), _found(r"status code: (\d+)", text)
        if self.local or status != "403" or "/latest/" in text or code in _KEYS | _SESSION:
            return None
        return code or status

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
                return f"the access key is unknown there ({signed}). Check the access key."
            case "SignatureDoesNotMatch":
                return f"the secret does not fit the access key ({signed}). Check the secret."
            case "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired":
                return f"the session's token is not valid any more ({signed}). Renew it."
            case "RequestTimeTooSkewed":
                return "this machine's clock is wrong by more than 15 minutes. Set it."
        return (
            f"access denied ({status}, {signed})."
            " Allow s3:ListBucket on the bucket and s3:GetObject below the prefix."
        )


_ELSEWHERE = {"NoSuchBucket", "PermanentRedirect", "AuthorizationHeaderMalformed"}
_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_SESSION = {"TokenRefreshRequired", "RequestTimeTooSkewed"}
NO_CREDENTIALS = (
    "no AWS credentials were found. Looked for the feed's access_key_id and profile,"
    " AWS_ACCESS_KEY_ID, AWS_PROFILE, a web identity, the default profile of the AWS"
    " configuration files, a container's role and an instance's role."
    " Set access_key_id and secret_access_key, or a profile."
)


def open_bucket(options: FeedSettings, environ: Mapping[str, str] = os.environ) -> Bucket:
    """Open what ``options.url`` names; nothing is asked of it yet but a folder's existence."""
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


@dataclass(frozen=True)
class Credentials:
    """
    Where a signature comes from: *provider* gives it, or None leaves it to the driver.

    *region* is the profile's, where it has one.
    """

    signed_by: str
    provider: Callable[[], S3Credential] | None = None
    region: str | None = None


def _open_s3(options: FeedSettings, environ: Mapping[str, str]) -> Bucket:
    from obstore.store import S3Store  # noqa: PLC0415 -- Only a sync needs it.

    name, _, prefix = options.url.removeprefix("s3://").partition("/")
    endpoint = (
        options.endpoint_url
        or environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or None
    )
    place = f"s3://{name}/{prefix}" + (f" at {urlsplit(endpoint).netloc}" if endpoint else "")
    found = _credentials(options, environ, place)
    region = options.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    config: S3Config = {
        "region": region or found.region or "us-east-1",
        "virtual_hosted_style_request": False,  # Other stores have no name per bucket.
    }
    if endpoint:
        config["aws_endpoint_url_s3"] = endpoint  # It goes before all that the driver may find.
    store = S3Store(
        name,
        # The driver takes a prefix by whole segments: `acme` never opens `acme-2/`.
        prefix=prefix.strip("/") or None,
        config=config,
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "connect_timeout": "10s",
            "read_timeout": "30s",
            "timeout": "15m",  # Of one part of a file (feed.PART): at least 75 kB a second.
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
        credential_provider=found.provider,
    )
    return Bucket(store, place, found.signed_by)


def _credentials(options: FeedSettings, environ: Mapping[str, str], place: str) -> Credentials:
    """Follow the settings first, then the ordinary AWS chain, in Amazon's order."""
    base = _base_credentials(options, environ, place)
    if options.role_arn:
        return _assumed(options, base, options.role_arn)
    return base


def _base_credentials(options: FeedSettings, environ: Mapping[str, str], place: str) -> Credentials:
    found = (
        _of_the_settings(options, environ)
        or _of_the_environment(environ)
        or _of_the_default_profile(environ)
        or _of_the_machine(environ)
    )
    if found is None:
        raise AccessDenied(f"{place}: {NO_CREDENTIALS}")
    return found


def _of_the_settings(options: FeedSettings, environ: Mapping[str, str]) -> Credentials | None:
    if options.access_key_id and options.secret_access_key:
        token = options.session_token.reveal() if options.session_token else None
        keys = (options.access_key_id.reveal(), options.secret_access_key.reveal(), token)
        return Credentials("the feed's access_key_id", _constant(*keys))
    if options.profile:
        return _profile(options.profile, environ, "the feed's profile")
    return None


def _of_the_environment(environ: Mapping[str, str]) -> Credentials | None:
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        keys = (environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"])
        return Credentials("AWS_ACCESS_KEY_ID", _constant(*keys, environ.get("AWS_SESSION_TOKEN")))
    if environ.get("AWS_PROFILE"):
        return _profile(environ["AWS_PROFILE"], environ, "AWS_PROFILE")
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return Credentials("a web identity")
    return None


def _of_the_default_profile(environ: Mapping[str, str]) -> Credentials | None:
    section = _shared_files(environ).get("default", {})
    if _is_static(section) or _needs_boto3(section):
        return _profile("default", environ, "the profile")
    return None  # It may be there to name a region only.


def _of_the_machine(environ: Mapping[str, str]) -> Credentials | None:
    if any(name.startswith("AWS_CONTAINER_CREDENTIALS_") for name in environ):
        return Credentials("a container's role")
    if _instance_answers(environ):
        return Credentials("the instance's role")
    return None


def _constant(key: str, secret: str, token: str | None) -> Callable[[], S3Credential]:
    """
    Hand the driver exactly these.

    By itself it would add ``AWS_SESSION_TOKEN`` to a key that the settings name.
    """
    return lambda: {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token or None,
        "expires_at": None,
    }


def _instance_answers(environ: Mapping[str, str]) -> bool:
    """Knock at the instance metadata first: the driver would retry for minutes where none is."""
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return False
    address = urlsplit(environ.get("AWS_METADATA_ENDPOINT") or METADATA)
    try:
        place = (address.hostname or "", address.port or 80)
        socket.create_connection(place, METADATA_SECONDS).close()
    except OSError:
        return False
    return True


# --- Profiles and roles ------------------------------------------------------------------------


def _profile(name: str, environ: Mapping[str, str], where: str) -> Credentials:
    """Use a profile: its key is read here; any other way to sign in needs boto3."""
    section = _shared_files(environ).get(name)
    signed_by = f"{where} ({name})"
    if section is None:
        raise ConfigError(
            f"{where}: the AWS configuration files have no profile {name!r}."
            " Check its name, or `aws configure list-profiles`."
        )
    if not _is_static(section):
        return _by_boto3(name, section, signed_by)
    keys = (section["aws_access_key_id"], section["aws_secret_access_key"])
    provider = _constant(*keys, section.get("aws_session_token"))
    return Credentials(signed_by, provider, section.get("region"))


def _shared_files(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Read the profiles of ``~/.aws/config`` and ``~/.aws/credentials``, the latter first."""
    home = Path(environ.get("HOME") or Path.home()) / ".aws"
    config = Path(environ.get("AWS_CONFIG_FILE") or home / "config").expanduser()
    keys = Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials").expanduser()
    profiles: dict[str, dict[str, str]] = {}
    for file in (config, keys):
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            raise ConfigError(f"{file}: cannot be read as an AWS configuration file.") from None
        for section in parser.sections():
            name = section.removeprefix("profile ").strip()
            profiles.setdefault(name, {}).update(parser[section])
    return profiles


def _is_static(section: Mapping[str, str]) -> bool:
    return "role_arn" not in section and {"aws_access_key_id", "aws_secret_access_key"} <= set(
        section
    )


def _needs_boto3(section: Mapping[str, str]) -> bool:
    return bool({"role_arn", "sso_session", "sso_start_url", "credential_process"} & set(section))


def _by_boto3(name: str, section: Mapping[str, str], signed_by: str) -> Credentials:
    boto3 = _boto3(f"The profile {name!r} holds no access key")
    credentials = boto3.Session(profile_name=name).get_credentials()
    if credentials is None:
        raise ConfigError(f"{signed_by}: the profile holds no credentials. Check it.")

    def provide() -> S3Credential:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + ASK_AGAIN_AFTER,
        }

    return Credentials(signed_by, _tried(provide, signed_by), section.get("region"))


def _assumed(options: FeedSettings, base: Credentials, role: str) -> Credentials:
    """Sign in as *role*, by the token service, with the credentials found so far."""
    boto3 = _boto3("The feed's role_arn needs the token service")

    def provide() -> S3Credential:
        keys = base.provider() if base.provider else None
        session = boto3.Session(
            aws_access_key_id=keys["access_key_id"] if keys else None,
            aws_secret_access_key=keys["secret_access_key"] if keys else None,
            aws_session_token=keys.get("token") if keys else None,
            region_name=options.region or base.region or "us-east-1",
        )
        answer = session.client("sts").assume_role(RoleArn=role, RoleSessionName=SESSION)
        given = answer["Credentials"]
        return {
            "access_key_id": given["AccessKeyId"],
            "secret_access_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expires_at": given["Expiration"].astimezone(UTC),  # The driver takes this zone only.
        }

    signed_by = f"the role {role}, assumed with {base.signed_by}"
    return Credentials(signed_by, _tried(provide, signed_by), base.region)


def _tried(provide: Callable[[], S3Credential], signed_by: str) -> Callable[[], S3Credential]:
    """Sign in once, here, where a refusal can be told from the bucket's."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 -- An extra.

    try:
        provide()
    except (BotoCoreError, ClientError):
        raise AccessDenied(
            f"AWS gave no session for {signed_by}. Check the profile or the role,"
            " and that these credentials may assume it."
        ) from None
    return provide


def _boto3(why: str) -> Any:
    try:
        import boto3  # noqa: PLC0415 -- Not among the dependencies: 100 MB for one kind of sign-in.
    except ImportError:
        raise ConfigError(
            f"{why}: that takes boto3, which is not installed. Run `pip install boto3`."
        ) from None
    return boto3


def _found(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None
