"""
The region and the endpoint of S3, by the order of AWS's own tools.

Settings come first, then the environment, then the profile in the AWS configuration files:
docs.aws.amazon.com/sdkref, "Service-specific endpoints".
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.config import FeedSettings


def region(options: FeedSettings, environ: Mapping[str, str]) -> str | None:
    """Find the region; None if nothing names one."""
    return (
        options.region
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or _profile(options, environ).get("region")
    )


def endpoint(options: FeedSettings, environ: Mapping[str, str]) -> str | None:
    """Find the endpoint of S3; None for Amazon's own."""
    if options.endpoint_url:
        return options.endpoint_url
    profile = _profile(options, environ)
    ignored = environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or profile.get(
        "ignore_configured_endpoint_urls", ""
    )
    if ignored.strip().lower() == "true":
        return None
    return (
        environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or _of_the_service(profile, environ)
        or profile.get("endpoint_url")
    )


def shared_files(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """
    Read ``~/.aws/config`` and ``~/.aws/credentials``, the latter first.

    Profiles are named without the word ``profile``, other sections as they are written.
    """
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


def _profile(options: FeedSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the profile in use; it is empty if the files have none of that name."""
    name = options.profile or environ.get("AWS_PROFILE") or "default"
    return shared_files(environ).get(name, {})


def _of_the_service(profile: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """Find S3's own endpoint in the section ``services`` that the profile names."""
    section = shared_files(environ).get(f"services {profile.get('services', '').strip()}", {})
    for line in section.get("s3", "").splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "endpoint_url":
            return value.strip() or None
    return None
