"""Iceberg as a warehouse: tables in two namespaces of a catalog that pyiceberg knows."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pyiceberg import expressions
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    SignError,
    UnauthorizedError,
    ValidationError,
    ValidationException,
)

from ometria_replica.config import masked
from ometria_replica.errors import ConfigError, Unreachable, WarehouseError
from ometria_replica.warehouse.arrow import ARROW_TYPES
from ometria_replica.warehouse.remotes.table_format import (
    CommitConflict,
    LakeWarehouse,
    ensure_writable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from pyiceberg.catalog import Catalog
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.table import Table

    from ometria_replica.warehouse.remotes.table_format import Stretch

TYPES = {
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "long": "BIGINT",
}
"""DuckDB's names of Iceberg's types."""

PROPERTIES = {
    # A commit that was overtaken fails at once: what is to be written must be worked out anew.
    "commit.retry.num-retries": "0",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.row-group-limit": "65536",  # Rows. A group is read into memory whole.
    "write.target-file-size-bytes": str(64 * 2**20),  # In memory: some 20 MB on disk.
    "write.metadata.delete-after-commit.enabled": "true",
}
"""Of each table, when it is made. Who changes them later is not overruled."""

DEFAULT_CATALOG = "default"  # As pyiceberg's own. A catalog in SQL keeps tables under this name.


def open_url(url: str, *, dry_run: bool = False) -> LakeWarehouse:
    """
    Open ``iceberg://NAME``, of pyiceberg's configuration, or ``iceberg+URI?PROPERTY=VALUE``.

    *URI* is the catalog's, as pyiceberg takes it: ``sqlite:///``, ``postgresql+…://``,
    ``http://`` or ``https://``. ``catalog=NAME`` names a catalog in SQL, else ``default``.
    """
    scheme, _, rest = url.partition("://")
    parts = urlsplit(url)
    properties = dict(parse_qsl(parts.query, keep_blank_values=True))
    place = masked(url)
    if scheme == "iceberg":
        if not parts.netloc:
            raise ConfigError("warehouse.url: names no catalog. Write iceberg://NAME.")
        return LakeWarehouse(IcebergLake(place, parts.netloc, properties), dry_run=dry_run)
    uri = url.removeprefix("iceberg+").partition("?")[0]  # urlunsplit would lose a slash.
    if uri.startswith("sqlite:") and not (rest.startswith("/") and properties.get("warehouse")):
        raise ConfigError(
            "warehouse.url: a catalog in SQLite needs a file and a folder for its tables. Write"
            " iceberg+sqlite:///catalog.db?warehouse=file:///absolute/folder."
        )
    name = properties.pop("catalog", DEFAULT_CATALOG)
    return LakeWarehouse(IcebergLake(place, name, {"uri": uri, **properties}), dry_run=dry_run)


class IcebergLake:
    """The catalog *name*, with *properties*; *place* names it in messages."""

    def __init__(self, place: str, name: str, properties: Mapping[str, str]) -> None:
        self.place = place
        self._name = name
        self._properties = dict(properties)

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """See the protocol."""
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 -- not with every catalog.

        try:
            yield
        except (*_OF_THE_DRIVER, SQLAlchemyError) as error:
            raise self._explained(error, doing) from error

    def open(self, schema: str, name: str) -> IcebergTable | None:
        """See the protocol."""
        file = self._file
        if file is not None and not file.exists():
            return None  # To look into it would make it.
        try:
            return IcebergTable(self._catalog.load_table((schema, name)))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    def make(self, schema: str, name: str, columns: Sequence[tuple[str, str]]) -> None:
        """See the protocol."""
        self._catalog.create_namespace_if_not_exists(schema)
        self._catalog.create_table_if_not_exists(
            (schema, name),
            pa.schema([(column, ARROW_TYPES[kind]) for column, kind in columns]),
            properties=PROPERTIES,
        )

    def tidy(self, schema: str, name: str, older_than: timedelta) -> None:
        """See the protocol. Files stay behind: pyiceberg 0.12 takes none away."""
        table = self._catalog.load_table((schema, name))
        before = datetime.now(UTC) - older_than
        replaced = table.metadata.snapshots[:-1]
        if any(version.timestamp_ms < before.timestamp() * 1_000 for version in replaced):
            table.maintenance.expire_snapshots().older_than(before).commit()

    def try_access(self) -> None:
        """See the protocol. Of a server only writing itself could tell."""
        if self._file is not None:
            ensure_writable(self._file if self._file.exists() else self._file.parent)

    @cached_property
    def _catalog(self) -> Catalog:
        return load_catalog(self._name, **self._properties)

    @property
    def _file(self) -> Path | None:
        """The file of a catalog in SQLite."""
        uri = self._properties.get("uri", "")
        return (
            Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:") else None
        )

    def _explained(self, error: Exception, doing: str) -> WarehouseError:
        """Say what *error* means. Its own text may quote a customer's data, or a token."""
        if isinstance(error, _OVERTAKEN) or "database is locked" in str(error):
            return CommitConflict(
                f"Somebody else wrote to {self.place} while {doing}, time and again. Nothing of"
                " this batch is lost. Run again."
            )
        if isinstance(error, (UnauthorizedError, ForbiddenError, OAuthError, SignError)):
            return WarehouseError(
                f"{self.place} refuses access while {doing} ({type(error).__name__}). Nothing is"
                " lost. Check the credentials, and what they may do."
            )
        if isinstance(error, (RESTError, ConnectionError)) or _is_of_network(error):
            return Unreachable(
                f"{self.place} does not answer as it should while {doing}"
                f" ({type(error).__name__}). Nothing is lost. Check the address, or run again"
                " later."
            )
        return WarehouseError(
            f"Iceberg refused while {doing} in {self.place} ({type(error).__name__}). Nothing is"
            " lost. Check that the catalog and the folder of its tables can be written, then run"
            " again."
        )


