"""
Declares the settings: each with its default, type, check, environment variable and meaning.

``docs/reference/settings.md`` is generated from these declarations. Messages never repeat a
text value, because a key may have been pasted into the wrong line.
"""

# ruff: noqa: RUF009  # _setting is dataclasses.field, with a description.

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ometria_replica.config.checks import (
    ANSWER_BYTES,
    FILE_BYTES,
    RECORD_BYTES,
    STORAGE_VERSION,
    STORAGE_VERSIONS,
    check_all_or_tables,
    check_api_url,
    check_arn,
    check_boolean,
    check_column_names,
    check_columns,
    check_days,
    check_delimiter,
    check_encoding,
    check_feed_url,
    check_hash_key,
    check_http_url,
    check_key,
    check_memory,
    check_null,
    check_one_of,
    check_parallel,
    check_parameter,
    check_quote,
    check_rate,
    check_replicated,
    check_retain,
    check_seconds,
    check_share,
    check_switch,
    check_tables,
    check_text,
    check_threads,
    check_warehouse_url,
    check_webhook,
    check_whole_bytes,
)
from ometria_replica.config.limits import Limits
from ometria_replica.config.secrets import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ometria_replica.config.retention import Retention
    from ometria_replica.config.secrets import Secret

Reference = Literal["none", "allowed", "required", "secret"]


@dataclass(frozen=True)
class Setting:
    """
    The description of one key.

    *check* turns the raw value into the value, or raises Invalid. *env* overrides the file.
    If the key is not set, the S3 client reads the variables in *aws* itself. *reference* says
    whether the raw value may be ``env:NAME`` or ``file:/path``, which is followed before the
    check; a secret must be one if it is ``required``, and may be one if it is ``secret``. *unset*
    is what the page shows if there is no default, and *example* a value in TOML, for a file that
    shows a setting without one.
    """

    check: Callable[[object], object]
    type: str
    meaning: str
    env: str | None = None
    aws: tuple[str, ...] = ()
    reference: Reference = "none"
    unset: str = "none"
    example: str = ""


def _setting(
    check: Callable[[object], object],
    type: str,  # noqa: A002  # The name of the column on the page.
    meaning: str,
    default: Any = dataclasses.MISSING,
    *,
    env: str | None = None,
    aws: tuple[str, ...] = (),
    reference: Reference = "none",
    unset: str = "none",
    example: str = "",
) -> Any:
    known = Setting(check, type, meaning, env, aws, reference, unset, example)
    return field(default=default, metadata={"setting": known})


def _access(
    check: Callable[[object], object],
    type: str,  # noqa: A002  # As above.
    meaning: str,
    *aws: str,
    example: str = "",
) -> Any:
    """Describe a setting of the S3 client, which finds the value itself if it is not set."""
    reference: Reference = "required" if type == "secret" else "none"
    return _setting(
        check,
        type,
        meaning,
        None,
        aws=aws,
        reference=reference,
        unset="the AWS chain",
        example=example,
    )


def _dialect(check: Callable[[object], object], type: str, meaning: str) -> Any:  # noqa: A002  # As above.
    """Describe a setting that is detected in each file if it is not set."""
    return _setting(check, type, meaning, None, unset="detected")


def settings_of(kind: type) -> dict[str, Setting]:
    """Return the settings of a class by key, in the order of the page."""
    return {
        each.name: each.metadata["setting"]
        for each in dataclasses.fields(kind)
        if "setting" in each.metadata
    }


