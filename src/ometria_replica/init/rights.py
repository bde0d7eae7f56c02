"""Which endpoints the API key may read, found by one request to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from ometria_replica.errors import AccessDenied, NotFound, OmetriaError, Unavailable
from ometria_replica.records import field_text
from ometria_replica.schema import Feed, Growing, Inside, PerParent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.ometria.account_source import AccountSource
    from ometria_replica.schema import Table

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


def rights_of(source: AccountSource, catalog: Catalog) -> Iterator[Right]:
    """
    Send a request to each endpoint that a table of *catalog* is read from.

    Ends with the first one for which no answer came: each other would take as long to fail.
    """
    answered: dict[str, str | None] = {}
    for endpoint, (parent, field, tables) in _endpoints(catalog).items():
        path = endpoint
        if parent is not None:
            value = answered.get(f"{parent} {field}")
            if not value or value in {".", ".."}:
                yield Right(endpoint, tables, "not tried")
                continue
            path = endpoint.format(**{field: quote(value, safe="")})
        try:
            records = source.client.get(path, {"limit": "1"}).records
        except OmetriaError as error:
            yield Right(endpoint, tables, _outcome(error), error)
            if isinstance(error, Unavailable):
                return
            continue
        for name in ("id", "collection"):
            answered[f"{endpoint} {name}"] = field_text(records[0], name) if records else None
        yield Right(endpoint, tables, "may read")


def _outcome(error: OmetriaError) -> Outcome:
    if isinstance(error, AccessDenied):
        return "may not read"
    return "not there" if isinstance(error, NotFound) else "failed"


def _endpoints(catalog: Catalog) -> dict[str, tuple[str | None, str, tuple[str, ...]]]:
    """
    List the endpoints, parents first, each with the tables that are read from it.

    And of one below another: that other one, and the field of its records that is in the path.
    """
    found: dict[str, tuple[str | None, str, tuple[str, ...]]] = {}

    def note(endpoint: str, table: Table, parent: str | None = None, field: str = "") -> None:
        names = found.get(endpoint, (None, "", ()))[2]
        found[endpoint] = (parent, field, (*names, table.name))

    tables = [table for table in catalog if not isinstance(table.read, Feed)]
    names = {table.name: table for table in tables}
    for table in tables:
        own = names[table.read.parent] if isinstance(table.read, Inside) else table
        match own.read:
            case PerParent(parent=parent, endpoint=endpoint):
                found.setdefault(parent.endpoint, (None, "", ()))
                note(endpoint, table, parent.endpoint, "id")
            case Growing(parent=parent, endpoint=endpoint) if parent is not None:
                found.setdefault(parent.endpoint, (None, "", ()))
                note(endpoint, table, parent.endpoint, own.read.parent_field or "")
            case Feed() | Inside():
                continue
            case read:
                note(read.endpoint, table)
    return found
