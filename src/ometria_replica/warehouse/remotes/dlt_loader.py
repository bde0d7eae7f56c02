"""
Loads rows into a warehouse by dlt, and runs statements there through dlt's clients.

dlt runs isolated: it reads only the settings passed here, keeps its files in the run's temporary
folder, and neither logs nor sends telemetry. Its notes about loads stay out of the data's schema.
"""

from __future__ import annotations

import re
import shutil
import time
import warnings
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import dlt
import pyarrow as pa
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.data_writers.escape import format_datetime_literal
from dlt.common.destination.exceptions import (
    DestinationTerminalException,
    DestinationTransientException,
    DestinationUndefinedEntity,
)
from dlt.destinations.exceptions import DestinationConnectionError
from dlt.destinations.sql_client import DBApiCursorImpl

from ometria_replica.failpoints import step
from ometria_replica.schema import DATA_SCHEMA, STATE_SCHEMA
from ometria_replica.warehouse.remotes.dlt_isolation import IsolatedContext
from ometria_replica.warehouse.remotes.dlt_patches import patched
from ometria_replica.warehouse.remotes.dlt_schemas import NAMING, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dlt.common.schema import Schema

    from ometria_replica.warehouse.remotes.dlt_destinations import Destination

IDLE_SECONDS = 60.0  # A proxy or a firewall may cut a connection that is idle for minutes.
PARAMETERS_AT_ONCE = 200  # Of a statement: Databricks takes 255.
ROWS_AT_ONCE = 20_000  # Held as Python objects, where a driver has no Arrow: some 40 MB.


class Trouble(Enum):
    """Kinds of failure."""

    SETTINGS = "settings"
    CONNECTION = "connection"
    DENIED = "denied"
    LOCKED = "locked"
    PASSING = "passing"
    REFUSED = "refused"


class Failed(Exception):
    """
    dlt or the driver failed; the cause is theirs, and may quote personal data.

    The text names only the class of the error. *package* names the load package that was not
    finished, None outside a load.
    """

    def __init__(
        self, error: BaseException, package: str | None = None, *, connecting: bool = False
    ) -> None:
        super().__init__(type(_root(error)).__name__)
        self.trouble = _trouble(error, connecting=connecting)
        self.package = package


