"""
Replicate an Ometria account into a warehouse: five tables, exact columns.

    from ometria_replica import load_config, sync

    report = sync(load_config())
    print(report.to_text())

The functions are those of :mod:`ometria_replica.api`. Names are resolved when first used, so that
importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ometria_replica.version import __version__

if TYPE_CHECKING:
    from ometria_replica.api import check, erase, maintain, plan, status, sync, verify
    from ometria_replica.check_report import CheckReport
    from ometria_replica.config import Config, load_config
    from ometria_replica.erasure_report import ErasePreview, Erasure
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
    from ometria_replica.maintenance_report import Maintenance
    from ometria_replica.planning.plan_report import Plan
    from ometria_replica.report import RunReport
    from ometria_replica.status_report import Status
    from ometria_replica.tables import TABLES
    from ometria_replica.verify_report import VerifyReport

_HOMES = {
    "CheckReport": "check_report",
    "Config": "config",
    "ErasePreview": "erasure_report",
    "Erasure": "erasure_report",
    "Maintenance": "maintenance_report",
    "Plan": "planning.plan_report",
    "RunReport": "report",
    "Status": "status_report",
    "TABLES": "tables",
    "VerifyReport": "verify_report",
    "check": "api",
    "erase": "api",
    "load_config": "config",
    "maintain": "api",
    "plan": "api",
    "status": "api",
    "sync": "api",
    "verify": "api",
}

__all__ = [
    "TABLES",
    "AccessDenied",
    "Busy",
    "CheckReport",
    "Config",
    "ConfigError",
    "ErasePreview",
    "Erasure",
    "Maintenance",
    "NotUpToDate",
    "OmetriaError",
    "Plan",
    "RejectedRecords",
    "ReplicaError",
    "RunReport",
    "Status",
    "Unavailable",
    "UnexpectedResponse",
    "Unreachable",
    "VerifyReport",
    "WarehouseError",
    "__version__",
    "check",
    "erase",
    "load_config",
    "maintain",
    "plan",
    "status",
    "sync",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
