"""The settings: declared in schema and beside it, read by load, shown by explain."""

from __future__ import annotations

from ometria_replica.config.account_settings import AccountSettings
from ometria_replica.config.explain import explain
from ometria_replica.config.feed_settings import FeedSettings
from ometria_replica.config.limits import NO_LIMITS, Limits
from ometria_replica.config.load import load_config, load_warehouse
from ometria_replica.config.providers import sentence
from ometria_replica.config.retention import Retention
from ometria_replica.config.schema import Config
from ometria_replica.config.secrets import Secret, masked
from ometria_replica.config.table_names import ALL, EVERY_TABLE
from ometria_replica.config.urls import is_loopback
from ometria_replica.config.warehouse_settings import WarehouseSettings

__all__ = [
    "ALL",
    "EVERY_TABLE",
    "NO_LIMITS",
    "AccountSettings",
    "Config",
    "FeedSettings",
    "Limits",
    "Retention",
    "Secret",
    "WarehouseSettings",
    "explain",
    "is_loopback",
    "load_config",
    "load_warehouse",
    "masked",
    "sentence",
]