class DltLoader:
    """
    A connection to *destination*, made with *options*; dlt's files go to *folder*.

    Tables are given as dlt describes them: see ``dlt_schemas.describe``.
    """

    def __init__(self, destination: Destination, options: Mapping[str, Any], folder: Path) -> None:
        self._destination = destination
        self._options = options
        self._folder = folder
        self._context = IsolatedContext(folder)
        self._loads: set[tuple[str, str]] = set()
        self._client: Any = None
        self._used_at = time.monotonic()

    # --- statements ---

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement; ``%s`` marks a parameter."""
        with self._asking() as client:
            client.sql_client.execute_sql(statement, *parameters)

    def execute_all(self, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
        """Run statements, all or none of them where the warehouse has transactions."""
        if not statements:
            return
        with self._asking() as client:
            transactions = self._destination.transactions and len(statements) > 1
            with client.sql_client.begin_transaction() if transactions else nullcontext():
                for statement, parameters in statements:
                    client.sql_client.execute_sql(statement, *parameters)

    def rows(self, query: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Run a query."""
        with self._asking() as client:
            return list(client.sql_client.execute_sql(query, *parameters) or [])

    def fetch(
        self, query: str, schema: pa.Schema, parameters: Sequence[object] = ()
    ) -> Iterator[pa.Table]:
        """Run a query whose columns are those of *schema*, by place."""
        with self._asking() as client, client.sql_client.execute_query(query, *parameters) as found:
            if type(found).iter_arrow is DBApiCursorImpl.iter_arrow:
                for rows in found.iter_fetch(ROWS_AT_ONCE):
                    yield _from_rows(rows, schema)
            else:
                for table in _quietly(found.iter_arrow(chunk_size=ROWS_AT_ONCE)):
                    yield table.rename_columns(schema.names).cast(schema)

    # --- names and values, which need no connection ---

    def qualified(self, dataset: str, name: str) -> str:
        """Name a table in full, as the warehouse writes names."""
        with self._context.entered():
            client = self._unconnected.sql_client
            with client.with_alternative_dataset_name(dataset):
                return cast("str", client.make_qualified_table_name(name))

    def quoted(self, name: str) -> str:
        """Write a column's name."""
        return cast("str", self._unconnected.sql_client.escape_column_name(name))

    def time_literal(self, moment: Any) -> str:
        """Write a moment."""
        write = self._unconnected.capabilities.format_datetime_literal or format_datetime_literal
        return cast("str", write(moment))

    @cached_property
    def _unconnected(self) -> Any:
        """A client that is never connected."""
        with self._context.entered():
            return self._new_client(schema_of("ometria_names", ()), DATA_SCHEMA)

    # --- tables ---

    def columns(self, dataset: str, names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """
        List the columns of tables in order, with dlt's types; none for a table that is missing.

        Names have our case, though the warehouse may fold them.
        """
        with self._asking() as client, client.sql_client.with_alternative_dataset_name(dataset):
            try:
                found = list(client.get_storage_tables(list(names)))
            except DestinationUndefinedEntity:  # BigQuery asks in a schema, which may be missing.
                found = []
            return {name: [] for name in names} | {
                name: [(column.lower(), _type_name(kind)) for column, kind in columns.items()]
                for name, columns in found
            }

    def create(self, dataset: str, tables: Sequence[Mapping[str, Any]]) -> None:
        """Create a schema, and those of *tables* that are missing."""
        schema = schema_of(f"{dataset}_tables", tables)
        with self._asking(), self._new_client(schema, dataset) as client:
            client.initialize_storage()
            # Not update_stored_schema: it would record this schema as loaded.
            client._execute_schema_update_sql(  # noqa: SLF001 -- It creates what is missing, no more.
                [table["name"] for table in tables], store_schema=False
            )

    def create_statements(self, dataset: str, tables: Sequence[Mapping[str, Any]]) -> list[str]:
        """Write the statements that create a schema and *tables*, without a connection."""
        with self._context.entered():
            schema = schema_of(f"{dataset}_tables", tables)
            client = self._new_client(schema, dataset)
            first = []
            if self._destination.has_schemas:
                name = client.sql_client.fully_qualified_dataset_name()
                first.append(f"CREATE SCHEMA IF NOT EXISTS {name}")
            return first + [
                statement.rstrip("; \n")
                for table in tables
                for statement in client._get_table_update_sql(  # noqa: SLF001 -- as create() does.
                    table["name"], list(schema.tables[table["name"]]["columns"].values()), False
                )
            ]

    # --- rows ---

    def load(
        self,
        dataset: str,
        staging: str,
        table: Mapping[str, Any],
        rows: Iterable[pa.RecordBatch],
    ) -> None:
        """
        Merge *rows* into a table by its key, through the schema *staging*.

        The load package is removed afterwards, loaded or not: it would delay a later one, and
        its rows are read again, since no state counts them as loaded.
        """
        resource = dlt.resource(
            _as_tables(rows),
            name=table["name"],
            write_disposition=table["write_disposition"],
            columns=table["columns"],
        )
        hints = {key: value for key, value in table.items() if key.startswith("x-")}
        resource.apply_hints(additional_table_hints=hints)
        schema = schema_of(f"ometria_{table['name']}_{staging}", [])
        with (
            self._pipeline(dataset, staging) as pipeline,
            self._asking(pipeline),
            step("dlt load"),
        ):
            pipeline.run(resource, schema=schema, loader_file_format=self._destination.file_format)
            self._loads.add((schema.name, staging))

    def empty(self, dataset: str, names: Sequence[str]) -> None:
        """Remove all rows of those of the tables *names* that exist."""
        there = [name for name, columns in self.columns(dataset, names).items() if columns]
        with self._asking() as client, client.sql_client.with_alternative_dataset_name(dataset):
            client.sql_client.truncate_tables(*there)

    def forget_loads(self) -> None:
        """Remove dlt's notes about our loads: no later load needs them."""
        for schema, staging in self._loads:
            for dataset, table in (
                (STATE_SCHEMA, "_dlt_loads"),
                (STATE_SCHEMA, "_dlt_version"),
                (staging, "_dlt_version"),
            ):
                self.execute(
                    f"DELETE FROM {self.qualified(dataset, table)}"
                    f" WHERE {self.quoted('schema_name')} = %s",
                    [schema],
                )
        self._loads.clear()

    def close(self) -> None:
        """Close the connection. The next call opens one."""
        client, self._client = self._client, None
        if client is not None:
            with self._context.entered(), suppress(Exception):
                client.__exit__(None, None, None)

    # --- helpers ---

    @contextmanager
    def _asking(self, pipeline: dlt.Pipeline | None = None) -> Iterator[Any]:
        """Connect for the block, and turn every error into :class:`Failed`."""
        with self._context.entered():
            client = self._connected()
            try:
                yield client
            except Failed:
                raise
            except Exception as error:
                raise Failed(error, _pending(pipeline) if pipeline else None) from error
            finally:
                self._used_at = time.monotonic()

    def _connected(self) -> Any:
        """Return the connection, made anew if it was idle for long."""
        is_idle = time.monotonic() - self._used_at > IDLE_SECONDS
        if is_idle and not self._context.is_entered_again:
            self.close()
        return self._client or self._connect()

    def _connect(self) -> Any:
        try:
            client = self._new_client(schema_of("ometria_statements", ()), DATA_SCHEMA)
            client.__enter__()
        except Exception as error:
            raise Failed(error, connecting=True) from error
        self._client = client
        return client

    def _new_client(self, schema: Schema, dataset: str, staging: str = "") -> Any:
        destination = self._made(staging or f"{DATA_SCHEMA}_staging")
        config = destination.spec()._bind_dataset_name(dataset)  # noqa: SLF001 -- As pipelines do.
        return destination.client(schema, config)

    def _made(self, staging: str) -> Any:
        options = dict(self._options)
        if self._destination.transactions:
            options["supports_transactions"] = True
        return patched(self._destination.factory)(
            **options, staging_dataset_name_layout=staging, naming_convention=NAMING
        )

    @contextmanager
    def _pipeline(self, dataset: str, staging: str) -> Iterator[dlt.Pipeline]:
        """Return a pipeline whose folder is removed at the end, with everything in it."""
        with self._context.entered():
            pipeline = dlt.pipeline(
                pipeline_name="ometria_replica",
                pipelines_dir=str(self._folder),
                destination=self._made(staging),
                dataset_name=dataset,
            )
            try:
                yield pipeline
            finally:
                pipeline.deactivate()
                shutil.rmtree(pipeline.working_dir, ignore_errors=True)


def _as_tables(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in rows:
        yield pa.Table.from_batches([batch])


def _from_rows(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.table(arrays, schema=schema)


def _quietly(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Pass *tables* on without DuckDB's warnings about how dlt reads them."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table = next(tables, None)
        if table is None:
            return
        yield table


def _type_name(column: Mapping[str, Any]) -> str:
    """Name the type of a column; a time without a zone is another type than ours."""
    kind = str(column.get("data_type"))
    return f"{kind} without zone" if column.get("timezone") is False else kind


def _pending(pipeline: dlt.Pipeline) -> str | None:
    found = [*pipeline.list_normalized_load_packages(), *pipeline.list_extracted_load_packages()]
    return found[0] if found else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _root(error: BaseException) -> BaseException:
    """Find the driver's own error, where there is one: it says more than dlt's."""
    return list(_chain(error))[-1]


_DENIED = re.compile(
    r"password|authentic|credential|denied|unauthorized|forbidden|not permitted|pg_hba"
    r"|(user|role|database|warehouse|account|project) .*(does not exist|not found)",
    re.IGNORECASE,
)
"""Of a failed connection the drivers give a text only: these words mean that it stays so."""


def _trouble(error: BaseException, *, connecting: bool) -> Trouble:
    chain = list(_chain(error))
    if any("Could not set lock" in str(each) for each in chain):
        return Trouble.LOCKED
    if any(isinstance(each, ConfigurationException) for each in chain):
        return Trouble.SETTINGS
    if connecting or any(isinstance(each, DestinationConnectionError) for each in chain):
        denied = any(_DENIED.search(str(each)) for each in chain)
        return Trouble.DENIED if denied else Trouble.CONNECTION
    if any(isinstance(each, DestinationTerminalException) for each in chain):
        return Trouble.REFUSED
    if any(isinstance(each, DestinationTransientException) for each in chain):
        return Trouble.PASSING
    return Trouble.REFUSED
