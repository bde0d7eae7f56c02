"""
The AWS credential chain: the feed's settings, the environment, profiles, the machine's role.

boto3, which has all of it, is 100 MB (decision 0009); it is used only for profiles and roles
that need a sign-in.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ometria_replica.errors import AccessDenied, ConfigError
from ometria_replica.ometria import aws_config
from ometria_replica.ometria.aws_config import shared_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import S3Credential

    from ometria_replica.config import FeedSettings

METADATA = "http://169.254.169.254"
METADATA_SECONDS = 1.0  # Amazon answers within a millisecond; elsewhere there is no answer.
SESSION = "ometria-replica"
ASK_AGAIN_AFTER = timedelta(minutes=5)
NO_CREDENTIALS = (
    "no AWS credentials were found. Looked for the feed's access_key_id and profile,"
    " AWS_ACCESS_KEY_ID, AWS_PROFILE, a web identity, the default profile of the AWS"
    " configuration files, a container's role and an instance's role."
    " Set access_key_id and secret_access_key, or a profile."
)


@dataclass(frozen=True)
class Credentials:
    """
    Credentials that sign requests. *provider* None means that the driver finds them.

    *signed_by* names their source in messages.
    """

    signed_by: str
    provider: Callable[[], S3Credential] | None = None


def find_credentials(options: FeedSettings, environ: Mapping[str, str], place: str) -> Credentials:
    """
    Find credentials in the settings, then along the AWS credential chain, in Amazon's order.

    Raises AccessDenied if there are none; *place* names the bucket in the message.
    """
    base = _base_credentials(options, environ, place)
    if options.role_arn:
        region = aws_config.region(options, environ) or "us-east-1"
        return _assumed(base, options.role_arn, region)
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
        names = ("access_key_id", "secret_access_key", "session_token")
        secrets = (options.access_key_id, options.secret_access_key, options.session_token)
        keys = {
            f"the feed's {name}": secret.reveal() if secret else ""
            for name, secret in zip(names, secrets, strict=True)
        }
        return Credentials("the feed's access_key_id", _constant(keys))
    if options.profile:
        return _profile(options.profile, environ, "the feed's profile")
    return None


def _of_the_environment(environ: Mapping[str, str]) -> Credentials | None:
    if environ.get("AWS_ACCESS_KEY_ID") and environ.get("AWS_SECRET_ACCESS_KEY"):
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        keys = {name: environ.get(name, "") for name in names}
        return Credentials("AWS_ACCESS_KEY_ID", _constant(keys))
    if environ.get("AWS_PROFILE"):
        return _profile(environ["AWS_PROFILE"], environ, "AWS_PROFILE")
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return Credentials("a web identity")
    return None


def _of_the_default_profile(environ: Mapping[str, str]) -> Credentials | None:
    section = shared_files(environ).get("default", {})
    if _is_static(section) or _needs_boto3(section):
        return _profile("default", environ, "the profile")
    return None  # The section may exist only to name a region.


def _of_the_machine(environ: Mapping[str, str]) -> Credentials | None:
    if any(name.startswith("AWS_CONTAINER_CREDENTIALS_") for name in environ):
        return Credentials("a container's role")
    if _instance_answers(environ):
        return Credentials("the instance's role")
    return None


def sendable(name: str, text: str) -> str:
    """
    Return *text* without space around it: a secret of Kubernetes often ends with a line break.

    Raises ConfigError, which does not quote it, if no header can hold what remains.
    """
    stripped = text.strip()
    if re.search(r"[^\x20-\x7e]", stripped):
        raise ConfigError(
            f"{name}: contains a line break, or another character that cannot be sent."
            " Set it again without that character."
        )
    return stripped


def _constant(keys: Mapping[str, str]) -> Callable[[], S3Credential]:
    """
    Provide exactly this key: its id, its secret and its token, by the names in messages.

    The driver itself would add ``AWS_SESSION_TOKEN`` to a key from the settings.
    """
    key, secret, token = (sendable(name, text) for name, text in keys.items())
    return lambda: {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": token or None,
        "expires_at": None,
    }


def _instance_answers(environ: Mapping[str, str]) -> bool:
    """Probe the instance metadata: without one, the driver would retry for minutes."""
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
    """Use a profile. Its access key is read here; any other sign-in needs boto3."""
    section = shared_files(environ).get(name)
    signed_by = f"{where} ({name})"
    if section is None:
        raise ConfigError(
            f"{where}: the AWS configuration files have no profile {name!r}."
            " Check its name, or `aws configure list-profiles`."
        )
    if not _is_static(section):
        return _by_boto3(name, signed_by)
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    provider = _constant({f"{word} of {signed_by}": section.get(word, "") for word in names})
    return Credentials(signed_by, provider)


def _is_static(section: Mapping[str, str]) -> bool:
    return "role_arn" not in section and {"aws_access_key_id", "aws_secret_access_key"} <= set(
        section
    )


def _needs_boto3(section: Mapping[str, str]) -> bool:
    return bool({"role_arn", "sso_session", "sso_start_url", "credential_process"} & set(section))


def _by_boto3(name: str, signed_by: str) -> Credentials:
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

    return Credentials(signed_by, _tried(provide, signed_by))


def _assumed(base: Credentials, role: str, region: str) -> Credentials:
    """Assume *role* at the token service, with the credentials found so far."""
    boto3 = _boto3("The feed's role_arn needs the token service")

    def provide() -> S3Credential:
        keys = base.provider() if base.provider else None
        session = boto3.Session(
            aws_access_key_id=keys["access_key_id"] if keys else None,
            aws_secret_access_key=keys["secret_access_key"] if keys else None,
            aws_session_token=keys.get("token") if keys else None,
            region_name=region,
        )
        answer = session.client("sts").assume_role(RoleArn=role, RoleSessionName=SESSION)
        given = answer["Credentials"]
        return {
            "access_key_id": given["AccessKeyId"],
            "secret_access_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expires_at": given["Expiration"].astimezone(UTC),  # The driver accepts only this zone.
        }

    signed_by = f"the role {role}, assumed with {base.signed_by}"
    return Credentials(signed_by, _tried(provide, signed_by))


def _tried(provide: Callable[[], S3Credential], signed_by: str) -> Callable[[], S3Credential]:
    """Sign in once now, so that a refusal is distinguishable from the bucket's."""
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
        import boto3  # noqa: PLC0415 -- No dependency: 100 MB for one kind of sign-in.
    except ImportError:
        raise ConfigError(
            f"{why}: this needs boto3, which is not installed. Run `pip install boto3`."
        ) from None
    return boto3
