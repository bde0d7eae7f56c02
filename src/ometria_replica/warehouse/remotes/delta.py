"""Delta Lake as a warehouse: a table is a folder below ``delta:///folder`` or ``delta+s3://``."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import and_, or_
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from ometria_replica.errors import ConfigError, Unreachable, WarehouseError
from ometria_replica.warehouse.arrow import ARROW_TYPES
from ometria_replica.warehouse.remotes.table_format import (
    ROWS_AT_ONCE,
    CommitConflict,
    LakeWarehouse,
    ensure_writable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from ometria_replica.warehouse.remotes.table_format import Stretch

TYPES = {
    "string": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "long": "BIGINT",
}
"""DuckDB's names of Delta's types."""

ROW_GROUP = 65_536  # Rows. A group is read into memory whole; by default it has a million.
FILE_BYTES = 32 * 2**20  # About a day of 100,000 events. A touched file is written anew, whole.
# A commit that was overtaken fails at once: what is to be written must be worked out anew.
AT_ONCE_OR_NOT = deltalake.CommitProperties(max_commit_retries=0)
OPTIONS = {
    "conditional_put": "etag",  # So that of two commits one fails. S3 can since 2024.
    "connect_timeout": "10s",
    "timeout": "300s",
    "max_retries": "5",
    "retry_timeout": "60s",
}


def open_url(url: str, *, dry_run: bool = False) -> LakeWarehouse:
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
    return LakeWarehouse(lake, dry_run=dry_run)


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
class DeltaLake:
    """The tables below *place*, a folder's path or an ``s3://`` URL, reached with *options*."""

    place: str
    options: Mapping[str, str] | None = None

    @contextmanager
    def explaining(self, doing: str) -> Iterator[None]:
        """See the protocol."""
        try:
            yield
        except (DeltaError, pa.ArrowException, OSError) as error:
            raise self._explained(error, doing) from error

    def open(self, schema: str, name: str) -> DeltaTable | None:
        """See the protocol."""
        place = f"{self.place}/{schema}/{name}"
        if self.options is None and not Path(place).is_dir():
            return None
        try:
            return DeltaTable(deltalake.DeltaTable(place, storage_options=self._options()))
        except TableNotFoundError:
            return None

    def make(self, schema: str, name: str, columns: Sequence[tuple[str, str]]) -> None:
        """See the protocol."""
        deltalake.DeltaTable.create(
            f"{self.place}/{schema}/{name}",
            pa.schema([(column, ARROW_TYPES[kind]) for column, kind in columns]),
            mode="ignore",
            storage_options=self._options(),
        )

    def tidy(self, schema: str, name: str, older_than: timedelta) -> None:
        """See the protocol. The log is tidied by delta-rs itself, every hundred versions."""
        place = f"{self.place}/{schema}/{name}"
        deltalake.DeltaTable(place, storage_options=self._options()).vacuum(
            retention_hours=older_than // timedelta(hours=1),
            dry_run=False,
            enforce_retention_duration=False,  # By whoever made the table; this one is ours.
        )

    def try_access(self) -> None:
        """See the protocol. Of a bucket only writing itself could tell."""
        if self.options is not None:
            return
        folder = Path(self.place)
        ensure_writable(next(path for path in (folder, *folder.parents) if path.exists()))

    def _options(self) -> dict[str, str] | None:
        return None if self.options is None else dict(self.options)

    def _explained(self, error: Exception, doing: str) -> WarehouseError:
        """Say what *error* means. Its own text may quote a customer's data, or a signature."""
        if isinstance(error, CommitFailedError):
            return CommitConflict(
                f"Somebody else wrote to {self.place} while {doing}, time and again. Nothing of"
                " this batch is lost. Run again."
            )
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


