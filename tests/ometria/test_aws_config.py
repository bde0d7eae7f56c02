"""The region and the address of S3, by the order of AWS's own tools."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import botocore.session
import pytest

from ometria_replica.config import FeedSettings, Secret
from ometria_replica.ometria import aws_config
from ometria_replica.ometria.bucket import open_bucket

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[default]
region = eu-west-3
endpoint_url = https://of-default.test

[profile acme]
region = eu-west-1
endpoint_url = https://of-acme.test
services = acme-services

[services acme-services]
s3 =
  endpoint_url = https://s3-of-acme.test
dynamodb =
  endpoint_url = https://dynamodb.test

[profile plain]
output = json
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config").write_text(FILE)
    return {"AWS_CONFIG_FILE": f"{tmp_path}/config", "HOME": str(tmp_path)}


def feed(**options: str) -> FeedSettings:
    return FeedSettings("s3://exports/acme", **options)  # type: ignore[arg-type]


def test_the_profile_in_use_names_region_and_endpoint(environ: dict[str, str]) -> None:
    """The default profile, that of AWS_PROFILE, or that of the feed, whichever signs."""
    acme = environ | {"AWS_PROFILE": "acme"}

    assert aws_config.region(feed(), environ) == "eu-west-3"
    assert aws_config.endpoint(feed(), environ) == "https://of-default.test"
    assert aws_config.region(feed(), acme) == "eu-west-1"
    assert aws_config.endpoint(feed(), acme) == "https://s3-of-acme.test"
    assert aws_config.region(feed(profile="acme"), environ) == "eu-west-1"
    assert aws_config.region(feed(profile="plain"), acme) is None
    assert aws_config.endpoint(feed(profile="plain"), acme) is None


def test_settings_and_environment_come_first(environ: dict[str, str]) -> None:
    """Of the variables, S3's own comes before that of all services."""
    environ |= {"AWS_DEFAULT_REGION": "us-west-1", "AWS_ENDPOINT_URL": "https://all.test"}
    assert aws_config.region(feed(), environ) == "us-west-1"
    assert aws_config.endpoint(feed(), environ) == "https://all.test"
    environ |= {"AWS_REGION": "us-west-2", "AWS_ENDPOINT_URL_S3": "https://s3.test"}
    assert aws_config.region(feed(), environ) == "us-west-2"
    assert aws_config.endpoint(feed(), environ) == "https://s3.test"
    environ["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "TRUE"
    assert aws_config.endpoint(feed(), environ) is None
    own = feed(region="ap-south-1", endpoint_url="https://own.test")
    assert aws_config.region(own, environ) == "ap-south-1"
    assert aws_config.endpoint(own, environ) == "https://own.test"


@pytest.mark.parametrize(
    "profile",
    ["acme", *(pytest.param(name, marks=pytest.mark.slow) for name in ("default", "plain"))],
)
def test_the_order_is_that_of_amazons_own_library(
    profile: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the variables are set. AWS_REGION is left out, which only newer tools read."""
    variables = {
        "AWS_DEFAULT_REGION": "us-west-1",
        "AWS_ENDPOINT_URL": "https://all.test",
        "AWS_ENDPOINT_URL_S3": "https://s3.test",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    }
    for number in range(len(variables) + 1):
        for some in combinations(variables.items(), number):
            env = environ | {"AWS_PROFILE": profile} | dict(some)
            with monkeypatch.context() as clean:
                for name in ("AWS_REGION", *variables):
                    clean.delenv(name, raising=False)
                for name, value in env.items():
                    clean.setenv(name, value)
                theirs = botocore.session.Session()
                region = theirs.get_config_variable("region")
                client = theirs.create_client(
                    "s3", region or "us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
                )
            ours = aws_config.endpoint(feed(), env)

            assert aws_config.region(feed(), env) == region
            assert client.meta.endpoint_url == (ours or client.meta.endpoint_url)
            assert ("amazonaws.com" in client.meta.endpoint_url) == (ours is None)


def test_they_reach_the_store_whatever_signs(environ: dict[str, str]) -> None:
    """Also where the key comes from the settings and not from the profile."""
    keys = {"access_key_id": Secret("key", "x"), "secret_access_key": Secret("s", "x")}
    bucket = open_bucket(FeedSettings("s3://exports/acme", **keys), environ)  # type: ignore[arg-type]

    assert bucket.place == "s3://exports/acme at of-default.test"
    assert bucket.store.config["region"] == "eu-west-3"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("address", "is_told"),
    [
        ("http://minio.example:9000", True),
        ("http://10.0.0.7", True),
        ("http://127.0.0.1:9000", False),
        ("http://[::1]:9000", False),
        ("http://localhost", False),
        ("https://minio.example", False),
    ],
)
def test_an_address_that_is_not_encrypted_is_told(
    address: str, is_told: bool, environ: dict[str, str]
) -> None:
    """Unless it is on this machine."""
    keys = {"access_key_id": Secret("key", "x"), "secret_access_key": Secret("s", "x")}
    options = FeedSettings("s3://exports/acme", endpoint_url=address, **keys)  # type: ignore[arg-type]
    warning = open_bucket(options, environ).warning

    assert bool(warning) is is_told
    assert not warning or "over http" in warning
