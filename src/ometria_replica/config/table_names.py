"""
Checks of the settings that name tables and columns, or give each table a span of time.

Each takes a raw value and returns the clean one, or raises Invalid.
"""

from __future__ import annotations

import re
from typing import Final

from ometria_replica.config.checks import Invalid
from ometria_replica.config.retention import Retention

EVERY_TABLE: Final = "*"
"""In the place of the names of tables."""

ALL: Final = "all"
"""The word for all tables in the setting ``tables``."""

_COLUMN_NAME: Final = re.compile(r"([a-z0-9_]+|\*)\.[A-Za-z0-9_]+")


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
