"""
Replicate an Ometria account into a warehouse: five tables, exact columns.

    from ometria_replica import load_config, sync

    report = sync(load_config())
    print(report.to_text())

Names are resolved when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ometria_replica.version import __version__

if TYPE_CHECKING:
    from ometria_replica.config import Config, load_config
    from ometria_replica.errors import (
        AccessDenied,
        Busy,
        ConfigError,
        NotUpToDate,
        OmetriaError,
        RejectedRecords,
        ReplicaError,
        Unavailable,
        UnexpectedResponse,
        Unreachable,
        WarehouseError,
    )
    from ometria_replica.replication import sync
    from ometria_replica.report import RunReport
    from ometria_replica.tables import TABLES

_HOMES = {
    "Config": "config",
    "load_config": "config",
    "RunReport": "report",
    "sync": "replication",
    "TABLES": "tables",
}

__all__ = [
    "TABLES",
    "AccessDenied",
    "Busy",
    "Config",
    "ConfigError",
    "NotUpToDate",
    "OmetriaError",
    "RejectedRecords",
    "ReplicaError",
    "RunReport",
    "Unavailable",
    "UnexpectedResponse",
    "Unreachable",
    "WarehouseError",
    "__version__",
    "load_config",
    "sync",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
