"""All of it at once: assets, their sources, the resource, a schedule and a sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from ometria_replica.dagster.assets import ometria_assets, ometria_sources
from ometria_replica.dagster.automation import ometria_schedule, ometria_sensor
from ometria_replica.dagster.resource import OmetriaReplica

if TYPE_CHECKING:
    from ometria_replica.config import Config


def ometria_definitions(
    config: Config | None = None,
    *,
    resource: OmetriaReplica | None = None,
    cron_schedule: str = "0 * * * *",
    **options: Any,
) -> dg.Definitions:
    """
    Make definitions with the assets of one replica, an hourly schedule, and a sensor.

    *config* and *options* are those of :func:`ometria_assets`; *resource* None reads the settings
    as the command does. With partitions there is no sensor. Schedule and sensor are off until they
    are switched on in Dagster.
    """
    resource_key = options.get("resource_key", "ometria")
    assets = ometria_assets(config, **options)
    sensors = [] if assets.partitions_def else [ometria_sensor(assets, resource_key=resource_key)]
    return dg.Definitions(
        assets=[*ometria_sources(), assets],
        schedules=[ometria_schedule(assets, cron_schedule)],
        sensors=sensors,
        resources={resource_key: resource or OmetriaReplica()},
    )
