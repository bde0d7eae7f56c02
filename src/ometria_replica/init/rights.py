"""Which endpoints the API key may read, found by one request to each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ometria_replica.errors import AccessDenied, NotFound, OmetriaError, Unavailable
from ometria_replica.ometria.times import utc_text
from ometria_replica.records import field_text
from ometria_replica.schema import Feed, Growing, Inside, Pages, PerParent, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.schema import Newest

Outcome = Literal["may read", "may not read", "not there", "not tried", "failed"]


@dataclass(frozen=True)
class Right:
    """
    The *outcome* for an *endpoint*, and the *tables* that are read from it.

    *error* is that of the request; None if it was answered, or if none was sent because there is
    no record of the parent to send it for.
    """

    endpoint: str
    tables: tuple[str, ...]
    outcome: Outcome
    error: OmetriaError | None = None

    def __str__(self) -> str:
        """Write a line for people."""
        parent = self.endpoint.partition("/")[0]
        why = f" (needs a record of {parent})" if self.outcome == "not tried" else ""
        return f"  {self.outcome:12}  {self.endpoint:24}  {', '.join(self.tables)}{why}"


@dataclass(frozen=True)
class _Endpoint:
    """
    An endpoint, and the *tables* that are read from it.

    Of one below a *parent*, its path has the *field* of a record of that one. *since* names the
    parameter that leaves out older records.
    """

    path: str
    parent: str | None = None
    field: str = ""
    since: str | None = None
    tables: tuple[str, ...] = ()


def rights_of(source: AccountSource, catalog: Catalog, changes: str) -> Iterator[Right]:
    """
    Send a request to each endpoint that a table of *catalog* is read from.

    *changes* is the setting ``changes_parameter``. Each answer is as short as the endpoint
    allows. Ends with the first one for which no answer came: each other would take as long to
    fail.
    """
    found: dict[tuple[str, str], str | None] = {}
    for endpoint in _endpoints(catalog, changes):
        path, query = endpoint.path, {"limit": "1"}
        if endpoint.parent is not None:
            value = found.get((endpoint.parent, endpoint.field))
            if not value or value in {".", ".."}:
                yield Right(path, endpoint.tables, "not tried")
                continue
            path = path.format(**{endpoint.field: quote(value, safe="")})
        if endpoint.since is not None:
            query[endpoint.since] = utc_text(source.client.now())
        try:
            records = source.client.get(path, query).records
        except OmetriaError as error:
            yield Right(endpoint.path, endpoint.tables, _outcome(error), error)
            if isinstance(error, Unavailable):
                return
            continue
        for name in ("id", "collection"):
            found[endpoint.path, name] = field_text(records[0], name) if records else None
        yield Right(endpoint.path, endpoint.tables, "may read")


def _outcome(error: OmetriaError) -> Outcome:
    if isinstance(error, AccessDenied):
        return "may not read"
    return "not there" if isinstance(error, NotFound) else "failed"


def _endpoints(catalog: Catalog, changes: str) -> list[_Endpoint]:
    """List the endpoints of *catalog*, each once, and parents first."""
    found: dict[str, _Endpoint] = {}
    names = {table.name: table for table in catalog}
    for table in catalog:
        own = names[table.read.parent] if isinstance(table.read, Inside) else table
        if isinstance(own.read, Feed | Inside):
            continue
        parent = own.read.parent if isinstance(own.read, PerParent | Growing) else None
        if parent is not None:
            found.setdefault(parent.endpoint, _Endpoint(parent.endpoint))
        endpoint = found.get(own.read.endpoint) or _endpoint(own.read, changes)
        found[endpoint.path] = replace(endpoint, tables=(*endpoint.tables, table.name))
    return [*found.values()]


def _endpoint(read: Pages | Windows | PerParent | Growing | Newest, changes: str) -> _Endpoint:
    match read:
        case PerParent(parent=parent, endpoint=path):
            return _Endpoint(path, parent.endpoint, "id", changes)
        case Growing(parent=Pages(endpoint=parent), endpoint=path):
            return _Endpoint(path, parent, read.parent_field or "")
        case Windows(endpoint=path, since=since):
            return _Endpoint(path, since=since)
    return _Endpoint(read.endpoint)
