"""Iceberg as a warehouse: tables in two namespaces of a catalog that pyiceberg knows."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pydantic import ValidationError as UnreadableAnswer
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    CommitFailedException,
    CommitStateUnknownException,
    ForbiddenError,
    NoSuchNamespaceError,
    NoSuchTableError,
    OAuthError,
    RESTError,
    ServerError,
    ServiceUnavailableError,
    SignError,
    TooManyRequestsError,
    UnauthorizedError,
    ValidationError,
    ValidationException,
)
from pyiceberg.io.pyarrow import ArrowScan, schema_to_pyarrow
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import arrow_schema
from ometria_replica.config import masked
from ometria_replica.errors import CommitConflict, ConfigError, Unreachable, WarehouseError
from ometria_replica.permissions import ensure_writable
from ometria_replica.schema import STATE_SCHEMA, StateTable
from ometria_replica.selection import ALL, Selection, to_iceberg
from ometria_replica.warehouse.remotes.iceberg_rewrite import replace_files
from ometria_replica.warehouse.remotes.iceberg_upkeep import due, maintain
from ometria_replica.warehouse.remotes.iceberg_versions import (
    STATE_PROPERTIES,
    keep_small,
    remove_old_versions,
)
from ometria_replica.warehouse.remotes.lake import LakeRemote
from ometria_replica.warehouse.remotes.lake_format import BUCKETS, Lake, LakeTable
from ometria_replica.warehouse.upkeep import Files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta

    from duckdb import DuckDBPyConnection
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import FileScanTask
    from pyiceberg.table import Table as OpenTable

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

PROPERTIES = {
    # A commit after another one fails at once: the rows to write must be computed anew.
    "commit.retry.num-retries": "0",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.row-group-limit": "65536",  # Rows. A group is read into memory whole.
    "write.target-file-size-bytes": str(64 * 2**20),  # In memory: some 20 MB on disk.
    "write.metadata.delete-after-commit.enabled": "true",
    # Each commit adds a manifest, and a read opens each: some ten milliseconds of processor time.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "16",
}
"""Properties of a new table. A later change by a user stays."""

_SIZES = "data-files", "files-size"
"""What the summary of a version says of its data files."""

_ABOUT = "comment"
"""The property that holds a table's comment, as Spark writes it."""
READ_AT_ONCE = 8 * 2**20  # Bytes on disk, which are several times as many in memory.

DEFAULT_CATALOG = "default"  # As pyiceberg's own. A catalog in SQL keeps tables under this name.


def open_remote(url: str, connection: DuckDBPyConnection) -> LakeRemote:
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
        return LakeRemote(connection, IcebergLake(place, parts.netloc, properties))
    uri = url.removeprefix("iceberg+").partition("?")[0]  # urlunsplit would lose a slash.
    if uri.startswith("sqlite:") and not (rest.startswith("/") and properties.get("warehouse")):
        raise ConfigError(
            "warehouse.url: a catalog in SQLite needs a file and a folder for its tables. Write"
            " iceberg+sqlite:///catalog.db?warehouse=file:///absolute/folder."
        )
    if uri.startswith(("postgresql:", "postgres:")):  # SQLAlchemy 2.1 would choose psycopg 3.
        if find_spec("psycopg2") is None:
            raise ConfigError(
                "warehouse.url: iceberg+postgresql:// needs one more package:"
                " pip install psycopg2-binary."
            )
        uri = f"postgresql+psycopg2:{uri.partition(':')[2]}"
    name = properties.pop("catalog", DEFAULT_CATALOG)
    lake = IcebergLake(place, name, {"uri": uri, **properties})
    return LakeRemote(connection, lake)


