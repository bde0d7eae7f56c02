"""
dlt into PostgreSQL: Arrow tables, merged with SQL, by its default file format or by Parquet.

"Load Arrow tables" and "PostgreSQL: fast loading with Arrow tables and Parquet" in its docs.
The default format for Arrow is CSV. Parquet uses ADBC and is the fastest documented way.
The upsert fails on repeated keys, so this script removes them first.
"""

from __future__ import annotations

import sys
import tempfile

import dlt
from dlt_arrow import batches


def main() -> None:
    """Load the files of a folder."""
    strategy, files, folder, url = sys.argv[1:]
    with tempfile.TemporaryDirectory() as work:
        pipeline = dlt.pipeline(
            "bench",
            pipelines_dir=work,
            destination=dlt.destinations.postgres(url),
            dataset_name="dlt",
        )
        events = dlt.resource(
            batches(folder, distinct=strategy == "upsert"),
            name="email_events",
            primary_key="email_event_id",
            write_disposition={"disposition": "merge", "strategy": strategy},
        )
        pipeline.run(events, loader_file_format=None if files == "default" else files)


if __name__ == "__main__":
    main()
