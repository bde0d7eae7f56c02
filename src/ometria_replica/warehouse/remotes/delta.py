"""Delta Lake as a warehouse: a table is a folder below ``delta:///folder`` or ``delta+s3://``."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake
import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from typing_extensions import override

from ometria_replica import sql
from ometria_replica.arrow_types import arrow_schema
from ometria_replica.errors import CommitConflict, ConfigError, Unreachable, WarehouseError
from ometria_replica.permissions import ensure_writable
from ometria_replica.schema import STATE_SCHEMA
from ometria_replica.selection import ALL, Dialect, Selection, to_arrow, to_sql
from ometria_replica.sql import literal
from ometria_replica.warehouse.remotes.base import ROWS_AT_ONCE
from ometria_replica.warehouse.remotes.delta_upkeep import FILE_BYTES, WRITER, due, maintain
from ometria_replica.warehouse.remotes.delta_versions import (
    STATE_PROPERTIES,
    keep_small,
    remove_old_versions,
)
from ometria_replica.warehouse.remotes.lake import LakeRemote
from ometria_replica.warehouse.remotes.lake_format import (
    BUCKETS,
    Lake,
    LakeTable,
    abandoned,
)
from ometria_replica.warehouse.upkeep import Files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from duckdb import DuckDBPyConnection

    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.upkeep import Due, Maintained, Upkeep

# A commit after another one fails at once: the rows to write must be computed anew.
AT_ONCE_OR_NOT = deltalake.CommitProperties(max_commit_retries=0)
OPTIONS = {
    "conditional_put": "etag",  # So that of two commits one fails. S3 can since 2024.
    "connect_timeout": "10s",
    "timeout": "300s",
    "max_retries": "5",
    "retry_timeout": "60s",
}


def open_remote(url: str, connection: DuckDBPyConnection) -> LakeRemote:
    """Open ``delta:///relative``, ``delta:////absolute`` or ``delta+s3://bucket/prefix``."""
    scheme, _, rest = url.partition("://")
    in_bucket = scheme == "delta+s3"
    if rest.startswith("/") == in_bucket or not rest.strip("/"):
        raise ConfigError(
            "warehouse.url: names no folder. Write delta:///relative/folder,"
            " delta:////absolute/folder or delta+s3://bucket/prefix."
        )
    if in_bucket:
        lake = DeltaLake(f"s3://{rest.rstrip('/')}", s3_options())
    else:
        lake = DeltaLake(str(Path(rest.removeprefix("/")).absolute()))
    return LakeRemote(connection, lake)


