"""
The tables of the state, in the schema ``ometria_replica`` beside the data.

Every warehouse has these tables, with these columns. They are written in the transaction of
the rows that they describe, so state is never ahead of data.
"""

from __future__ import annotations

from ometria_replica.mapping import REJECT_COLUMNS
from ometria_replica.schema import StateTable

ACCOUNTS = StateTable(
    "accounts",
    (
        ("account_id", "text"),
        ("source_id", "text"),
        ("wide_keys", "boolean"),
        ("first_run_at", "timestamptz"),
    ),
    key=("account_id",),
)
"""The accounts, and how each was first loaded: other keys would load all rows again."""

COLUMN_TREATMENTS = StateTable(
    "column_treatments",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("column_name", "text"),
        ("treatment", "text"),
        ("secret_check", "text"),
        ("noted_at", "timestamptz"),
    ),
    key=("source_id", "table_name", "column_name"),
)
"""
The columns that the settings exclude or hash, as rows were loaded.

*secret_check* tells whether ``hash_key`` is the same, and nothing else of it.
"""

WATERMARKS = StateTable(
    "watermarks",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("kind", "text"),
        ("reached_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "kind"),
)
"""
How far a table has been read, in Ometria's own time.

``watermark``: everything before it is read. ``full_read``: the time of the last full read.
``retry LIST``: an exception, a list whose changes are due from then on. ``listed FEED``: the
time of the last complete listing of a feed after which no file was left to read.
``refreshed LIST``: the refresh of a list that was seen when its changes were last read.
``position POSITION``: how far a full read has come that has not ended, with the watermark at
which it began. ``end POSITION``: where the last read of a collection has ended to which records
are added. ``retry_file NAME``: a file that could not be read is tried again from then on.
``written KEY``: the ``__synced_at`` of a row that the last batch with known keys has replaced.
``expired``: the oldest time of the rows that were kept when those before it were removed.
``emptied``: when a removal of this program left no row of the source: see :mod:`.lost_rows`.
``followed``: when the deletion requests of Ometria were last read, of the table of that name.
"""

WATERMARK, FULL_READ, RETRY, LISTED = "watermark", "full_read", "retry ", "listed "
POSITION, REFRESHED, RETRY_FILE, END = "position ", "refreshed ", "retry_file ", "end "
WRITTEN, EXPIRED, EMPTIED, FOLLOWED = "written ", "expired", "emptied", "followed"

LEASES = StateTable(
    "leases",
    (
        ("source_id", "text"),
        ("run_id", "text"),
        ("host", "text"),
        ("pid", "integer"),
        ("process", "text"),
        ("taken_at", "timestamptz"),
        ("expires_at", "timestamptz"),
    ),
    key=("source_id", "run_id"),
)
"""The run that may write a source's rows. Renewed with every batch, gone when the run ends."""

DELETED_UPSTREAM = StateTable(
    "deleted_upstream",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("sync_key", "text"),
        ("record_id", "text"),
        ("first_missed_at", "timestamptz"),
        ("removed_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "sync_key"),
)
"""Profiles and lists that a full read did not find. *removed_at* None: the row is still there."""

DELETION_REQUESTS = StateTable(
    "deletion_requests",
    (
        ("source_id", "text"),
        ("request_id", "text"),
        ("action", "text"),
        ("created_at", "timestamptz"),
        ("created_text", "text"),
        ("completed_at", "timestamptz"),
        ("completed_text", "text"),
        ("identities", "integer"),
        ("hashed_emails", "text"),
        ("noted_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("source_id", "request_id"),
)
"""The requests to Ometria to anonymise people, as they were last read, without personal data."""

FILES = StateTable(
    "files",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("name", "text"),
        ("etag", "text"),
        ("size", "integer"),
        ("modified_at", "timestamptz"),
        ("loaded_at", "timestamptz"),
        ("records", "integer"),
        ("unreadable_because", "text"),
        ("read_again", "boolean"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "name", "etag", "size"),
)
"""
The file log: every version of every export file that was read, or could not be read.

*loaded_at* is the ``__synced_at`` of the file's rows, and of no other file's.
*read_again* asks the next run to read the file as if it were new, unless the watermarks hold a
time from which it is tried again.
"""

REJECTS = StateTable(
    "rejects",
    (
        *((name, "integer" if name == "position" else "text") for name in REJECT_COLUMNS),
        ("rejected_at", "timestamptz"),
        ("run_id", "text"),
    ),
    key=("reject_id",),
)
"""Values that did not convert, and records without an identity, as they came."""

SUPPRESSIONS = StateTable(
    "suppressions",
    (
        ("source_id", "text"),
        ("hash", "text"),
        ("kind", "text"),
        ("keyed_by", "text"),
        ("person", "text"),
        ("erasure_id", "text"),
        ("suppressed_at", "timestamptz"),
    ),
    key=("source_id", "hash"),
)
"""
The ids of people who were erased, as keyed hashes: no run loads their records again.

*kind* is ``profile``, ``customer`` or ``address``, or ``address alone`` where Ometria has replaced
the address of a profile and keeps the profile. *keyed_by* is ``hash_key`` with the check of
the secret, or ``state``: then the secret is in :data:`SUPPRESSION_SECRETS`. *person* is random,
and the same for the ids of one person.
"""

SUPPRESSION_SECRETS = StateTable(
    "suppression_secrets",
    (("source_id", "text"), ("secret", "text"), ("made_at", "timestamptz")),
    key=("source_id",),
)
"""The random secret, in hex, of sources whose account had no ``hash_key`` at an erasure."""

ERASURES = StateTable(
    "erasures",
    (
        ("erasure_id", "text"),
        ("source_id", "text"),
        ("erased_at", "timestamptz"),
        ("finished_at", "timestamptz"),
        ("outcome", "text"),
        ("counts", "text"),
        ("remains", "text"),
    ),
    key=("erasure_id", "source_id"),
)
"""
The receipts of erasures, without personal data. Ids sort by time, as those of runs do.

*outcome* is ``removed`` or ``blanked``, and *counts* JSON: people, ids, rows by table, and the
tables that were emptied. *finished_at* is null while rows may be left, where rows and state are
not committed at once. *remains* says what the storage may still hold.
"""

RUNS = StateTable(
    "runs",
    (
        ("run_id", "text"),
        ("started_at", "timestamptz"),
        ("finished_at", "timestamptz"),
        ("outcome", "text"),
        ("version", "text"),
        ("report", "text"),
    ),
    key=("run_id",),
)
"""The run history, with each report as JSON text."""

VERSION = StateTable(
    "version",
    (("version", "integer"), ("written_by", "text"), ("written_at", "timestamptz")),
    key=("version",),
)
"""One row: the version of this layout, and the release of the program that wrote it."""

FIELDS = StateTable(
    "fields",
    (
        ("source_id", "text"),
        ("table_name", "text"),
        ("path", "text"),
        ("types", "text"),
        ("first_at", "timestamptz"),
        ("records", "integer"),
        ("of_records", "integer"),
        ("run_id", "text"),
    ),
    key=("source_id", "table_name", "path"),
)
"""
The fields of records that are kept, by which a run tells those that appear, vanish or change.

*types* are the JSON types that a field had, with commas between them. *records* of *of_records* in
the last whole read had it. Values are not noted.
"""

STATE_TABLES = (
    ACCOUNTS,
    COLUMN_TREATMENTS,
    FIELDS,
    SUPPRESSION_SECRETS,
    SUPPRESSIONS,
    ERASURES,
    REJECTS,
    DELETED_UPSTREAM,
    DELETION_REQUESTS,
    FILES,
    WATERMARKS,
    RUNS,
    LEASES,
    VERSION,
)
"""In the order of writing: rejects before the file log that counts them as read, and so on."""