class IcebergTable:
    """One version of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def columns(self) -> list[tuple[str, str]]:
        """See the protocol."""
        return [
            (field.name, TYPES.get(str(field.field_type), str(field.field_type).upper()))
            for field in self._table.schema().fields
        ]

    def rows(self, stretch: Stretch) -> pa.RecordBatchReader:
        """See the protocol. Files that the stretch does not meet are not opened."""
        return self._table.scan(expression(stretch)).to_arrow_batch_reader()

    def count(self, stretch: Stretch) -> int:
        """See the protocol."""
        return self._table.scan(expression(stretch)).count()

    def append(self, rows: pa.RecordBatchReader) -> None:
        """See the protocol."""
        self._table.append(rows)

    def overwrite(self, stretch: Stretch, rows: pa.RecordBatchReader) -> None:
        """See the protocol. It deletes and adds in one transaction."""
        self._table.overwrite(rows, expression(stretch))


def expression(stretch: Stretch) -> BooleanExpression:
    """Write a stretch as pyiceberg reads it."""
    say: Any = expressions  # Its classes take arguments in order, which their types do not tell.
    parts = [say.AlwaysTrue()]
    if stretch.source_id is not None:
        parts.append(say.EqualTo("__source_id", stretch.source_id))
    if stretch.time is not None and stretch.spans is not None:
        moments = [say.IsNull(stretch.time)] if stretch.untimed else []
        moments += [
            say.And(
                say.GreaterThanOrEqual(stretch.time, first.isoformat()),
                say.LessThanOrEqual(stretch.time, last.isoformat()),
            )
            for first, last in stretch.spans
        ]
        parts.append(reduce(say.Or, moments))
    whole: BooleanExpression = reduce(say.And, parts)
    return whole


_OVERTAKEN = (CommitFailedException, ValidationException, CommitStateUnknownException)
_OF_THE_DRIVER = (
    *_OVERTAKEN,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    SignError,
    ValidationError,
    pa.ArrowException,
    OSError,
)


def _is_of_network(error: Exception) -> bool:
    """Tell the errors of the HTTP client, which are OSErrors without a number."""
    return type(error).__module__.startswith(("requests", "urllib3"))
