"""
dlt by the first example of its docs: the filesystem source and `read_csv`, merged by primary key.

From "Filesystem source" in dlt's docs: `filesystem(…) | read_csv(…)`, with rows as Python
dictionaries and default settings. A function adds the key and the time to each row.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import dlt
from columns import RENAMED, SOURCE_ID
from dlt.sources.filesystem import filesystem, read_csv


def mapped(row: dict[str, Any]) -> dict[str, Any]:
    """Rename the columns as in the warehouse, and add the key."""
    identity = SOURCE_ID + row["to_address"] + row["event_type"] + row["dt_occurred"]
    key = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
    return {
        "email_event_id": key,
        **{name: row[field] or None for field, name in RENAMED.items()},
    }


def main() -> None:
    """Load the files of a folder."""
    folder, database = sys.argv[1:]
    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(Path(database).parent / "dlt"),
        destination=dlt.destinations.duckdb(database),
        dataset_name="dlt",
    )
    files = filesystem(bucket_url=folder, file_glob="*.csv.gz")
    events = (files | read_csv(dtype=str, keep_default_na=False)).with_name("email_events")
    events.add_map(mapped)
    events.apply_hints(
        primary_key="email_event_id",
        write_disposition="merge",
        columns={
            "event_at": {"data_type": "timestamp"},
            **{
                name: {"data_type": "text"}
                for name in ("email_event_id", *RENAMED.values())
                if name != "event_at"
            },
        },
    )
    pipeline.run(events)


if __name__ == "__main__":
    main()
