"""
dlt by its fastest documented way: "Load Arrow tables" (dlthub.com, "Arrow tables").

DuckDB reads and maps the files and passes Arrow batches to dlt, which writes them as Parquet
and merges them with SQL. With delete-insert, dlt removes repeated keys itself. Its upsert
fails on repeated keys, so this script removes them first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dlt
import duckdb
from columns import MAPPED, READ

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

BATCH_ROWS = 250_000


def batches(folder: str, *, distinct: bool) -> Iterator[pa.RecordBatch]:
    """Read and map the files of a folder."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        chosen = "DISTINCT " if distinct else ""
        rows = connection.sql(f"SELECT {chosen}{MAPPED} FROM {READ.format(folder)}")
        yield from rows.to_arrow_reader(BATCH_ROWS)


def main() -> None:
    """Load the files of a folder."""
    strategy, folder, database = sys.argv[1:]
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(Path(database).parent / "dlt"),
        destination=dlt.destinations.duckdb(database),
        dataset_name="dlt",
    )
    events = dlt.resource(
        batches(folder, distinct=strategy == "upsert"),
        name="email_events",
        primary_key="email_event_id",
        write_disposition={"disposition": "merge", "strategy": strategy},
    )
    pipeline.run(events, loader_file_format="parquet")


if __name__ == "__main__":
    main()
