"""
What each contender makes of the feed's columns, and the one SELECT that says it in SQL.

Every contender reads the gzip CSV files of a folder into a DuckDB table, with the event's
time as a time with its zone, an MD5 of the parts that identify it as the key, and no key twice.
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
"""The feed's column, and the warehouse's."""

KEY = f"md5(concat('{SOURCE_ID}', to_address, event_type, dt_occurred))"

MAPPED = f"{KEY} AS email_event_id, " + ", ".join(
    f"{field}::TIMESTAMPTZ AS {name}" if name == "event_at" else f"{field} AS {name}"
    for field, name in RENAMED.items()
)

READ = "read_csv('{}/*.csv.gz', all_varchar = true, header = true)"
"""DuckDB's reader, with the folder to be filled in."""

# An empty text and a null are one thing in CSV, so they are one thing to the check.
CHECKED = "email_event_id, epoch_us(event_at::TIMESTAMPTZ), " + ", ".join(
    f"coalesce({name}, '')" for name in RENAMED.values() if name != "event_at"
)