@dataclass(frozen=True)
class FeedSettings:
    """
    The bucket or folder that holds the self-serve export.

    Access settings that are None fall back to the AWS credential chain. File format
    settings that are None are detected for each file.
    """

    url: str = _setting(
        check_feed_url,
        "URL or path",
        "The bucket or folder of the export: `s3://bucket/prefix`, `file:///folder` or a path."
        " A last part such as `*.csv` or `events.csv.gz` names files in it.",
        env="OMETRIA_FEED_URL",
        unset="required",
    )
    endpoint_url: str | None = _access(
        check_http_url,
        "URL",
        "The address of an S3-compatible store.",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
    )
    region: str | None = _access(
        check_text,
        "text",
        "The bucket's region.",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        example='"eu-west-1"',
    )
    access_key_id: Secret | None = _access(
        check_key, "secret", "The access key; it needs `secret_access_key`.", "AWS_ACCESS_KEY_ID"
    )
    secret_access_key: Secret | None = _access(
        check_key, "secret", "The access key's secret.", "AWS_SECRET_ACCESS_KEY"
    )
    session_token: Secret | None = _access(
        check_key, "secret", "The token of temporary credentials.", "AWS_SESSION_TOKEN"
    )
    profile: str | None = _access(
        check_text, "text", "A profile of the AWS configuration files.", "AWS_PROFILE"
    )
    role_arn: str | None = _setting(
        check_arn, "ARN", "A role to assume with the credentials above.", None
    )
    settle_seconds: float | None = _setting(
        check_seconds,
        "number",
        "Leave a file that changed within so many seconds to the next run: another program may"
        " still be writing it.",
        None,
        unset="60 for a folder, 0 for a bucket",
        example="0",
    )
    follow_symlinks: bool = _setting(
        check_boolean,
        "`true` or `false`",
        "Follow links that lead out of the feed's folder.",
        False,
    )
    pattern: str | None = _setting(
        check_text,
        "text",
        "Read only files whose name matches, such as `*email_events*`.",
        None,
        unset="every file",
        example='"*email_events*"',
    )
    format: str | None = _dialect(
        check_one_of("csv", "jsonl", "parquet"), "`csv`, `jsonl`, `parquet`", "The files' format."
    )
    compression: str | None = _dialect(
        check_one_of("none", "gzip", "zstd", "zip"),
        "`none`, `gzip`, `zstd`, `zip`",
        "How the files are compressed.",
    )
    delimiter: str | None = _dialect(
        check_delimiter, "character", 'The separator of CSV cells; `"tab"` for a tab.'
    )
    header: bool | None = _dialect(
        check_boolean, "boolean", "Whether the first line of a CSV file names the columns."
    )
    encoding: str | None = _dialect(check_encoding, "text", "The encoding of CSV and JSON files.")
    quote: str | None = _dialect(
        check_quote, "character", 'The character that quotes a CSV cell; `""` for none.'
    )
    escape: str | None = _dialect(
        check_quote, "character", 'The character that escapes a quote in a CSV cell; `""` for none.'
    )
    null: str | None = _dialect(check_null, "text", "The CSV text that means null.")
    columns: tuple[str, ...] | None = _dialect(
        check_columns, "list of text", "The columns of CSV files without a header, in order."
    )
    max_file_bytes: int = _setting(
        check_whole_bytes(FILE_BYTES),
        "whole number",
        "The largest file, in bytes after decompression; at least 1000000."
        " A larger one is set aside as unreadable.",
        20 << 30,
    )
    max_record_bytes: int = _setting(
        check_whole_bytes(RECORD_BYTES),
        "whole number",
        "The longest line, or record of a Parquet file, in bytes; from 2000000 to 16777216."
        " A file with a longer one is set aside as unreadable.",
        16 << 20,
    )


