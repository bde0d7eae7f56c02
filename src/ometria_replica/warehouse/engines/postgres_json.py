r"""
Rewrites what a ``jsonb`` cannot hold in the records of a batch, so that none stops it.

A NUL character in a text becomes ``\N{SYMBOL FOR NULL}``. A number becomes a text with its digits
if it is larger or finer than PostgreSQL's ``numeric`` can be, and so do ``NaN`` and ``Infinity``,
which JSON does not have but Python reads.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ometria_replica.local_duckdb import registered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection

_REWRITTEN = "rewritten_json"
_MOST_DIGITS = 131_072  # Before the point, of a numeric.
_FINEST = 16_383  # Digits after it.
_LONG = 16_000  # Bytes: a shorter record has no number of too many digits.
_MOST_POWER = 8  # Characters of an exponent, beyond which no number fits.

# In DuckDB, which finds the few records that Python must look at.
_MAY_NOT_FIT = (
    r"regexp_matches({0}, '\\u0000|NaN|Infinity|[eE][+-]?[0-9]{{4}}')"
    f" OR strlen({{0}}) > {_LONG}"
)
_PIECES = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*+")'
    r"|(?P<number>-?(?P<whole>\d+)(?:\.(?P<part>\d+))?(?:[eE](?P<power>[+-]?\d+))?)"
    r"|(?P<word>-?Infinity|NaN)"
)
_ESCAPE = re.compile(r"\\(u0000|.)")


@contextmanager
def as_jsonb(mapping: DuckDBPyConnection, relation: str, column: str) -> Iterator[str]:
    """
    Give a relation of DuckDB with the JSON texts of a *column* rewritten where they must be.

    Mostly none must be, and it is *relation* itself. It has row ids.
    """
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and few batches need it.

    found = mapping.execute(
        f"SELECT rowid, {column} FROM {relation} WHERE {_MAY_NOT_FIT.format(column)}"
    ).fetchall()
    changed = [(row, fit) for row, text in found if (fit := storable(text)) != text]
    if not changed:
        yield relation
        return
    rows, texts = zip(*changed, strict=True)
    rewritten = pa.table({"place": pa.array(rows, pa.int64()), "text": pa.array(texts)})
    with registered(mapping, _REWRITTEN, rewritten):
        yield (
            f"(SELECT r.* REPLACE (coalesce(n.text, r.{column}) AS {column})"
            f" FROM {relation} r LEFT JOIN {_REWRITTEN} n ON r.rowid = n.place)"
        )


def storable(text: str) -> str:
    """Rewrite a JSON text so that a ``jsonb`` can hold it."""
    return _PIECES.sub(_piece, text)


def _piece(found: re.Match[str]) -> str:
    piece = found[0]
    if found["text"]:
        return _ESCAPE.sub(_escape, piece) if "u0000" in piece else piece
    return f'"{piece}"' if found["word"] or not _fits(found) else piece


def _escape(found: re.Match[str]) -> str:
    return "\\u2400" if found[1] == "u0000" else found[0]


def _fits(number: re.Match[str]) -> bool:
    power = (number["power"] or "0").lstrip("+")
    if len(power) > _MOST_POWER:
        return False
    whole, part = len(number["whole"]), len(number["part"] or "")
    return whole + int(power) <= _MOST_DIGITS and part - int(power) <= _FINEST