_FOLDER = (
    "what lies there cannot be read or written",
    "Check that the folder can be written, then run again.",
)
_MEANINGS: Sequence[tuple[tuple[str, ...], type[WarehouseError], str, str]] = (
    (("No space left", "os error 28"), Unreachable, "there is no room left",
     "Make room, then run again."),
    (("NoSuchBucket",), WarehouseError, "there is no such bucket",
     "Make it, or change warehouse.url."),
    (("403 Forbidden", "401 Unauthorized", "AccessDenied"), WarehouseError, "access is refused",
     "Allow s3:ListBucket, and below the prefix s3:GetObject, s3:PutObject and s3:DeleteObject."),
    (("Generic S3 error",), Unreachable, "the store does not answer",
     "Check the address, the credentials in AWS_* and the network, then run again."),
    (("os error", "Os {"), WarehouseError, *_FOLDER),
)  # fmt: skip


@dataclass(frozen=True)
class DeltaTable:
    """One version of a table."""

    table: deltalake.DeltaTable

    def columns(self) -> list[tuple[str, str]]:
        """See the protocol."""
        return [
            (field.name, TYPES.get(_type_of(field), _type_of(field).upper()))
            for field in self.table.schema().fields
        ]

    def rows(self, stretch: Stretch) -> pa.RecordBatchReader:
        """See the protocol. Files that the stretch does not meet are not opened."""
        scanner = self.table.to_pyarrow_dataset().scanner(
            filter=arrow_filter(stretch),
            batch_size=ROWS_AT_ONCE,
            batch_readahead=2,  # By default 16 batches of 4 files are in memory.
            fragment_readahead=1,
        )
        return scanner.to_reader()

    def count(self, stretch: Stretch) -> int:
        """See the protocol."""
        found: int = self.table.to_pyarrow_dataset().count_rows(filter=arrow_filter(stretch))
        return found

    def append(self, rows: pa.RecordBatchReader) -> None:
        """See the protocol."""
        self._write(rows, mode="append")

    def overwrite(self, stretch: Stretch, rows: pa.RecordBatchReader) -> None:
        """See the protocol."""
        self._write(rows, mode="overwrite", predicate=predicate(stretch))

    def _write(self, rows: pa.RecordBatchReader, **how: Any) -> None:
        deltalake.write_deltalake(
            self.table,
            rows,
            target_file_size=FILE_BYTES,
            commit_properties=AT_ONCE_OR_NOT,
            writer_properties=deltalake.WriterProperties(
                compression="ZSTD", max_row_group_size=ROW_GROUP
            ),
            **how,
        )


def arrow_filter(stretch: Stretch) -> pc.Expression | None:
    """Write a stretch as pyarrow reads it; None for a whole table."""
    parts = []
    if stretch.source_id is not None:
        parts.append(pc.field("__source_id") == stretch.source_id)
    if stretch.time is not None and stretch.spans is not None:
        time = pc.field(stretch.time)
        moments = [time.is_null()] if stretch.untimed else []
        moments += [
            (time >= _moment(first)) & (time <= _moment(last)) for first, last in stretch.spans
        ]
        parts.append(reduce(or_, moments))
    return reduce(and_, parts) if parts else None


def predicate(stretch: Stretch) -> str | None:
    """Write a stretch as delta-rs reads it; None for a whole table."""
    parts = []
    if stretch.source_id is not None:
        parts.append("__source_id = '" + stretch.source_id.replace("'", "''") + "'")
    if stretch.time is not None and stretch.spans is not None:
        moments = [f"{stretch.time} IS NULL"] if stretch.untimed else []
        moments += [
            f"({stretch.time} >= '{first.isoformat()}' AND {stretch.time} <= '{last.isoformat()}')"
            for first, last in stretch.spans
        ]
        parts.append(f"({' OR '.join(moments)})")
    return " AND ".join(parts) or None


def _moment(moment: datetime) -> pa.Scalar[Any]:
    return pa.scalar(moment, ARROW_TYPES["timestamptz"])


def _type_of(field: deltalake.Field) -> str:
    return str(getattr(field.type, "type", field.type))
