"""
A retailer's Ometria account in memory.

:func:`serve` serves it over HTTP, and :class:`Feed` exports its events. It is written from
public information about Ometria, and shares no code with any reader of Ometria.
"""

from __future__ import annotations

from ometria_simulator.account import Account
from ometria_simulator.dialect import Dialect
from ometria_simulator.faults import Fault, Faults
from ometria_simulator.feed import Delivered, Feed
from ometria_simulator.quirks import Quirks
from ometria_simulator.records import ABSENT
from ometria_simulator.server import Server, serve
from ometria_simulator.shapes import Shape
from ometria_simulator.shop import Shop
from ometria_simulator.storage import S3Access, S3Server, StorageError, s3_server

__all__ = [
    "ABSENT",
    "Account",
    "Delivered",
    "Dialect",
    "Fault",
    "Faults",
    "Feed",
    "Quirks",
    "S3Access",
    "S3Server",
    "Server",
    "Shape",
    "Shop",
    "StorageError",
    "s3_server",
    "serve",
]
