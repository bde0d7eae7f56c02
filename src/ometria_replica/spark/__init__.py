"""
Backfill on a Spark cluster: the executors stage the export files, the driver loads the rows.

An executor processes a file as a sync does: it downloads the file and maps it with the same
statement, in a DuckDB of its own. It writes the staged rows as Parquet to the staging folder,
under a name that no other attempt uses, and returns an outcome with that name to the driver.
The driver loads exactly the files of these outcomes, in the order of the feed. A task that is
killed, retried or run twice therefore neither loses a row nor duplicates one. Spark alone
decides which task runs where and when.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ometria_replica.clock import utc_now
from ometria_replica.config import FeedSettings, masked
from ometria_replica.errors import ConfigError
from ometria_replica.replication import sync
from ometria_replica.spark.driver import Cluster
from ometria_replica.spark.staging_folder import StagingFolder
from ometria_replica.tables import TABLES
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime

    from pyspark.sql import SparkSession

    from ometria_replica.config import Config
    from ometria_replica.observer import Observe
    from ometria_replica.report import RunReport
    from ometria_replica.run_context import Progress

AT_ONCE = 64
MEMORY = "1GB"  # Of a task, unless the settings or the caller say otherwise.

FEED_TABLES = tuple(table.name for table in TABLES if isinstance(table.read, Feed))


def backfill(
    config: Config,
    spark: SparkSession,
    staging: str | FeedSettings,
    *,
    full: bool = False,
    since: date | None = None,
    until: date | None = None,
    at_once: int = AT_ONCE,
    memory: str | None = None,
    clock: Callable[[], datetime] = utc_now,
    progress: Progress | None = None,
    observe: Observe | None = None,
) -> RunReport:
    """
    Read the feeds of *config* as ``sync`` does, and map their files on the executors of *spark*.

    *staging* is the folder for staged rows until they are loaded: an ``s3://`` address, or a
    folder that the driver and the executors share. Pass FeedSettings if it needs other
    credentials than the AWS credential chain provides. The run removes the files that it
    wrote there. *full*, *since*, *until*, *clock*, *progress* and *observe* are those of ``sync``.
    *at_once* is the number of files that are processed concurrently: at least the number of
    the cluster's cores. *memory* is the memory limit of the DuckDB in one task;
    None means ``memory_limit`` of *config*, or else 1 GB. A task has one thread, and its
    temporary files go to ``temp_directory``.

    Raises the errors of ``sync``, and ReplicaError if a Spark job fails.
    """
    accounts = tuple(
        replace(account, api_key=None, require=(), feed=_from_anywhere(account.feed))
        for account in config.accounts
        if account.feed is not None
    )
    if not accounts:
        raise ConfigError("No account has a feed, and Spark reads nothing else. Set feed.url.")
    if at_once < 1:
        raise ConfigError(f"at_once: {at_once} is too small. Use 1 or more.")
    settings = FeedSettings(url=staging) if isinstance(staging, str) else staging
    folder = StagingFolder(_from_anywhere(settings), masked(config.warehouse.url))
    of_driver = config.warehouse.limits
    limits = replace(of_driver, memory_limit=memory or of_driver.memory_limit or MEMORY, threads=1)
    with Cluster(spark, folder, at_once, limits).running() as cluster:
        return sync(
            replace(config, accounts=accounts, parallel_accounts=1),  # The executors are.
            FEED_TABLES,
            full=full,
            since=since,
            until=until,
            clock=clock,
            progress=progress,
            observe=observe,
            fetch=cluster.fetch,
        )


def _from_anywhere(feed: FeedSettings) -> FeedSettings:
    """Make a relative path absolute: an executor has another working directory."""
    if "://" in feed.url:
        return feed
    return replace(feed, url=str(Path(feed.url).expanduser().absolute()))
