"""
The columns that each contender loads, and the SELECT that maps them in SQL.

Every contender reads the gzip CSV files of a folder into a DuckDB table with unique keys. The
time of the event has a time zone, and the key is an MD5 of the fields that identify it.
"""

from __future__ import annotations

SOURCE_ID = "bench"

RENAMED = {
    "event_id": "event_id",
    "uuid": "send_id",
    "to_address": "email",
    "event_type": "event_type",
    "dt_occurred": "event_at",
    "bounce_class": "bounce_class",
    "reason": "bounce_reason",
    "device_type": "device_type",
    "geo_country": "geo_country",
    "geo_region": "geo_region",
    "geo_timezone": "geo_timezone",
    "target_url": "target_url",
    "campaign_title": "campaign_title",
    "campaign_type": "campaign_type",
}
"""Columns of the feed, and their names in the warehouse."""

KEY = f"md5(concat('{SOURCE_ID}', to_address, event_type, dt_occurred))"

MAPPED = f"{KEY} AS email_event_id, " + ", ".join(
    f"{field}::TIMESTAMPTZ AS {name}" if name == "event_at" else f"{field} AS {name}"
    for field, name in RENAMED.items()
)

READ = "read_csv('{}/*.csv.gz', all_varchar = true, header = true)"
"""DuckDB's reader, with a placeholder for the folder."""

# CSV does not distinguish an empty text and a null, so the check does not either.
CHECKED = "email_event_id, epoch_us(event_at::TIMESTAMPTZ), " + ", ".join(
    f"coalesce({name}, '')" for name in RENAMED.values() if name != "event_at"
)
