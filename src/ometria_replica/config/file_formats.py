"""
Checks of the settings that describe export files.

Each takes a raw value and returns the clean one, or raises Invalid.
"""

from __future__ import annotations

from typing import Final

from ometria_replica.config.checks import Invalid, check_text, kind_of

FILE_BYTES: Final = (1_000_000, 10**13)
RECORD_BYTES: Final = (2_000_000, 16 << 20)  # More than a chunk; DuckDB reads no longer line.


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


def check_columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise Invalid('must be a list of column names, such as ["uuid", "event_type"]')
    names = [name for name in value if isinstance(name, str) and name and name.isprintable()]
    if len(names) < len(value):
        raise Invalid("must be a list of column names, each of them a text that is not empty")
    if len(set(names)) < len(names):
        raise Invalid("must not name a column twice")
    return tuple(names)
