from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ometria_simulator import S3Server, s3_server
from tests.spark.cluster import Cluster, java_is_missing, local_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run a cluster. Without Java, skip the tests; in CI, fail: there they must run."""
    if missing := java_is_missing():
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with local_cluster(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """Run an S3 server with an empty bucket."""
    with s3_server() as running:
        yield running