@dataclass(frozen=True)
class AccountSettings:
    """One Ometria account: its API, its feed, or both."""

    account_id: str = _setting(
        check_text,
        "text",
        "The account that owns the data: the column `_account_id`.",
        "default",
        env="OMETRIA_ACCOUNT_ID",
    )
    source_id: str = _setting(
        check_text,
        "text",
        "The connection: the column `__source_id`, and part of every key.",
        "",  # __post_init__ makes it the account_id.
        env="OMETRIA_SOURCE_ID",
        unset="the `account_id`",
    )
    api_key: Secret | None = _setting(
        check_key,
        "secret",
        "The key of the Data API, sent as `X-Ometria-Auth`.",
        None,
        env="OMETRIA_API_KEY",
        reference="required",
    )
    api_url: str = _setting(
        check_api_url,
        "URL",
        "The address of the Data API; https, except for localhost.",
        "https://api.ometria.com/v2",
        env="OMETRIA_API_URL",
    )
    requests_per_second: float = _setting(
        check_rate,
        "number",
        "The rate limit, shared by all programs on this machine; above 0, at most 1000."
        " Ometria allows 4 for each account, shared by all its integrations.",
        4.0,
        env="OMETRIA_REQUESTS_PER_SECOND",
    )
    max_answer_bytes: int = _setting(
        check_whole_bytes(ANSWER_BYTES),
        "whole number",
        "The largest answer of the API, in bytes after decompression; at least 1000000. Each value"
        " in it counts as 32 bytes at least. A larger answer is an error, so that it cannot use up"
        " the memory: parsed records take six times as much.",
        64_000_000,
    )
    changes_parameter: str = _setting(
        check_parameter,
        "text",
        "The query parameter for a list's changes since a date. Its name is undocumented.",
        "since",
    )
    wide_keys: bool = _setting(
        check_boolean,
        "`true` or `false`",
        "Keep apart events that the specified keys merge. It cannot change after the first load.",
        False,
    )
    deletes: Literal["report", "remove"] = _setting(
        check_one_of("report", "remove"),
        "`report`, `remove`",
        "Report rows whose profile or list was deleted in Ometria, or remove them too.",
        "report",
    )
    max_deleted_share: float = _setting(
        check_share,
        "number",
        "The largest share of a table's rows that a run removes."
        " If more are deleted upstream, it removes none and warns.",
        0.1,
    )
    detect_deletes_every_days: int | None = _setting(
        check_days,
        "whole number",
        "Read profiles and lists in full every so many days, to detect deleted ones.",
        None,
        unset="only with `--detect-deletes` or `--full`",
        example="7",
    )
    tables: tuple[str, ...] | None = _setting(
        check_replicated,
        "list of text, or `all`",
        'The tables to replicate, such as `["profiles", "email_events", "orders"]`, or `"all"` for'
        " the five and [the further ones](tables.md). Above `[[accounts]]`, it holds for all"
        " accounts too. What a table holds stays when it is switched off.",
        None,
        env="OMETRIA_TABLES",
        unset="the five",
        example='"all"',
    )
    full_read_every_days: int = _setting(
        check_days,
        "whole number",
        "Read contacts, orders, products and custom events in full every so many days, to find"
        " those that changed or were deleted where Ometria does not tell. New ones are read in"
        " every run.",
        7,
    )
    require: tuple[str, ...] = _setting(
        check_tables,
        "list of text",
        "Tables that every run must be able to read. If the key or the feed that one of them needs"
        " is not set, a run fails instead of leaving the table out.",
        (),
        env="OMETRIA_REQUIRE",
        example='["email_events"]',
    )
    exclude: tuple[str, ...] = _setting(
        check_column_names,
        "list of text",
        'Columns that stay null, such as `["profiles.phone_number", "*.email"]`: a table, or `*`'
        " for all, and a column. Above `[[accounts]]`, it holds for all accounts too. It cannot"
        " change after the first load, except by `ometria-replica rehash`.",
        (),
        env="OMETRIA_EXCLUDE",
    )
    hash: tuple[str, ...] = _setting(
        check_column_names,
        "list of text",
        "Text columns that hold pseudonyms instead of the values, named as in `exclude`: equal"
        " values have equal pseudonyms in all tables of the account. It cannot change after the"
        " first load, except by `ometria-replica rehash`.",
        (),
        env="OMETRIA_HASH",
    )
    hash_key: Secret | None = _setting(
        check_hash_key,
        "secret",
        "The secret of the pseudonyms, at least 16 characters: a pseudonym is the HMAC-SHA256 of"
        " the value with it, in hex. Without it nobody can make the pseudonym of a value.",
        None,
        env="OMETRIA_HASH_KEY",
        reference="required",
    )
    normalise: bool = _setting(
        check_boolean,
        "`true` or `false`",
        "Hash email addresses without space around them and in lower case, so that tables can be"
        " joined by them although they write them differently.",
        True,
    )
    retain: tuple[Retention, ...] = _setting(
        check_retain,
        "table of text",
        'How long rows of events are kept, such as `{ email_events = "25 months", unsubscribes ='
        ' "6 years" }`: days, weeks, months or years for each table, until the end of a day in UTC.'
        " A sync removes older rows, and loads none. Above `[[accounts]]`, it holds for all"
        " accounts that set nothing else for the table.",
        (),
        unset="for ever",
        example='{ email_events = "25 months" }',
    )
    history: tuple[str, ...] = _setting(
        check_tables,
        "list of text",
        'Tables of which every version of a row is kept, such as `["profiles", "lists"]`: in the'
        " schema `ometria_history`, with the times between which each held. See"
        " [history](../how-to/history.md). Above `[[accounts]]`, it holds for all accounts that set"
        " nothing else.",
        (),
        env="OMETRIA_HISTORY",
        example='["profiles", "lists"]',
    )
    follow_erasures: bool = _setting(
        check_boolean,
        "`true` or `false`",
        "Follow the erasures of Ometria: note its deletion requests once a day, and where it has"
        " replaced the address of a profile by an anonymous one, remove what is held of the old"
        " address, and load no more of it. Above `[[accounts]]`, it holds for all accounts that set"
        " nothing else.",
        False,
    )
    keep_records: tuple[str, ...] = _setting(
        check_all_or_tables,
        "`true`, `false` or list of text",
        "Keep each record as it came, as JSON, in the schema `ometria_raw`: of all tables, or of"
        ' those that are listed, such as `["profiles"]`. Above `[[accounts]]`, it holds for all'
        " accounts too.",
        (),
        env="OMETRIA_KEEP_RECORDS",
        unset="`false`",
        example='["profiles"]',
    )
    feed: FeedSettings | None = None

    def __post_init__(self) -> None:
        """Name the connection after the account, unless it has its own name."""
        if not self.source_id:
            object.__setattr__(self, "source_id", self.account_id)


