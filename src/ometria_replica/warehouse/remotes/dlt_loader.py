"""
dlt is driven here, and nowhere else: it carries rows to a warehouse and merges them there.

It is shut in. It reads no settings but ours, keeps its files in a folder of the run, logs
nothing and tells nobody; what it knows of its loads stays out of the schema of the data.
"""

from __future__ import annotations

import re
import shutil
import time
import warnings
from contextlib import contextmanager, nullcontext, suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import dlt
import pyarrow as pa
from dlt.common import logger as dlt_logger
from dlt.common.configuration.container import Container
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.providers.dictionary import DictionaryProvider
from dlt.common.configuration.specs.config_providers_context import ConfigProvidersContainer
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
from dlt.common.data_writers.escape import format_datetime_literal
from dlt.common.destination.exceptions import (
    DestinationTerminalException,
    DestinationTransientException,
)
from dlt.common.destination.reference import DestinationReference
from dlt.common.runtime import signals as dlt_signals
from dlt.common.runtime.run_context import RunContext
from dlt.common.schema import Schema
from dlt.destinations.exceptions import DestinationConnectionError
from dlt.destinations.job_client_impl import SqlLoadJob
from dlt.destinations.sql_client import DBApiCursorImpl

from ometria_replica.schema import DATA_SCHEMA
from ometria_replica.warehouse.arrow import ARROW_TYPES
from ometria_replica.warehouse.state_tables import STATE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ometria_replica.warehouse.remotes.dlt_destinations import Destination

TYPES: Mapping[str, str] = {
    "text": "text",
    "boolean": "bool",
    "date": "date",
    "timestamptz": "timestamp",
    "integer": "bigint",
}
"""dlt's names of our column types."""

IDLE_SECONDS = 60.0  # What stands between us and a warehouse cuts what is idle for minutes.
ROWS_AT_ONCE = 20_000  # Held as Python objects, where a driver knows no Arrow: some 40 MB.

_SETTINGS: Mapping[str, Any] = {
    "dlthub_telemetry": False,
    "runtime": {"dlthub_telemetry": False, "log_level": "CRITICAL"},
    "restore_from_destination": False,
    "pipeline": {"restore_from_destination": False},
    "load": {"truncate_staging_dataset": True, "raise_on_max_retries": 5, "workers": 4},
    "data_writer": {"disable_compression": True},
}


class Trouble(Enum):
    """What a failure comes to."""

    SETTINGS = "settings"
    CONNECTION = "connection"
    LOCKED = "locked"
    PASSING = "passing"
    REFUSED = "refused"


class Failed(Exception):
    """
    dlt or the driver failed; the cause is theirs, and may quote people's data.

    The text names the class of the error alone. *package* names the load package that was
    not finished, None outside a load.
    """

    def __init__(
        self, error: BaseException, package: str | None = None, *, connecting: bool = False
    ) -> None:
        super().__init__(type(_root(error)).__name__)
        self.trouble = _trouble(error, connecting=connecting)
        self.package = package


