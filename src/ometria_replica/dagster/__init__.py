"""
Assets of Dagster: one for each table, materialised by a sync.

    from ometria_replica.dagster import ometria_definitions

    defs = ometria_definitions()

It needs the extra ``dagster``. The settings are read when a run begins, so that definitions load
without a secret.
"""

from __future__ import annotations

try:
    import dagster as _dagster  # noqa: F401 -- Only to name it in the message.
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "ometria_replica.dagster needs Dagster, which is not installed:"
        " pip install 'ometria-replica[dagster]'",
        name=_error.name,
    ) from _error

from ometria_replica.dagster.assets import SyncOptions, ometria_assets, ometria_sources
from ometria_replica.dagster.automation import ometria_schedule, ometria_sensor
from ometria_replica.dagster.definitions import ometria_definitions
from ometria_replica.dagster.resource import OmetriaReplica

__all__ = [
    "OmetriaReplica",
    "SyncOptions",
    "ometria_assets",
    "ometria_definitions",
    "ometria_schedule",
    "ometria_sensor",
    "ometria_sources",
]
