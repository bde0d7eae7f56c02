"""A place of each kind, new for each test, and a bucket."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.places import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place


@pytest.fixture(params=list(KINDS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written, and remove it afterwards."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """
    Run an S3 server in a process of its own, with access to it in AWS_* variables.

    In this one, delta-rs would wait for its answer with Python's lock held.
    """
    served = subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert served.stdin
    assert served.stdout
    endpoint, name, key, secret, region = served.stdout.readline().split()
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_REGION", region)
    yield name
    served.stdin.close()
    served.wait(10)
    served.stdout.close()


_SERVER = """
import sys
from ometria_simulator import s3_server
with s3_server() as s3:
    print(s3.endpoint_url, s3.bucket, s3.access_key, s3.secret_key, s3.region, flush=True)
    sys.stdin.read()
"""
