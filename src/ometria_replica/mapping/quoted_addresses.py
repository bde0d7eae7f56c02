"""
Addresses of people within texts, such as links and reasons of bounces: find them, and mask them.

An address is found in any case, and percent-encoded once or more often, as in a link within a
link. An address of another person that ends or begins alike is another address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal
from ometria_replica.mapping.treatments import REMOVED

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from duckdb import DuckDBPyConnection

MASKED = "masked_texts"
"""The temporary table of :func:`mask_addresses`: each ``text``, and what it becomes, ``masked``."""

SIGNS = ("@", "%40", "2540")
"""A text with an address has one of these: the last is the end of any longer encoding."""

_SOUGHT, _FEW = "sought_addresses", 10
_DECODED = {"40": "@", "2e": ".", "2d": "-", "2b": "+", "5f": "_", "27": "'", "[0-9a-f]{2}": " "}
_DOMAIN = r"@(?:[\pL\pN-]*[\pL\pN])?(?:\.[\pL\pN-]*[\pL\pN])*"  # Without a full stop behind it.
_LOCAL = r"""[^\s,;|"<>=\[\]{}()&?/:\\#@]"""
_UNQUOTED = _LOCAL.replace("<", "''<")  # Within a literal of SQL.
_KEY = "[a-z0-9]*@(?:[a-z0-9-]*[a-z0-9])?(?:[.][a-z0-9-]*[a-z0-9])*"
_ENCODED_END = (  # No letter or digit, and none of + - . _
    "%(?:25)*(?:[01][0-9A-Fa-f]|2[0-9ACFacf]|3[A-Fa-f]|40|5[B-Eb-e]|60|7[B-Fb-f])"
)
# Letters of any script, as ranges: \pL takes milliseconds for each pattern, and so does (?i).
_LETTERS = r"A-Za-z0-9\x{C0}-\x{1FFF}\x{2C00}-\x{2FFF}\x{3040}-\x{FEFF}\x{10000}-\x{10FFFF}"
_BEFORE = rf"(^|[^{_LETTERS}._+%-]|{_ENCODED_END})"
_AFTER = rf"($|[^{_LETTERS}.-]|[.-]+(?:$|[^{_LETTERS}.-]))"


def may_quote(text: str) -> str:
    """Write the condition that an address may be in *text*, an expression."""
    return f"({' OR '.join(f'contains({text}, {literal(sign)})' for sign in SIGNS)})"


def addresses_sql(text: str) -> str:
    """Write the list of what may be addresses in *text*, an expression."""
    text = _decoded(text)
    return " || ".join(
        f"regexp_extract_all({text}, '{local}{_DOMAIN}')"
        for local in (f"{_UNQUOTED}{_LOCAL}*", f"{_UNQUOTED}+")
    )


def mask_addresses(connection: DuckDBPyConnection, texts: str, addresses: Collection[str]) -> int:
    """
    Put those *texts*, a relation with such a column, that quote one of *addresses* into MASKED.

    Returns how many there are.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_SOUGHT} AS SELECT DISTINCT {_keys('address')}[-1] AS key,"
        " pattern FROM (SELECT unnest($addresses::VARCHAR[]) AS address,"
        " unnest($patterns::VARCHAR[]) AS pattern)",
        {"addresses": list(addresses), "patterns": [_pattern(each) for each in addresses]},
    )
    pattern = f"'{_BEFORE}(?i:' || string_agg(pattern, '|') || '){_AFTER}'"
    masked = "text"
    for _ in range(2):  # What ends one address may begin the next, which the first pass leaves.
        masked = f"regexp_replace({masked}, pattern, '\\1{REMOVED}\\2', 'g')"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {MASKED} AS SELECT text, {masked} AS masked FROM"
        f" (SELECT text, {pattern} AS pattern FROM (SELECT text, unnest({_keys('text')}) AS key"
        f" FROM {texts} WHERE {may_quote('text')}{_has_part_of(addresses)})"
        f" JOIN {_SOUGHT} USING (key) GROUP BY text)"
        " WHERE masked <> text"
    )
    connection.execute(f"DROP TABLE {_SOUGHT}")
    ((found,),) = connection.execute(f"SELECT count(*) FROM {MASKED}").fetchall()
    return int(found)


def _has_part_of(addresses: Collection[str]) -> str:
    """Write a quick condition that leaves out most texts, if the addresses are few."""
    if len(addresses) > _FEW:
        return ""
    locals_ = (each.lower().rpartition("@")[0] for each in addresses)
    parts = (max(re.findall("[a-z0-9]*", each), key=len) for each in locals_)
    contains = (f"contains(lower(text), '{part}')" for part in sorted({*parts}))
    return f" AND ({' OR '.join([*contains, 'false'])})"


def _keys(text: str) -> str:
    """Write the ends of the addresses in *text*, by which few texts are compared with each."""
    return f"regexp_extract_all({_decoded(f'lower({text})')}, '{_KEY}')"


def _decoded(text: str) -> str:
    """Decode what is percent-encoded and may belong to an address; the rest becomes space."""
    decoded = text
    for code, sign in _DECODED.items():
        decoded = f"regexp_replace({decoded}, '(?i)%(?:25)*{code}', {literal(sign)}, 'g')"
    return f"CASE WHEN contains({text}, '%') THEN {decoded} ELSE {text} END"


def _pattern(address: str) -> str:
    """Write the pattern of an address, each sign as it is or percent-encoded."""
    return "".join(map(_sign, address))


def _sign(sign: str) -> str:
    if sign.isascii() and sign.isalnum():
        return sign
    plain = f"\\{sign}" if sign.isascii() and sign != "_" else sign
    codes: Sequence[str] = [f"%(?:25)*{byte:02x}" for byte in sign.encode()]
    return f"(?:{plain}|{''.join(codes)})"
