"""
Declares the settings: each with its default, type, check, environment variable and meaning.

``docs/reference/settings.md`` is generated from these declarations. Messages never repeat a
text value, because a key may have been pasted into the wrong line.
"""

# ruff: noqa: RUF009  # _setting is dataclasses.field, with a description.

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from ometria_replica.config.limits import Limits
from ometria_replica.config.retention import Retention
from ometria_replica.config.secrets import masked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ometria_replica.config.secrets import Secret

MAX_REQUESTS_PER_SECOND: Final = 1000
STORAGE_VERSION: Final = "v1.4.0"
"""The storage version of a new DuckDB file: DuckDB of that version, and newer, can open it."""
STORAGE_VERSIONS: Final = (STORAGE_VERSION, "v1.5.0", "v2.0.0", "latest")
LEAST_MEMORY: Final = 100_000_000
MOST_THREADS: Final = 1024
ANSWER_BYTES: Final = (1_000_000, 10**12)  # 250 profiles of 4 kB: less could fit no page.
DAY: Final = 86_400
LEAST_HASH_KEY: Final = 16
_COLUMN_NAME: Final = re.compile(r"([a-z0-9_]+|\*)\.[A-Za-z0-9_]+")

FILE_BYTES: Final = (1_000_000, 10**13)
RECORD_BYTES: Final = (2_000_000, 16 << 20)  # More than a chunk; DuckDB reads no longer line.

Reference = Literal["none", "allowed", "required"]


class Invalid(ValueError):
    """
    One value is wrong. The message says what is allowed; the reader adds the place.

    A value with several problems gives a message of each.
    """


@dataclass(frozen=True)
class Setting:
    """
    The description of one key.

    *check* turns the raw value into the value, or raises Invalid. *env* overrides the file.
    If the key is not set, the S3 client reads the variables in *aws* itself. *reference* says
    whether the raw value may be ``env:NAME`` or ``file:/path``, which is followed before the
    check; a secret must be one. *unset* is what the page shows if there is no default.
    """

    check: Callable[[object], object]
    type: str
    meaning: str
    env: str | None = None
    aws: tuple[str, ...] = ()
    reference: Reference = "none"
    unset: str = "none"


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
) -> Any:
    known = Setting(check, type, meaning, env, aws, reference, unset)
    return field(default=default, metadata={"setting": known})


def _access(check: Callable[[object], object], type: str, meaning: str, *aws: str) -> Any:  # noqa: A002  # As above.
    """Describe a setting of the S3 client, which finds the value itself if it is not set."""
    reference: Reference = "required" if type == "secret" else "none"
    return _setting(check, type, meaning, None, aws=aws, reference=reference, unset="the AWS chain")


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


# --- Checks: each takes a raw value and returns the clean one, or raises Invalid ---------------


def _text(value: object) -> str:
    """Whole numbers are allowed too: ``account_id = 1042`` needs no quotes."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = _digits(value)
    if not isinstance(value, str):
        raise Invalid(f"must be text, not {kind_of(value)}")
    if not value.strip():
        raise Invalid("must not be empty")
    if not value.isprintable():
        raise Invalid("must not hold control characters or line breaks")
    return value


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python does not convert integers of more than 4,300 digits.
        raise Invalid("is a number with too many digits") from None


def kind_of(value: object) -> str:
    """Name the TOML type of a value, for messages, which must not repeat the value."""
    names = ((bool, "a boolean"), ((int, float), "a number"), (str, "text"), (list, "a list"))
    return next(
        (name for types, name in names if isinstance(value, types)),
        "a table" if isinstance(value, dict) else "a date or time",
    )


def _one_of(*allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise Invalid(f"must be one of {', '.join(allowed)}{hint}")

    return check


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"must be true or false, not {kind_of(value)}")
    return value


def _rate(value: object) -> float:
    try:
        # A number in the file, text in the environment.
        number = 0.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number <= MAX_REQUESTS_PER_SECOND:
        raise Invalid(f"must be a number above 0 and at most {MAX_REQUESTS_PER_SECOND}")
    return number


def _whole_bytes(bounds: tuple[int, int]) -> Callable[[object], int]:
    lowest, highest = bounds

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise Invalid(f"must be a whole number of bytes, from {lowest} to {highest}")
        return value

    return check


def _memory(value: object) -> str:
    allowed = "must be a size such as 512MB or 4GB, at least 100MB"
    found = (
        re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([MGT]i?B)\s*", value)
        if isinstance(value, str)
        else None
    )
    if found is None:
        raise Invalid(allowed)
    number, unit = found.groups()
    size = float(number) * (1024 if "i" in unit else 1000) ** (2 + "MGT".index(unit[0]))
    if size < LEAST_MEMORY:
        raise Invalid(allowed)
    return f"{number}{unit}"


def _threads(value: object) -> int:
    """Read a number in the file, or text in the environment."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_THREADS:
        raise Invalid(f"must be a whole number from 1 to {MOST_THREADS}")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= DAY:
        raise Invalid(f"must be a number of seconds, from 0 to {DAY}")
    return float(value)


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Invalid("must be a number from 0 to 1")
    return float(value)


