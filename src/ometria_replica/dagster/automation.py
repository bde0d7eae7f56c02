"""What starts runs: a schedule, and a sensor that looks for new files and for what is too old."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from ometria_replica.catalog import CATALOG
from ometria_replica.errors import ReplicaError
from ometria_replica.status_report import TOO_OLD
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from ometria_replica.dagster.resource import OmetriaReplica


def ometria_schedule(
    target: dg.AssetsDefinition, cron_schedule: str = "0 * * * *", *, name: str = "ometria_schedule"
) -> dg.ScheduleDefinition:
    """
    Materialise *target* at the times of *cron_schedule*, by default every hour.

    Of assets with partitions, a run has the newest: it reads what is new.
    """

    def requests(_: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if target.partitions_def is None:
            return dg.RunRequest()
        newest = target.partitions_def.get_last_partition_key()
        if newest is None:
            return dg.SkipReason("No day of the partitions has ended yet.")
        return dg.RunRequest(partition_key=newest)

    return dg.ScheduleDefinition(
        name=name, cron_schedule=cron_schedule, target=target, execution_fn=requests
    )


def ometria_sensor(
    target: dg.AssetsDefinition,
    *,
    max_age: timedelta | None = TOO_OLD,
    name: str = "ometria_sensor",
    minimum_interval_seconds: int = 600,
    resource_key: str = "ometria",
) -> dg.SensorDefinition:
    """
    Materialise *target* when the export has new files, or when a table is older than *max_age*.

    The export is listed, and no request is sent to the API. *max_age* None looks for files alone.
    What was requested once is requested again only after a run has ended, or more files are there.
    It is for assets without partitions.
    """
    names = [key.path[-1] for key in target.keys]
    of_export = [each.name for each in CATALOG.every if isinstance(each.read, Feed)]
    listed = [each for each in of_export if each in names]

    @dg.sensor(
        name=name,
        target=target,
        minimum_interval_seconds=minimum_interval_seconds,
        required_resource_keys={resource_key},
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        replica: OmetriaReplica = getattr(context.resources, resource_key)
        try:
            status = replica.status(names, max_age)
            if status.active_runs:
                return dg.SkipReason("A run is active.")
            reasons = list(_reasons(replica, status, listed, is_aged=max_age is not None))
        except ReplicaError as error:
            return dg.SkipReason(f"Not known: {error}")
        if not reasons:
            return dg.SkipReason("No new files, and nothing is too old.")
        last = status.last_run.run_id if status.last_run else "no run"
        cursor = f"{last}: {'; '.join(reasons)}"
        if cursor == context.cursor:
            return dg.SkipReason(f"Requested already: {'; '.join(reasons)}.")
        request = dg.RunRequest(tags={"ometria/because": "; ".join(reasons)})
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return look


def _reasons(
    replica: OmetriaReplica, status: Any, listed: list[str], *, is_aged: bool
) -> Iterator[str]:
    """Say why a run is due, in words that stay the same until a run has ended."""
    if is_aged:
        old = sorted({each.table for each in status.tables_too_old})
        if old:
            yield f"too old: {', '.join(old)}"
    if listed:
        files = replica.plan(listed).files.value
        if files:
            yield f"new files: {files}"
