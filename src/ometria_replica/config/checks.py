"""
The checks of settings: each takes a raw value and returns the clean one, or raises Invalid.

Messages never repeat a text value, because a key may have been pasted into the wrong line.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ometria_replica.config.retention import Retention
from ometria_replica.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_REQUESTS_PER_SECOND: Final = 1000
STORAGE_VERSION: Final = "v1.4.0"
"""The storage version of a new DuckDB file: DuckDB of that version, and newer, can open it."""
STORAGE_VERSIONS: Final = (STORAGE_VERSION, "v1.5.0", "v2.0.0", "latest")
LEAST_MEMORY: Final = 100_000_000
MOST_THREADS: Final = 1024
MOST_PARALLEL: Final = 100
ANSWER_BYTES: Final = (1_000_000, 10**12)  # 250 profiles of 4 kB: less could fit no page.
DAY: Final = 86_400
LEAST_HASH_KEY: Final = 16
_COLUMN_NAME: Final = re.compile(r"([a-z0-9_]+|\*)\.[A-Za-z0-9_]+")

EVERY_TABLE: Final = "*"
"""In the place of the names of tables."""

FILE_BYTES: Final = (1_000_000, 10**13)
RECORD_BYTES: Final = (2_000_000, 16 << 20)  # More than a chunk; DuckDB reads no longer line.

ALL: Final = "all"
"""The word for all tables in the setting ``tables``."""

RENAMED: Final = {"sweep_every_days": "detect_deletes_every_days"}
"""The present name of each setting that was renamed."""


class Invalid(ValueError):
    """
    One value is wrong. The message says what is allowed; the reader adds the place.

    A value with several problems gives a message of each.
    """


def check_text(value: object) -> str:
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


def check_one_of(*allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise Invalid(f"must be one of {', '.join(allowed)}{hint}")

    return check


def check_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"must be true or false, not {kind_of(value)}")
    return value


def check_switch(value: object) -> bool:
    if isinstance(value, str) and value.lower() in {"true", "false"}:  # Of the environment.
        return value.lower() == "true"
    return check_boolean(value)


def check_rate(value: object) -> float:
    try:
        # A number in the file, text in the environment.
        number = 0.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number <= MAX_REQUESTS_PER_SECOND:
        raise Invalid(f"must be a number above 0 and at most {MAX_REQUESTS_PER_SECOND}")
    return number


def check_whole_bytes(bounds: tuple[int, int]) -> Callable[[object], int]:
    lowest, highest = bounds

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise Invalid(f"must be a whole number of bytes, from {lowest} to {highest}")
        return value

    return check


def check_memory(value: object) -> str:
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


def check_threads(value: object) -> int:
    return _from_one_to(MOST_THREADS, value)


def check_parallel(value: object) -> int:
    return _from_one_to(MOST_PARALLEL, value)


def _from_one_to(most: int, value: object) -> int:
    """Read a number in the file, or text in the environment."""
    if isinstance(value, str) and (digits := re.fullmatch(r"\s*([0-9]{1,4})\s*", value)):
        value = int(digits[1])  # int() reads less white space than \s.
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Invalid(f"must be a whole number from 1 to {most}")
    return value


def check_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= DAY:
        raise Invalid(f"must be a number of seconds, from 0 to {DAY}")
    return float(value)


def check_share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Invalid("must be a number from 0 to 1")
    return float(value)


def check_days(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Invalid("must be a whole number of days, at least 1")
    return value


def check_key(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if not text:
        raise Invalid("must not be empty")
    if not all("!" <= character <= "~" for character in text):
        raise Invalid(
            "must be printable ASCII without white space: it contains a line break, a space or"
            " another character"
        )
    return text


def check_http_url(value: object) -> str:
    text = check_text(value)
    allowed = "must be a URL such as https://host/path, without user, password, query or fragment"
    try:
        url = urlsplit(text)
        clean = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        clean = False
    if not clean or re.search(r"[\s@?#\\]", text):
        raise Invalid(allowed)
    return text.rstrip("/")


def check_api_url(value: object) -> str:
    text = check_http_url(value)
    url = urlsplit(text)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise Invalid(
            "must be https: over http, the API key would be sent unencrypted"
            " (http is allowed for localhost)"
        )
    return text


def check_webhook(value: object) -> str:
    text = value if isinstance(value, str) else ""
    try:
        url = urlsplit(text)
        clean = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        clean = False
    if not clean or not re.fullmatch(r"[!-~]+", text) or re.search(r"[@#\\]", text):
        raise Invalid(
            "must be a URL such as https://host/path, without user, password, fragment or spaces"
        )
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise Invalid(
            "must be https: over http, the address would be sent unencrypted"
            " (http is allowed for localhost)"
        )
    return text


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_feed_url(value: object) -> str:
    text = check_text(value)
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


def check_warehouse_url(value: object) -> str:
    text = check_text(value)
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


def check_parameter(value: object) -> str:
    text = check_text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text):
        raise Invalid("must be the name of a query parameter: letters, digits and _ . -")
    return text


def check_arn(value: object) -> str:
    text = check_text(value)
    if not text.startswith("arn:"):
        raise Invalid("must be the role's ARN, such as arn:aws:iam::123456789012:role/reader")
    return text


def check_delimiter(value: object) -> str:
    if value in ("tab", "\\t"):
        return "\t"
    if not isinstance(value, str) or len(value) != 1 or value in "\r\n":
        raise Invalid('must be one character, or the word "tab"')
    return value


def check_quote(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1 or value in {"\r", "\n"}:
        raise Invalid('must be one character, or "" for none')
    return value


def check_null(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid(f"must be text, not {kind_of(value)}")
    return value


def check_encoding(value: object) -> str:
    text = check_text(value)
    try:
        "".encode(text)  # Not of bytes, as hex is.
    except (LookupError, ValueError):
        raise Invalid("must be a known encoding, such as utf-8, utf-16 or latin-1") from None
    return text


def check_tables(value: object) -> tuple[str, ...]:
    """Read a list in the file, or text with commas in the environment."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise Invalid('must be a list of tables, such as ["email_events"]')
    return tuple(value)