def _days(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Invalid("must be a whole number of days, at least 1")
    return value


def _key(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if not text:
        raise Invalid("must not be empty")
    if not all("!" <= character <= "~" for character in text):
        raise Invalid(
            "must be printable ASCII without white space: it contains a line break, a space or"
            " another character"
        )
    return text


def _http_url(value: object) -> str:
    text = _text(value)
    allowed = "must be a URL such as https://host/path, without user, password, query or fragment"
    try:
        url = urlsplit(text)
        clean = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        clean = False
    if not clean or re.search(r"[\s@?#\\]", text):
        raise Invalid(allowed)
    return text.rstrip("/")


def _api_url(value: object) -> str:
    text = _http_url(value)
    url = urlsplit(text)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise Invalid(
            "must be https: over http, the API key would be sent unencrypted"
            " (http is allowed for localhost)"
        )
    return text


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _feed_url(value: object) -> str:
    text = _text(value)
    scheme, separator, rest = text.partition("://")
    bucket = rest.partition("/")[0]
    allowed = "must be s3://bucket/prefix, file:///folder or the path of a folder"
    if not separator:
        if re.match(r"(s3|file|https?):", text):
            raise Invalid(allowed)
    elif scheme == "s3":
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
            raise Invalid(f"{allowed}; the name of the bucket is missing or not valid")
    elif scheme != "file" or bucket not in {"", "localhost"} or not rest.strip("/"):
        raise Invalid(allowed)
    return text


def _warehouse_url(value: object) -> str:
    text = _text(value)
    allowed = "must be a URL such as duckdb:///warehouse.duckdb, or a path ending in .duckdb or .db"
    scheme, separator, rest = text.partition("://")
    if re.match(r"md:[A-Za-z_]", text):
        return text
    if not separator:
        if not text.endswith((".duckdb", ".db")):
            raise Invalid(allowed)
        return f"duckdb:///{text}"
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest:
        raise Invalid(allowed)
    if scheme == "duckdb" and not re.match(r"/.", rest):
        raise Invalid("needs three slashes and a path: duckdb:///warehouse.duckdb")
    if scheme in {"postgresql", "postgres"}:
        _refuse_unreadable_hosts(rest)
        return text
    try:
        _ = urlsplit(text).port
    except ValueError:
        raise Invalid(_ENCODE) from None
    return text


_ENCODE = "is not a valid URL: percent-encode / ? # @ : in the password"


def _refuse_unreadable_hosts(rest: str) -> None:
    """
    Raise Invalid unless libpq reads *rest* of a URL as meant: its hosts are a list.

    The password ends at the first @, so that one within it moves the rest into the host.
    """
    user = re.match(r"[^/@]*@", rest)
    place = rest[user.end() :] if user else rest
    if "@" in place.partition("?")[0]:
        raise Invalid(
            "has more than one @: write an @ of the user or the password as %40"
            if user
            else _ENCODE
        )
    hosts = re.split(r"[/?]", place, maxsplit=1)[0]
    if not all(re.fullmatch(r"(\[[^\[\]]*\]|[^\[\]:]*)(:\d*)?", host) for host in hosts.split(",")):
        raise Invalid(_ENCODE)


def _parameter(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text):
        raise Invalid("must be the name of a query parameter: letters, digits and _ . -")
    return text


def _arn(value: object) -> str:
    text = _text(value)
    if not text.startswith("arn:"):
        raise Invalid("must be the role's ARN, such as arn:aws:iam::123456789012:role/reader")
    return text


def _delimiter(value: object) -> str:
    if value in ("tab", "\\t"):
        return "\t"
    if not isinstance(value, str) or len(value) != 1 or value in "\r\n":
        raise Invalid('must be one character, or the word "tab"')
    return value


def _quote(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1 or value in {"\r", "\n"}:
        raise Invalid('must be one character, or "" for none')
    return value


def _null(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be text, not {kind_of(value)}")
    return value


def _encoding(value: object) -> str:
    text = _text(value)
    try:
        "".encode(text)  # Not of bytes, as hex is.
    except (LookupError, ValueError):
        raise Invalid("must be a known encoding, such as utf-8, utf-16 or latin-1") from None
    return text


def _tables(value: object) -> tuple[str, ...]:
    """Read a list in the file, or text with commas in the environment."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise Invalid('must be a list of tables, such as ["email_events"]')
    return tuple(value)


def _column_names(value: object) -> tuple[str, ...]:
    """Read a list in the file, or text with commas in the environment."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    allowed = 'must be a list of columns, such as ["profiles.phone_number", "*.email"]'
    if not isinstance(value, list):
        raise Invalid(allowed)
    if not all(isinstance(name, str) and _COLUMN_NAME.fullmatch(name) for name in value):
        raise Invalid(f"{allowed}: a table or * for all, a full stop, and a column")
    return tuple(dict.fromkeys(value))


def _hash_key(value: object) -> str:
    text = _key(value)
    if len(text) < LEAST_HASH_KEY:
        raise Invalid(
            f"must have at least {LEAST_HASH_KEY} characters, since a short secret can be"
            " guessed: make one with `openssl rand -hex 32`"
        )
    return text


def _retain(value: object) -> tuple[Retention, ...]:
    """Read a span of time for each table, or tell all that are none."""
    if not isinstance(value, dict):
        raise Invalid('must be a table of spans, such as { email_events = "25 months" }')
    found = {
        name: Retention.parse(name, span) if isinstance(span, str) else None
        for name, span in value.items()
    }
    if wrong := [name for name, retention in found.items() if retention is None]:
        raise Invalid(
            *(
                f"{name if name.isidentifier() else ascii(name)} must be a number of days, weeks,"
                ' months or years, from 1 to 9999, such as "25 months"'
                for name in wrong
            )
        )
    return tuple(each for each in found.values() if each is not None)


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise Invalid('must be a list of column names, such as ["uuid", "event_type"]')
    names = [name for name in value if isinstance(name, str) and name and name.isprintable()]
    if len(names) < len(value):
        raise Invalid("must be a list of column names, each of them a text that is not empty")
    if len(set(names)) < len(names):
        raise Invalid("must not name a column twice")
    return tuple(names)


# --- The settings ------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeedSettings:
    """
    The bucket or folder that holds the self-serve export.

    Access settings that are None fall back to the AWS credential chain. File format
    settings that are None are detected for each file.
    """

    url: str = _setting(
        _feed_url,
        "URL or path",
        "The bucket or folder of the export: `s3://bucket/prefix`, `file:///folder` or a path."
        " A last part such as `*.csv` or `events.csv.gz` names files in it.",
        env="OMETRIA_FEED_URL",
        unset="required",
    )
    endpoint_url: str | None = _access(
        _http_url,
        "URL",
        "The address of an S3-compatible store.",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
    )
    region: str | None = _access(
        _text, "text", "The bucket's region.", "AWS_REGION", "AWS_DEFAULT_REGION"
    )
    access_key_id: Secret | None = _access(
        _key, "secret", "The access key; it needs `secret_access_key`.", "AWS_ACCESS_KEY_ID"
    )
    secret_access_key: Secret | None = _access(
        _key, "secret", "The access key's secret.", "AWS_SECRET_ACCESS_KEY"
    )
    session_token: Secret | None = _access(
        _key, "secret", "The token of temporary credentials.", "AWS_SESSION_TOKEN"
    )
    profile: str | None = _access(
        _text, "text", "A profile of the AWS configuration files.", "AWS_PROFILE"
    )
    role_arn: str | None = _setting(
        _arn, "ARN", "A role to assume with the credentials above.", None
    )
    settle_seconds: float | None = _setting(
        _seconds,
        "number",
        "Leave a file that changed within so many seconds to the next run: another program may"
        " still be writing it.",
        None,
        unset="60 for a folder, 0 for a bucket",
    )
    follow_symlinks: bool = _setting(
        _boolean,
        "`true` or `false`",
        "Follow links that lead out of the feed's folder.",
        False,
    )
    pattern: str | None = _setting(
        _text,
        "text",
        "Read only files whose name matches, such as `*email_events*`.",
        None,
        unset="every file",
    )
    format: str | None = _dialect(
        _one_of("csv", "jsonl", "parquet"), "`csv`, `jsonl`, `parquet`", "The files' format."
    )
    compression: str | None = _dialect(
        _one_of("none", "gzip", "zstd", "zip"),
        "`none`, `gzip`, `zstd`, `zip`",
        "How the files are compressed.",
    )
    delimiter: str | None = _dialect(
        _delimiter, "character", 'The separator of CSV cells; `"tab"` for a tab.'
    )
    header: bool | None = _dialect(
        _boolean, "boolean", "Whether the first line of a CSV file names the columns."
    )
    encoding: str | None = _dialect(_encoding, "text", "The encoding of CSV and JSON files.")
    quote: str | None = _dialect(
        _quote, "character", 'The character that quotes a CSV cell; `""` for none.'
    )
    escape: str | None = _dialect(
        _quote, "character", 'The character that escapes a quote in a CSV cell; `""` for none.'
    )
    null: str | None = _dialect(_null, "text", "The CSV text that means null.")
    columns: tuple[str, ...] | None = _dialect(
        _columns, "list of text", "The columns of CSV files without a header, in order."
    )
    max_file_bytes: int = _setting(
        _whole_bytes(FILE_BYTES),
        "whole number",
        "The largest file, in bytes after decompression; at least 1000000."
        " A larger one is set aside as unreadable.",
        20 << 30,
    )
    max_record_bytes: int = _setting(
        _whole_bytes(RECORD_BYTES),
        "whole number",
        "The longest line, or record of a Parquet file, in bytes; from 2000000 to 16777216."
        " A file with a longer one is set aside as unreadable.",
        16 << 20,
    )


@dataclass(frozen=True)
class AccountSettings:
    """One Ometria account: its API, its feed, or both."""

    account_id: str = _setting(
        _text,
        "text",
        "The account that owns the data: the column `_account_id`.",
        "default",
        env="OMETRIA_ACCOUNT_ID",
    )
    source_id: str = _setting(
        _text,
        "text",
        "The connection: the column `__source_id`, and part of every key.",
        "",  # __post_init__ makes it the account_id.
        env="OMETRIA_SOURCE_ID",
        unset="the `account_id`",
    )
    api_key: Secret | None = _setting(
        _key,
        "secret",
        "The key of the Data API, sent as `X-Ometria-Auth`.",
        None,
        env="OMETRIA_API_KEY",
        reference="required",
    )
    api_url: str = _setting(
        _api_url,
        "URL",
        "The address of the Data API; https, except for localhost.",
        "https://api.ometria.com/v2",
        env="OMETRIA_API_URL",
    )
    requests_per_second: float = _setting(
        _rate,
        "number",
        "The rate limit, shared by all programs on this machine; above 0, at most 1000."
        " Ometria allows 4 for each account, shared by all its integrations.",
        4.0,
        env="OMETRIA_REQUESTS_PER_SECOND",
    )
    max_answer_bytes: int = _setting(
        _whole_bytes(ANSWER_BYTES),
        "whole number",
        "The largest answer of the API, in bytes after decompression; at least 1000000. Each value"
        " in it counts as 32 bytes at least. A larger answer is an error, so that it cannot use up"
        " the memory: parsed records take six times as much.",
        64_000_000,
    )
    changes_parameter: str = _setting(
        _parameter,
        "text",
        "The query parameter for a list's changes since a date. Its name is undocumented.",
        "since",
    )
    wide_keys: bool = _setting(
        _boolean,
        "`true` or `false`",
        "Keep apart events that the specified keys merge. It cannot change after the first load.",
        False,
    )
    deletes: Literal["report", "remove"] = _setting(
        _one_of("report", "remove"),
        "`report`, `remove`",
        "Report rows whose profile or list was deleted in Ometria, or remove them too.",
        "report",
    )
    max_deleted_share: float = _setting(
        _share,
        "number",
        "The largest share of a table's rows that a run removes."
        " If more are deleted upstream, it removes none and warns.",
        0.1,
    )
    detect_deletes_every_days: int | None = _setting(
        _days,
        "whole number",
        "Read profiles and lists in full every so many days, to detect deleted ones.",
        None,
        unset="only with `--detect-deletes` or `--full`",
    )
    require: tuple[str, ...] = _setting(
        _tables,
        "list of text",
        "Tables that every run must be able to read. If the key or the feed that one of them needs"
        " is not set, a run fails instead of leaving the table out.",
        (),
        env="OMETRIA_REQUIRE",
    )
    exclude: tuple[str, ...] = _setting(
        _column_names,
        "list of text",
        'Columns that stay null, such as `["profiles.phone_number", "*.email"]`: a table, or `*`'
        " for all, and a column. Above `[[accounts]]`, it holds for all accounts too. It cannot"
        " change after the first load, except by `ometria-replica rehash`.",
        (),
        env="OMETRIA_EXCLUDE",
    )
    hash: tuple[str, ...] = _setting(
        _column_names,
        "list of text",
        "Text columns that hold pseudonyms instead of the values, named as in `exclude`: equal"
        " values have equal pseudonyms in all tables of the account. It cannot change after the"
        " first load, except by `ometria-replica rehash`.",
        (),
        env="OMETRIA_HASH",
    )
    hash_key: Secret | None = _setting(
        _hash_key,
        "secret",
        "The secret of the pseudonyms, at least 16 characters: a pseudonym is the HMAC-SHA256 of"
        " the value with it, in hex. Without it nobody can make the pseudonym of a value.",
        None,
        env="OMETRIA_HASH_KEY",
        reference="required",
    )
    normalise: bool = _setting(
        _boolean,
        "`true` or `false`",
        "Hash email addresses without space around them and in lower case, so that tables can be"
        " joined by them although they write them differently.",
        True,
    )
    retain: tuple[Retention, ...] = _setting(
        _retain,
        "table of text",
        'How long rows of events are kept, such as `{ email_events = "25 months", unsubscribes ='
        ' "6 years" }`: days, weeks, months or years for each table, until the end of a day in UTC.'
        " A sync removes older rows, and loads none. Above `[[accounts]]`, it holds for all"
        " accounts that set nothing else for the table.",
        (),
        unset="for ever",
    )
    follow_erasures: bool = _setting(
        _boolean,
        "`true` or `false`",
        "Follow the erasures of Ometria: note its deletion requests once a day, and where it has"
        " replaced the address of a profile by an anonymous one, remove what is held of the old"
        " address, and load no more of it. Above `[[accounts]]`, it holds for all accounts that set"
        " nothing else.",
        False,
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
        _warehouse_url,
        "URL or path",
        "The warehouse: `duckdb:///relative.duckdb`, `duckdb:////absolute.duckdb`,"
        " a path ending in `.duckdb` or `.db`, `postgresql://user@host/database`,"
        " or another of [the warehouses](warehouses.md).",
        "duckdb:///warehouse.duckdb",
        env="OMETRIA_WAREHOUSE_URL",
        reference="allowed",
    )
    duckdb_storage_version: str = _setting(
        _one_of(*STORAGE_VERSIONS),
        ", ".join(f"`{version}`" for version in STORAGE_VERSIONS),
        "The storage version of a new DuckDB file: DuckDB of that version, and newer, can open it."
        " An existing file keeps its own.",
        STORAGE_VERSION,
    )
    memory_limit: str | None = _setting(
        _memory,
        "size",
        "The memory of each DuckDB that the program opens, such as `512MB` or `4GB`; at least"
        " `100MB`. Beyond it, DuckDB writes to the temporary directory.",
        None,
        env="OMETRIA_MEMORY_LIMIT",
        unset="550 MB, or in a small container 55 % of its memory",
    )
    threads: int | None = _setting(
        _threads,
        "whole number",
        "The threads of each DuckDB that the program opens. Each takes memory of its own.",
        None,
        env="OMETRIA_THREADS",
        unset="one for each core, at most 4",
    )
    temp_directory: str | None = _setting(
        _text,
        "path",
        "The folder for temporary files: export files that are being read, and rows for which"
        " there is no room in memory. It is created if it does not exist.",
        None,
        env="OMETRIA_TEMP_DIRECTORY",
        unset="`TMPDIR`, or the system's own",
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
VARIABLES: Final = (*ACCOUNT_VARIABLES, *WAREHOUSE_VARIABLES, "OMETRIA_CONFIG")
"""Every variable of the program."""


SHARED: Final = ("exclude", "hash", "normalise", "retain", "follow_erasures")
"""Settings of an account that a file may also give for all accounts, above the first."""

RENAMED: Final = {"sweep_every_days": "detect_deletes_every_days"}
"""The present name of each setting that was renamed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name as the end of a message; empty if none is near."""
    if name in RENAMED:
        return f": it is now {RENAMED[name]}"
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""