def s3_options(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Add to what the driver reads of AWS_* itself; a name of the service's own goes first."""
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    options = OPTIONS | {"region": region}
    if endpoint:
        options |= {"endpoint": endpoint}
        options |= {"allow_http": str(endpoint.startswith("http://")).lower()}
    return options


@dataclass(frozen=True)
class DeltaLake(Lake):
    """The tables below *place*, a folder's path or an ``s3://`` URL, reached with *options*."""

    place: str = ""
    options: Mapping[str, str] | None = None

    @override
    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (DeltaError, pa.ArrowException, OSError) as error:
            raise self._explained(error, doing) from error

    @override
    def open(self, schema: str, name: str) -> DeltaTable | None:
        place = f"{self.place}/{schema}/{name}"
        if self.options is None and not Path(place).is_dir():
            return None
        try:
            return DeltaTable(deltalake.DeltaTable(place, storage_options=self._options()))
        except TableNotFoundError:
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
        metadata = {column: {"comment": text} for column, text in comments.items()}
        deltalake.DeltaTable.create(
            f"{self.place}/{schema}/{name}",
            arrow_schema(columns, metadata),
            mode="ignore",
            description=comments.get(""),
            configuration={**STATE_PROPERTIES} if schema == STATE_SCHEMA else None,
            storage_options=self._options(),
        )

    @override
    def expire(self, schema: str, name: str, older_than: timedelta) -> None:
        keep_small(f"{self.place}/{schema}/{name}", self._options(), older_than)

    @override
    def maintain(self, table: Table | StateTable, upkeep: Upkeep) -> Maintained:
        schema = sql.schema_of(table)
        name = f"{schema}.{table.name}"
        return maintain(f"{self.place}/{schema}/{table.name}", self._options(), name, upkeep)

    @override
    def maintenance_due(self, schema: str, name: str) -> Due | None:
        there = self.open(schema, name)
        if there is None:
            return None
        place = f"{self.place}/{schema}/{name}"
        return due(there.table, place, self._options(), f"{schema}.{name}")

    @override
    def forget_deleted(self, schema: str, name: str) -> Sequence[str]:
        young = remove_old_versions(f"{self.place}/{schema}/{name}", self._options())
        return [abandoned(young)] if young else []

    @override
    def kept_elsewhere(self) -> str:
        return "" if self.options is None else BUCKETS.format(place=self.place)

    @override
    def check_access(self) -> None:
        """Look at the folder's permissions. For a bucket only a write would tell."""
        if self.options is not None:
            return
        folder = Path(self.place)
        ensure_writable(
            next(path for path in (folder, *folder.parents) if path.exists()), folder=True
        )

    def _options(self) -> dict[str, str] | None:
        return None if self.options is None else dict(self.options)

    def _explained(self, error: Exception, doing: str) -> WarehouseError:
        """Say what *error* means, without its text: that may quote data, or a signature."""
        if isinstance(error, CommitFailedError):
            return CommitConflict(
                f"Another session wrote to {self.place} while {doing}, again and again. Nothing of"
                " this batch is lost. Run again."
            )
        if _is_gone(error):
            return CommitConflict(
                f"Files of {self.place} are gone that belonged to a table when it was opened, while"
                f" {doing}. Another session may have removed old versions. Nothing of this batch"
                " is lost. Run again; if it happens again, restore the table from a backup."
            )
        if (status := _answered(error)) and status not in _PASSES:
            return WarehouseError(self._refusal(status, str(error), doing))
        for signs, kind, what, advice in _MEANINGS:
            if any(sign in str(error) for sign in signs):
                return kind(f"{self.place}: {what} while {doing}. Nothing is lost. {advice}")
        if isinstance(error, OSError):
            return WarehouseError(
                f"{self.place}: {_FOLDER[0]} while {doing}. Nothing is lost. {_FOLDER[1]}"
            )
        return WarehouseError(
            f"Delta refused while {doing} in {self.place} ({type(error).__name__}). Nothing is"
            " lost. If another program has written to the tables, they may need features that"
            " this one lacks. Run again; if it happens again, report it."
        )

    def _refusal(self, status: int, text: str, doing: str) -> str:
        """Say what an answer means that another run would get too."""
        if "NoSuchBucket" in text:
            what, advice = "there is no such bucket", "Create it, or change warehouse.url."
        elif status in {401, 403}:
            what = f"access is refused ({status})"
            advice = (
                "Check the credentials in AWS_*, and allow s3:ListBucket, and below the prefix"
                " s3:GetObject, s3:PutObject and s3:DeleteObject."
            )
        elif status in {301, 307, 308}:
            what = f"the bucket is in another region, or at another address ({status})"
            advice = "Set AWS_REGION and AWS_ENDPOINT_URL."
        else:
            what = f"the store refuses the request ({status})"
            advice = "Check AWS_ENDPOINT_URL, AWS_REGION and warehouse.url."
        return f"{self.place}: {what} while {doing}. Nothing is lost. {advice}"


_PASSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses that another run may not meet again."""


def _answered(error: Exception) -> int | None:
    """Find the status that the store answered, in the driver's text; None if there is none."""
    text = re.sub(r"\x1b\[\d*m", "", str(error))
    if "redirect without LOCATION" in text:
        return 301
    found = re.search(r"Generic S3 error.*?status code\W*(\d{3})\b", text, re.DOTALL)
    return int(found[1]) if found else None


def _is_gone(error: Exception) -> bool:
    """Recognise a missing file of a table, as after another session has removed old versions."""
    text = str(error)
    return (
        isinstance(error, FileNotFoundError)
        or "File not found" in text
        or "Invalid table version" in text
        or ("Object at location" in text and "not found" in text)
    )


_FOLDER = (
    "its files cannot be read or written",
    "Check that the folder can be written, then run again.",
)
_MEANINGS: Sequence[tuple[tuple[str, ...], type[WarehouseError], str, str]] = (
    (("No space left", "os error 28"), WarehouseError, "there is no room left",
     "Free some space, then run again."),
    (("Generic S3 error",), Unreachable, "the store does not answer",
     "Check the address, the credentials in AWS_* and the network, then run again."),
    (("os error", "Os {"), WarehouseError, *_FOLDER),
)  # fmt: skip


@dataclass(frozen=True)
class DeltaTable(LakeTable):
    """One version of a table."""

    table: deltalake.DeltaTable

    @override
    def schema(self) -> pa.Schema:
        return self.table.to_pyarrow_dataset().schema

    @override
    def comments(self) -> None:
        return None

    @override
    def write_comments(self, comments: Mapping[str, str]) -> None:
        raise NotImplementedError

    @override
    def rows(
        self, selection: Selection, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """Read rows. Files without a selected row are not opened."""
        scanner = self.table.to_pyarrow_dataset().scanner(
            columns=None if columns is None else list(columns),
            filter=to_arrow(selection),
            batch_size=ROWS_AT_ONCE,
            batch_readahead=2,  # By default 16 batches of 4 files are in memory.
            fragment_readahead=1,
        )
        return scanner.to_reader()

    @override
    def scan(self) -> object:
        return self.table.to_pyarrow_dataset()

    @override
    def count(self, selection: Selection) -> int:
        found: int = self.table.to_pyarrow_dataset().count_rows(filter=to_arrow(selection))
        return found

    @override
    def data_files(self) -> Files:
        sizes = self.table.get_add_actions()["size_bytes"].to_pylist()
        return Files.of(sizes)

    @override
    def append(self, rows: pa.RecordBatchReader) -> None:
        self._write(rows, mode="append")

    @override
    def overwrite(self, selection: Selection, rows: pa.RecordBatchReader) -> None:
        self._write(rows, mode="overwrite", predicate=predicate(selection))

    def _write(self, rows: pa.RecordBatchReader, **how: Any) -> None:
        deltalake.write_deltalake(
            self.table,
            rows,
            target_file_size=FILE_BYTES,
            commit_properties=AT_ONCE_OR_NOT,
            writer_properties=WRITER,
            **how,
        )


_DATAFUSION = Dialect(name=str, moment=lambda at: f"'{at.isoformat()}'", text=literal)
"""How delta-rs writes names and values in a predicate."""


def predicate(selection: Selection) -> str | None:
    """Write a selection as delta-rs reads it; None for a whole table."""
    return None if selection == ALL else to_sql(selection, _DATAFUSION).text