def check_all_or_tables(value: object) -> tuple[str, ...]:
    """Read a list as :func:`check_tables`; ``true`` is every table, and ``false`` none."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if value is True or word == "true":
        return (EVERY_TABLE,)
    if value is False or word == "false":
        return ()
    try:
        return check_tables(value)
    except Invalid:
        raise Invalid('must be true, false or a list of tables, such as ["profiles"]') from None


def check_replicated(value: object) -> tuple[str, ...]:
    """Read a list as :func:`check_tables` does, or the word for all tables."""
    if isinstance(value, str) and value.strip() == ALL:
        return (ALL,)
    names = check_tables(value)
    if not names:
        raise Invalid(f'must name a table, or be "{ALL}"')
    return tuple(dict.fromkeys(names))


def check_column_names(value: object) -> tuple[str, ...]:
    """Read a list in the file, or text with commas in the environment."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    allowed = 'must be a list of columns, such as ["profiles.phone_number", "*.email"]'
    if not isinstance(value, list):
        raise Invalid(allowed)
    if not all(isinstance(name, str) and _COLUMN_NAME.fullmatch(name) for name in value):
        raise Invalid(f"{allowed}: a table or * for all, a full stop, and a column")
    return tuple(dict.fromkeys(value))


def check_hash_key(value: object) -> str:
    text = check_key(value)
    if len(text) < LEAST_HASH_KEY:
        raise Invalid(
            f"must have at least {LEAST_HASH_KEY} characters, since a short secret can be"
            " guessed: make one with `openssl rand -hex 32`"
        )
    return text


def check_retain(value: object) -> tuple[Retention, ...]:
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


def check_columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise Invalid('must be a list of column names, such as ["uuid", "event_type"]')
    names = [name for name in value if isinstance(name, str) and name and name.isprintable()]
    if len(names) < len(value):
        raise Invalid("must be a list of column names, each of them a text that is not empty")
    if len(set(names)) < len(names):
        raise Invalid("must not name a column twice")
    return tuple(names)


def renamed_or_near(name: str, known: Iterable[str]) -> str:
    """Return what a setting is called now, or the nearest one, as the end of a message."""
    return f": it is now {RENAMED[name]}" if name in RENAMED else did_you_mean(name, known)