@dataclass(frozen=True)
class WarehouseSettings:
    """The warehouse. The URL may hold a password, so the repr masks it."""

    url: str = _setting(
        check_warehouse_url,
        "URL or path",
        "The warehouse: `duckdb:///relative.duckdb`, `duckdb:////absolute.duckdb`,"
        " a path ending in `.duckdb` or `.db`, `postgresql://user@host/database`,"
        " or another of [the warehouses](warehouses.md).",
        "duckdb:///warehouse.duckdb",
        env="OMETRIA_WAREHOUSE_URL",
        reference="allowed",
    )
    duckdb_storage_version: str = _setting(
        check_one_of(*STORAGE_VERSIONS),
        ", ".join(f"`{version}`" for version in STORAGE_VERSIONS),
        "The storage version of a new DuckDB file: DuckDB of that version, and newer, can open it."
        " An existing file keeps its own.",
        STORAGE_VERSION,
    )
    memory_limit: str | None = _setting(
        check_memory,
        "size",
        "The memory of each DuckDB that the program opens, such as `512MB` or `4GB`; at least"
        " `100MB`. Beyond it, DuckDB writes to the temporary directory.",
        None,
        env="OMETRIA_MEMORY_LIMIT",
        unset="550 MB, or in a small container 55 % of its memory",
        example='"2GB"',
    )
    threads: int | None = _setting(
        check_threads,
        "whole number",
        "The threads of each DuckDB that the program opens. Each takes memory of its own.",
        None,
        env="OMETRIA_THREADS",
        unset="one for each core, at most 4",
    )
    temp_directory: str | None = _setting(
        check_text,
        "path",
        "The folder for temporary files: export files that are being read, and rows for which"
        " there is no room in memory. It is created if it does not exist.",
        None,
        env="OMETRIA_TEMP_DIRECTORY",
        unset="`TMPDIR`, or the system's own",
        example='"/var/tmp"',
    )

    @property
    def limits(self) -> Limits:
        """What each DuckDB may use."""
        return Limits(self.memory_limit, self.threads, self.temp_directory)

    def __repr__(self) -> str:
        return f"WarehouseSettings(url={masked(self.url)!r})"


