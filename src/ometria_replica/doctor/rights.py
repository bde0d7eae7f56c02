"""Finds out which endpoints an API key may read, of those that the tables of an account need."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.doctor.clock import Heard
from ometria_replica.errors import AccessDenied, NotFound, ReplicaError, Unavailable
from ometria_replica.more_tables import DELETION_REQUESTS_ENDPOINT
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.ometria.response import Setback
from ometria_replica.ometria.times import utc_text
from ometria_replica.records import field_text
from ometria_replica.ways_to_read import Feed, Growing, Inside, Pages, PerParent, Windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings
    from ometria_replica.records import Record
    from ometria_replica.ways_to_read import Newest

    _Read = Pages | Windows | PerParent | Growing | Newest

ANSWER_WITHIN = 15.0
"""Seconds for a request with its retries: a person is waiting."""

ALL_WITHIN = 45.0
"""Seconds for all requests, with the waits for the rate limit."""

NOTHING_TO_ASK = "there is no record yet to ask it for"
"""Why an endpoint was not asked that is read for each record of another."""

UNREACHABLE = "Ometria could not be reached"
TIME_IS_OVER = "other endpoints took too long"

_WINDOW = timedelta(hours=1)  # Asked of an endpoint that is read by windows of time.

FOLLOWING = "follow_erasures"
"""What needs an endpoint beside the tables: the setting of that name."""


@dataclass(frozen=True)
class Right:
    """
    Whether a key may read one *endpoint*, written as Ometria does: ``lists/{id}/changes``.

    *tables* are read from it. *can_lack* says that a sync goes on without it. *error* is why it
    cannot be read; None if it can, or was not asked. *untried* says why it was not asked; None if
    it was. *heard* is the answer's time, None without a good answer.
    """

    endpoint: str
    tables: tuple[str, ...]
    can_lack: bool = False
    error: ReplicaError | None = None
    untried: str | None = None
    heard: Heard | None = None

    @property
    def is_granted(self) -> bool:
        """Whether the endpoint was read."""
        return self.error is None and self.untried is None

    @property
    def is_refused(self) -> bool:
        """Whether the key is wrong, or has no right to the endpoint."""
        return isinstance(self.error, AccessDenied)

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing at that address."""
        return isinstance(self.error, NotFound)


def rights(account: AccountSettings, catalog: Catalog = CATALOG) -> Iterator[Right]:
    """
    Ask each endpoint that the tables of *account* need for one record, and give what came of it.

    In the order of the tables, one request each, for which an endpoint has ANSWER_WITHIN. If the
    host cannot be reached, and after ALL_WITHIN, the rest is not tried. Nothing without an API key.
    """
    if account.api_key is None:
        return
    tables = catalog.of([account]).for_account(account)
    with AccountSource(account, utc_now(), tables, answer_within=ANSWER_WITHIN) as source:
        yield from rights_of(source, account, tables)


def rights_of(
    source: AccountSource,
    account: AccountSettings,
    tables: Catalog,
    *,
    clock: Callable[[], datetime] = utc_now,
) -> Iterator[Right]:
    """Do as :func:`rights`, with an open *source* and the *tables* that are on."""
    parents: dict[str, list[Record]] = {}
    is_unreachable = False
    with _set_after(ALL_WITHIN) as stop:
        for read, right in _needed(account, tables):
            if is_unreachable or stop.is_set():
                yield replace(right, untried=UNREACHABLE if is_unreachable else TIME_IS_OVER)
                continue
            path = _path(read, parents)
            if path is None:
                yield replace(right, untried=_no_parent(read, parents))
                continue
            asked_at = clock()
            try:
                answer = source.client.get(path, _query(read, asked_at), stop=stop)
            except ReplicaError as error:
                cause = error.__cause__
                is_unreachable = isinstance(cause, Setback) and cause.unreachable
                yield replace(right, error=_too_late(right) if stop.is_set() else error)
                continue
            parents[right.endpoint] = answer.records
            yield replace(right, heard=Heard(asked_at, clock(), answer.served_at))


@contextmanager
def _set_after(seconds: float) -> Iterator[threading.Event]:
    """Give an event that is set after so many *seconds*: a 429 is tried again without an end."""
    event = threading.Event()
    timer = threading.Timer(seconds, event.set)
    timer.daemon = True
    timer.start()
    try:
        yield event
    finally:
        timer.cancel()


def _too_late(right: Right) -> Unavailable:
    return Unavailable(
        f"Ometria gave no good answer to GET /{right.endpoint} in time. If it answers 429, another"
        " integration uses up the account's rate limit. Try again later."
    )


def _needed(account: AccountSettings, tables: Catalog) -> list[tuple[_Read, Right]]:
    """
    List the endpoints, each once, those of parents before those of their children.

    A run goes on without an endpoint that only optional tables need.
    """
    found: dict[str, tuple[_Read, Right]] = {}

    def add(read: _Read, needing: str, *, can_lack: bool) -> None:
        _, right = found.get(read.endpoint, (read, Right(read.endpoint, (), can_lack=True)))
        names = tuple(dict.fromkeys((*right.tables, needing)))
        right = replace(right, tables=names, can_lack=right.can_lack and can_lack)
        found[read.endpoint] = (read, right)

    for table in tables.in_reading_order:
        read = table.read
        if isinstance(read, Feed | Inside):
            continue
        can_lack = table.optional and table.name not in account.require
        if isinstance(read, PerParent | Growing) and read.parent is not None:
            add(read.parent, table.name, can_lack=can_lack)
        add(read, table.name, can_lack=can_lack)
    if account.follow_erasures:
        add(DELETION_REQUESTS_ENDPOINT, FOLLOWING, can_lack=True)
    return list(found.values())


def _path(read: _Read, parents: dict[str, list[Record]]) -> str | None:
    """Return the path to ask; None if that needs a record of a parent, and there is none."""
    if not isinstance(read, PerParent | Growing) or read.parent is None:
        return read.endpoint
    name = read.parent_field or "id" if isinstance(read, Growing) else "id"
    values = (field_text(record, name) for record in parents.get(read.parent.endpoint, ()))
    value = next((each for each in values if each and each not in {".", ".."}), None)
    return read.endpoint.format(**{name: quote(value, safe="")}) if value else None


def _no_parent(read: _Read, parents: dict[str, list[Record]]) -> str:
    parent = read.parent.endpoint if isinstance(read, PerParent | Growing) and read.parent else ""
    if parent in parents:
        return NOTHING_TO_ASK
    return f"{parent} could not be read"


def _query(read: _Read, now: datetime) -> dict[str, str]:
    query = {"limit": "1"}
    if isinstance(read, Pages):
        query |= dict(read.query)
    if isinstance(read, Windows):  # All of it could be more than an answer may hold.
        query |= {read.since: utc_text(now - _WINDOW), read.before: utc_text(now)}
    return query