class IcebergLake(Lake):
    """The catalog *name*, with *properties*; *place* names it in messages."""

    def __init__(self, place: str, name: str, properties: Mapping[str, str]) -> None:
        self._place = place
        self._name = name
        self._properties = dict(properties)

    @property
    @override
    def place(self) -> str:
        return self._place

    @override
    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 -- not with every catalog.

        try:
            yield
        except (*_OF_THE_DRIVER, SQLAlchemyError) as error:
            raise self._explained(error, doing) from error

    @override
    def open(self, schema: str, name: str) -> IcebergTable | None:
        file = self._file
        if file is not None and not file.exists():
            return None  # Reading the catalog would create the file.
        try:
            return IcebergTable(self._catalog.load_table((schema, name)))
        except (NoSuchTableError, NoSuchNamespaceError):
            return None

    @override
    def create(
        self,
        schema: str,
        name: str,
        columns: Sequence[tuple[str, str]],
        comments: Mapping[str, str],
    ) -> None:
        """Create a table, with comments as Spark writes them."""
        metadata = {column: {"doc": text} for column, text in comments.items()}
        about = {_ABOUT: comments[""]} if "" in comments else {}
        about |= STATE_PROPERTIES if schema == STATE_SCHEMA else {}
        self._catalog.create_namespace_if_not_exists(schema)
        self._catalog.create_table_if_not_exists(
            (schema, name),
            arrow_schema(columns, metadata),
            properties={**PROPERTIES, **about},
        )

    @override
    def expire(self, schema: str, name: str, older_than: timedelta) -> None:
        keep_small(self._catalog.load_table((schema, name)), older_than)

    @override
    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained:
        schema = sql.schema_of(table)
        by = None if isinstance(table, StateTable) else table.time
        there = self._catalog.load_table((schema, table.name))
        return maintain(there, f"{schema}.{table.name}", upkeep, by)

    @override
    def maintenance_due(self, schema: str, name: str) -> Due | None:
        there = self.open(schema, name)
        return None if there is None else there.maintenance_due(f"{schema}.{name}")

    @override
    def forget_deleted(self, schema: str, name: str) -> Sequence[str]:
        return remove_old_versions(self._catalog.load_table((schema, name)))

    @override
    def kept_elsewhere(self) -> str:
        """Files are in a folder if the catalog says so of all tables, as in an SQLite file."""
        in_folder = self._properties.get("warehouse", "").startswith(("file:", "/"))
        return "" if in_folder else BUCKETS.format(place=self.place)

    @override
    def check_access(self) -> None:
        """Look at the permissions of a catalog's file. For a server only a write would tell."""
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
        """Say what *error* means, without its text: that may quote data, or a token."""
        if isinstance(error, _CONFLICTS) or "database is locked" in str(error):
            return CommitConflict(
                f"Another session wrote to {self.place} while {doing}, again and again. Nothing of"
                " this batch is lost. Run again."
            )
        if isinstance(error, FileNotFoundError):
            return CommitConflict(
                f"Files of {self.place} are gone that belonged to a table when it was opened, while"
                f" {doing}. Another session may have removed old versions. Nothing of this batch"
                " is lost. Run again; if it happens again, restore the table from a backup."
            )
        if isinstance(error, (UnauthorizedError, ForbiddenError, OAuthError, SignError)):
            return WarehouseError(
                f"{self.place} refuses access while {doing} ({type(error).__name__}). Nothing is"
                " lost. Check the credentials and their privileges."
            )
        if _is_wrong_address(error):
            return WarehouseError(
                f"{self.place} does not answer as an Iceberg catalog does while {doing}"
                f" ({type(error).__name__}). Nothing is lost. Check the address in warehouse.url"
                " and the properties there."
            )
        if isinstance(error, (*_PASSING, ConnectionError)) or _is_of_network(error):
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


