"""A Singer tap by the docs of singer-sdk: a stream, a schema, `get_records`."""

from __future__ import annotations

import csv
import gzip
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from columns import RENAMED, SOURCE_ID
from singer_sdk import Stream, Tap
from singer_sdk import typing as th

if TYPE_CHECKING:
    from collections.abc import Iterable


class EmailEvents(Stream):
    """The rows of the export files."""

    name = "email_events"
    primary_keys: ClassVar[list[str]] = ["email_event_id"]
    schema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("email_event_id", th.StringType, required=True),
        *(
            th.Property(name, th.DateTimeType if name == "event_at" else th.StringType)
            for name in RENAMED.values()
        ),
    ).to_dict()

    def get_records(self, context: object) -> Iterable[dict[str, Any]]:
        """Yield the rows of all files."""
        del context
        for path in sorted(Path(self.config["folder"]).glob("*.csv.gz")):
            with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    identity = (
                        SOURCE_ID + row["to_address"] + row["event_type"] + row["dt_occurred"]
                    )
                    key = hashlib.md5(identity.encode(), usedforsecurity=False).hexdigest()
                    yield {
                        "email_event_id": key,
                        **{name: row[field] or None for field, name in RENAMED.items()},
                    }


class TapEvents(Tap):
    """The tap."""

    name = "tap-events"
    config_jsonschema: ClassVar[dict[str, Any]] = th.PropertiesList(
        th.Property("folder", th.StringType, required=True)
    ).to_dict()

    def discover_streams(self) -> list[Stream]:
        """Return the only stream."""
        return [EmailEvents(self)]


if __name__ == "__main__":
    TapEvents.cli()
