from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ometria_simulator import S3Server, s3_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """Run an S3 server with an empty bucket."""
    with s3_server() as running:
        yield running