class IcebergTable(LakeTable):
    """One version of a table."""

    def __init__(self, table: OpenTable) -> None:
        self._table = table

    @override
    def schema(self) -> pa.Schema:
        return self._table.schema().as_arrow()

    @override
    def comments(self) -> dict[str, str]:
        there = {field.name: field.doc or "" for field in self._table.schema().fields}
        return there | {"": self._table.properties.get(_ABOUT, "")}

    @override
    def write_comments(self, comments: Mapping[str, str]) -> None:
        with self._table.transaction() as transaction:
            if about := comments.get(""):
                transaction.set_properties({_ABOUT: about})
            with transaction.update_schema() as schema:
                for name, text in comments.items():
                    if name:
                        schema.update_column(name, doc=text)

    @override
    def rows(
        self, selection: Selection, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """
        Read rows, some files at a time. Files without a selected row are not opened.

        pyiceberg's own reader (0.12) has all files in memory at once, if they are read slowly.
        """
        scan = self._table.scan(to_iceberg(selection), tuple(columns or "*"))
        chosen = scan.projection()
        files = ArrowScan(scan.table_metadata, scan.io, chosen, scan.row_filter)
        batches = (
            batch
            for some in _in_groups(scan.plan_files())
            for batch in files.to_record_batches(some)
        )
        schema = schema_to_pyarrow(chosen)
        return pa.RecordBatchReader.from_batches(schema, batches).cast(schema)

    @override
    def scan(self) -> object:
        return _Scan(self)

    @override
    def count(self, selection: Selection) -> int:
        return self._table.scan(to_iceberg(selection)).count()

    @override
    def data_files(self) -> Files:
        newest = self._table.current_snapshot()
        summary = newest.summary if newest is not None else None
        if summary is None:
            return Files(0, 0)
        return Files(*(int(summary[f"total-{what}"] or 0) for what in _SIZES))

    def maintenance_due(self, name: str) -> Due | None:
        """Return whether this table should be maintained; *name* names it."""
        return due(self._table, name, self.data_files())

    @override
    def append(self, rows: pa.RecordBatchReader) -> None:
        self._table.append(rows)

    @override
    def overwrite(self, selection: Selection, rows: pa.RecordBatchReader) -> None:
        """Delete and add in one transaction; for a whole table in one version, not two."""
        if selection == ALL:
            replace_files(
                self._table, [task.file for task in self._table.scan().plan_files()], rows
            )
        else:
            self._table.overwrite(rows, to_iceberg(selection))


class _Scan:
    """A table as a stream of Arrow data, anew for each reader: a query may name it twice."""

    def __init__(self, table: IcebergTable) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        rows: Any = self._table.rows(ALL)
        return rows.__arrow_c_stream__(requested_schema)


def _in_groups(tasks: Iterable[FileScanTask]) -> Iterator[list[FileScanTask]]:
    """Gather files until they have READ_AT_ONCE bytes: small ones are read side by side."""
    group: list[FileScanTask] = []
    for task in tasks:
        group.append(task)
        if sum(each.file.file_size_in_bytes for each in group) >= READ_AT_ONCE:
            yield group
            group = []
    if group:
        yield group


_CONFLICTS = (CommitFailedException, ValidationException, CommitStateUnknownException)
_OF_THE_DRIVER = (
    *_CONFLICTS,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    SignError,
    ValidationError,
    pa.ArrowException,
    OSError,
    NotImplementedError,  # 501
    UnreadableAnswer,
)


_PASSING = (
    AuthorizationExpiredError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
)


def _is_wrong_address(error: Exception) -> bool:
    """Recognise an answer that is no catalog's, and an address that is not trusted or is none."""
    if isinstance(error, (RESTError, NotImplementedError, UnreadableAnswer)):
        return not isinstance(error, _PASSING)
    names = {each.__name__ for each in type(error).__mro__}
    return not names.isdisjoint(
        {"SSLError", "TooManyRedirects", "InvalidURL", "InvalidSchema", "MissingSchema"}
    )


def _is_of_network(error: Exception) -> bool:
    """Recognise errors of the HTTP client, which are OSErrors without a number."""
    return type(error).__module__.startswith(("requests", "urllib3"))