class DltLoader:
    """
    Carries rows to *destination*, made with *options*, from the folder *folder*.

    Tables are given as dlt describes them, by :func:`described`.
    """

    def __init__(self, destination: Destination, options: Mapping[str, Any], folder: Path) -> None:
        self._destination = destination
        self._options = options
        self._folder = folder
        self._context = _Alone(folder)
        self._loads: set[tuple[str, str]] = set()
        self._client: Any = None
        self._used_at = time.monotonic()

    # --- statements ---

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> None:
        """Run a statement; ``%s`` stands for a parameter."""
        with self._asking() as client:
            client.sql_client.execute_sql(statement, *parameters)

    def execute_all(self, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
        """Run statements, all or none of them where the warehouse has transactions."""
        with self._asking() as client:
            if not self._destination.transactions:
                for statement, parameters in statements:
                    client.sql_client.execute_sql(statement, *parameters)
                return
            with client.sql_client.begin_transaction():
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

    def qualified(self, dataset: str, name: str) -> str:
        """Name a table in full, as the warehouse writes names."""
        with self._asking() as client, client.sql_client.with_alternative_dataset_name(dataset):
            return cast("str", client.sql_client.make_qualified_table_name(name))

    def quoted(self, name: str) -> str:
        """Write a column's name."""
        with self._asking() as client:
            return cast("str", client.sql_client.escape_column_name(name))

    def time_literal(self, moment: Any) -> str:
        """Write a moment."""
        with self._asking() as client:
            write = client.capabilities.format_datetime_literal or format_datetime_literal
            return cast("str", write(moment))

    # --- tables ---

    def columns(self, dataset: str, names: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
        """
        Name the columns of tables in order, each with dlt's type; none where no table is.

        Names come as we write them, wherever the warehouse may fold them.
        """
        with self._asking() as client, client.sql_client.with_alternative_dataset_name(dataset):
            if not client.is_storage_initialized():
                return {name: [] for name in names}
            return {
                name: [(column.lower(), _type_name(kind)) for column, kind in columns.items()]
                for name, columns in client.get_storage_tables(list(names))
            }

    def make(self, dataset: str, tables: Sequence[Mapping[str, Any]]) -> None:
        """Make a schema, and those of *tables* that are not there."""
        schema = schema_of(f"{dataset}_tables", tables)
        with self._asking(), self._new_client(schema, dataset) as client:
            client.initialize_storage()
            # Not update_stored_schema: it would note this schema as one that was loaded.
            client._execute_schema_update_sql(  # noqa: SLF001 -- It makes what is missing, no more.
                [table["name"] for table in tables], store_schema=False
            )

    # --- rows ---

    def carry(
        self,
        dataset: str,
        staging: str,
        table: Mapping[str, Any],
        rows: Iterable[pa.RecordBatch],
    ) -> None:
        """
        Merge *rows* into a table by its key, through the schema *staging*.

        The load package is gone afterwards, whether it was loaded or not: a later one would
        be kept waiting by it, and its rows are read again, since no state speaks of them.
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
        with self._pipeline(dataset, staging) as pipeline, self._asking(pipeline):
            pipeline.run(resource, schema=schema, loader_file_format=self._destination.file_format)
            self._loads.add((schema.name, staging))

    def forget_loads(self) -> None:
        """Remove what dlt noted of our loads, once they are done; nobody asks for it."""
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
        """Be connected within, and let nothing of dlt's out but :class:`Failed`."""
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
        """Give the connection, made anew if it may have been cut for want of use."""
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
        return _bridged(self._destination.factory)(
            **options, staging_dataset_name_layout=staging, naming_convention=NAMING
        )

    @contextmanager
    def _pipeline(self, dataset: str, staging: str) -> Iterator[dlt.Pipeline]:
        """Give a pipeline whose folder is gone at the end, with whatever is left in it."""
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


NAMING = "ometria_replica.naming"
_JSON = "dlt.common.normalizers.json.relational"


def described(
    name: str,
    columns: Iterable[tuple[str, str]],
    key: Sequence[str],
    strategy: str,
    *,
    table_hints: Mapping[str, Any] | None = None,
    column_hints: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Describe a table for dlt: *columns* with our types, in order, and the *key* of its rows."""
    return {
        "name": name,
        "write_disposition": {"disposition": "merge", "strategy": strategy},
        "columns": {
            column: {
                "name": column,
                "data_type": TYPES[kind],
                "nullable": column not in key,
                **({"primary_key": True} if column in key else {}),
                **(column_hints or {}).get(column, {}),
            }
            for column, kind in columns
        },
        **(table_hints or {}),
    }


def arrow_schema(columns: Iterable[tuple[str, str]]) -> pa.Schema:
    """Give the Arrow schema of columns with our types."""
    return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in columns])


def schema_of(name: str, tables: Sequence[Mapping[str, Any]]) -> Schema:
    """Describe *tables*, as :func:`described` gives them, to dlt under *name*."""
    schema = Schema(name, normalizers={"names": NAMING, "json": {"module": _JSON}})
    for table in tables:
        columns = {name: dict(column) for name, column in table["columns"].items()}
        schema.update_table(
            cast("Any", {**table, "write_disposition": "merge", "columns": columns})
        )
    return schema


def _as_tables(rows: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in rows:
        yield pa.Table.from_batches([batch])


def _from_rows(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
    return pa.table(arrays, schema=schema)


def _quietly(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Pass *tables* on without what DuckDB has to say about how dlt asks it for them."""
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            table = next(tables, None)
        if table is None:
            return
        yield table


def _type_name(column: Mapping[str, Any]) -> str:
    """Name the type of a column; a moment without a zone is another type than ours."""
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


def _trouble(error: BaseException, *, connecting: bool) -> Trouble:
    chain = list(_chain(error))
    if any("Could not set lock" in str(each) for each in chain):
        return Trouble.LOCKED
    if any(isinstance(each, ConfigurationException) for each in chain):
        return Trouble.SETTINGS
    if connecting or any(isinstance(each, DestinationConnectionError) for each in chain):
        return Trouble.CONNECTION
    if any(isinstance(each, DestinationTerminalException) for each in chain):
        return Trouble.REFUSED
    if any(isinstance(each, DestinationTransientException) for each in chain):
        return Trouble.PASSING
    return Trouble.REFUSED


def _bridged(factory: Any) -> Any:
    """Make a destination of dlt's that keeps its notes out of our data, and merges at once."""

    class Bridged(factory):  # type: ignore[misc]
        __orig_base__ = factory

        @property
        def destination_type(self) -> str:
            return DestinationReference.normalize_type(
                f"{factory.__module__}.{factory.__qualname__}"
            )

        @property
        def client_class(self) -> Any:
            return _bridged_client(super().client_class)

    return Bridged


def _bridged_client(client_class: Any) -> Any:
    class BridgedClient(client_class):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            _keep_notes_apart(self.sql_client)

        def create_load_job(self, table: Any, file_path: str, *rest: Any, **options: Any) -> Any:
            if SqlLoadJob.is_sql_job(file_path):
                return AtOnce(file_path)
            return super().create_load_job(table, file_path, *rest, **options)

    return BridgedClient


def _keep_notes_apart(sql_client: Any) -> None:
    """Name dlt's own tables in the schema of our state, where they would be beside the data."""
    path = sql_client.make_qualified_table_name_path

    def routed(table_name: str | None, *arguments: Any, **options: Any) -> Any:
        is_note = (table_name or "").lower().startswith("_dlt_")
        if is_note and sql_client.dataset_name.lower() == DATA_SCHEMA:
            options["dataset_name"] = STATE_SCHEMA
        return path(table_name, *arguments, **options)

    sql_client.make_qualified_table_name_path = routed


class AtOnce(SqlLoadJob):
    """
    The statements of a merge, in one transaction.

    dlt takes any statement for one that defines tables in which CREATE is found, as it
    is in ``created_at``, and some warehouses define none in transactions.
    """

    def _string_contains_ddl_statements(self, sql: str) -> bool:
        return any(re.match(r"(?i)\s*(CREATE|ALTER|DROP)\b", line) for line in sql.split("\n"))


class _OurSettings(DictionaryProvider):
    def __init__(self) -> None:
        super().__init__()
        self._config_doc = dict(_SETTINGS)


class _Alone(RunContext):
    """A run context of dlt's that knows our settings and no others, and this folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = str(folder)
        self._depth = 0

    @property
    def global_dir(self) -> str:
        return self._folder

    @property
    def run_dir(self) -> str:
        return self._folder

    @property
    def local_dir(self) -> str:
        return self._folder

    @property
    def data_dir(self) -> str:
        return self._folder

    def initial_providers(self) -> list[Any]:
        return [_OurSettings()]

    def initialize_runtime(self, runtime_config: RuntimeConfiguration | None = None) -> None:
        config = runtime_config or RuntimeConfiguration()
        config.dlthub_telemetry = False
        config.__is_resolved__ = True
        self._runtime_config = config

    @property
    def is_entered_again(self) -> bool:
        """Whether one call of dlt's is within another."""
        return self._depth > 1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put this in the place of the context that is there, without a word to the log."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        container = Container()
        if PluggableRunContext not in container:
            container[PluggableRunContext] = PluggableRunContext(self)
        plugged = container[PluggableRunContext]
        kept = plugged.context, plugged.providers, dlt_logger.LOGGER
        intercepted = dlt_signals.intercepted_signals
        plugged.context, plugged.providers = (
            self,
            ConfigProvidersContainer(self.initial_providers()),
        )
        dlt_logger.LOGGER = None  # type: ignore[assignment]  # As before it is made.
        # It would wait for what is under way, and forget the signal when that ends well.
        dlt_signals.intercepted_signals = nullcontext  # type: ignore[assignment]
        self._depth = 1
        try:
            yield
        finally:
            self._depth = 0
            plugged.context, plugged.providers, dlt_logger.LOGGER = kept
            dlt_signals.intercepted_signals = intercepted