@dataclass(frozen=True)
class Config:
    """
    All settings of a run, checked.

    *path* is the file that was read, or None. *origins* maps a dotted key to the origin of
    its value; a key that is not in it has its default.
    """

    accounts: tuple[AccountSettings, ...]
    warehouse: WarehouseSettings = WarehouseSettings()
    path: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    parallel_accounts: int = _setting(
        check_parallel,
        "whole number",
        "How many accounts a sync reads at the same time; at most 100. Each has its own rate limit."
        " With 1, one is read after the other, and the feed of each after its API.",
        8,
        env="OMETRIA_PARALLEL_ACCOUNTS",
    )
    metrics: str | None = _setting(
        check_text,
        "path",
        "The file into which each sync writes its metrics, in the text format of Prometheus; the"
        " textfile collector of its node exporter reads files that end in `.prom`.",
        None,
        env="OMETRIA_METRICS",
        example='"/var/lib/node_exporter/ometria.prom"',
    )
    traces: bool = _setting(
        check_switch,
        "`true` or `false`",
        "Send the spans of each sync to the OpenTelemetry collector that"
        " `OTEL_EXPORTER_OTLP_ENDPOINT` names. See [traces and lineage](../how-to/observe.md).",
        False,
        env="OMETRIA_TRACES",
    )
    lineage: bool = _setting(
        check_switch,
        "`true` or `false`",
        "Send OpenLineage events of each sync to the address that `OPENLINEAGE_URL` or"
        " `openlineage.yml` names. See [traces and lineage](../how-to/observe.md).",
        False,
        env="OMETRIA_LINEAGE",
    )
    log_format: Literal["text", "json"] = _setting(
        check_one_of("text", "json"),
        "`text`, `json`",
        "The format of standard error: lines for people, or a JSON object in each line. What is"
        " logged before the settings are read has the format of the variable or the option.",
        "text",
        env="OMETRIA_LOG_FORMAT",
    )
    notify: Secret | None = _setting(
        check_webhook,
        "secret URL",
        "The address to which a sync posts a short JSON when it fails, when it succeeds after a"
        " failure, and with `--strict` when there are rejects: https, except for localhost. See"
        " [Run on a schedule](../how-to/schedule.md#be-told).",
        None,
        env="OMETRIA_NOTIFY",
        example='"env:OMETRIA_NOTIFY"',
        reference="secret",
    )


ACCOUNT_VARIABLES: Final = {
    known.env: key
    for prefix, kind in (("", AccountSettings), ("feed.", FeedSettings))
    for key, known in ((prefix + name, each) for name, each in settings_of(kind).items())
    if known.env
}
"""The variables that set the only account, and the keys that they set."""

WAREHOUSE_VARIABLES: Final = tuple(
    known.env for known in settings_of(WarehouseSettings).values() if known.env
)
RUN_SETTINGS: Final = settings_of(Config)
"""Settings that stand above the sections of a file."""

VARIABLES: Final = (
    *ACCOUNT_VARIABLES,
    *WAREHOUSE_VARIABLES,
    *(known.env for known in RUN_SETTINGS.values() if known.env),
    "OMETRIA_CONFIG",
)
"""Every variable of the program."""


SHARED: Final = (
    "tables",
    "full_read_every_days",
    "exclude",
    "hash",
    "normalise",
    "retain",
    "history",
    "follow_erasures",
    "keep_records",
)
"""Settings of an account that a file may also give for all accounts, above the first."""
