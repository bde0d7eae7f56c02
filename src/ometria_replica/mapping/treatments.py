"""
Excluded and hashed columns: their fields are replaced in the relation that the mapping reads.

So whatever is made of a record (columns, keys, rejects) is made without the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal, quoted
from ometria_replica.pseudonyms import normalised, parameters_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ometria_replica.schema import Column, Table

REMOVED = "[address]"
"""What takes the place of an address in a text that quotes one."""

ANONYMISED = "_anonymised"
"""The staging column that says whether Ometria has replaced the address of a person."""

_ANONYMOUS = "@anonymous.ometria"
_AT = "(?:@|%(?:25)*40)"  # Percent-encoded, also more than once.
_SHORTEST_ID = 4  # Characters: shorter texts are found within words.
_IN_ADDRESS = r"""[^\s<>"'(),;:=&?/#%@]"""
_ADDRESS = rf"(?i)(?:{_IN_ADDRESS}|%[0-9a-f]{{2}})+{_AT}{_IN_ADDRESS}+"
_PARAMETER = rf"(?i)([?&;])[^?&;#=]*=[^&;#]*{_AT}[^&;#]*"


def person_columns(table: Table) -> dict[str, str]:
    """Map the staging columns with hashes of people's ids to the fields of these ids."""
    return {name: field for name, (field, _) in _hashes(table).items()}


def _hashes(table: Table) -> dict[str, tuple[str, str]]:
    """
    Write the hashes of each id of a person: with each secret, and of a pseudonym too.

    By the pseudonym are known people of whom a hashed column is all that was found.
    """
    suppressions = table.suppressions
    if suppressions is None:
        return {}
    found: dict[str, tuple[str, str]] = {}
    for column in table.columns:
        if column.person is None:
            continue
        field = str(column.source)
        texts = [quoted(field)]
        if column.treatment == "hashed":
            texts.append(_treated(table, column))
        hashes = [each for text in texts for each in suppressions.sql(column.person, text)]
        found |= {f"_person:{n}:{field}": (field, each) for n, each in enumerate(hashes)}
    return found


def is_anonymous(address: str) -> bool:
    """Whether Ometria has put an address in place of a person's."""
    return address.strip().lower().endswith(_ANONYMOUS)


def parameters(table: Table, statement: str) -> dict[str, bytes]:
    """Give the parameters of *statement*, which reads a :func:`treated_relation`, if it has any."""
    pseudonyms = table.pseudonyms if table.is_treated else None
    return parameters_in(statement, pseudonyms, table.suppressions)


def treated_relation(
    table: Table, relation: str, available: Collection[str], *, several: bool
) -> str:
    """
    Read *relation* with the treated fields replaced, and with hashes of the ids of people.

    The latter only if people are suppressed. If erasures are followed, :data:`ANONYMISED` is
    added, as the field says that comes. *several* files keep their numbers. The statement then
    needs the :func:`parameters`.
    """
    replacements = ", ".join(
        f"{expression} AS {quoted(field)}"
        for field, expression in _replacements(table, available).items()
        if field in available
    )
    hashes = "".join(
        f", {expression} AS {quoted(name)}"
        for name, (field, expression) in _hashes(table).items()
        if field in available
    )
    if table.address and table.address.source in available:
        address = normalised(quoted(str(table.address.source)))
        hashes += f", coalesce(ends_with({address}, {literal(_ANONYMOUS)}), false) AS {ANONYMISED}"
    if not replacements and not hashes:
        return relation
    star = f"* REPLACE ({replacements})" if replacements else "*"
    number = ", file_index" if several else ""
    return f"(SELECT {star}{hashes}{number} FROM {relation})"


def _replacements(table: Table, available: Collection[str]) -> Mapping[str, str]:
    """Write what takes the place of each field of a column that is treated, or may quote one."""
    ids = [quoted(field) for field in available if _is_hidden_id(table, field)]
    found = {
        str(column.source): without_addresses(quoted(str(column.source)), ids)
        for column in table.columns
        if column.quotes and table.hides_addresses
    }
    return found | {
        str(column.source): _treated(table, column) for column in table.columns if column.treatment
    }


def _treated(table: Table, column: Column) -> str:
    """Hash the value; an excluded one is null, unless the key is made of it."""
    is_needed = column.treatment == "hashed" or column.source in table.identifying_fields
    if not is_needed or table.pseudonyms is None:
        return "NULL::VARCHAR"
    return table.pseudonyms.sql(quoted(str(column.source)), is_address=column.person == "address")


def _is_hidden_id(table: Table, field: str) -> bool:
    """Whether the field is of a treated column with an id of a person."""
    return any(
        column.source == field and column.person and column.treatment for column in table.columns
    )


def without_addresses(text: str, ids: Iterable[str] = ()) -> str:
    """
    Drop the parameters of a URL that hold an address, and replace addresses elsewhere.

    The record's own *ids* are replaced too, since an address may be written as no pattern knows.
    """
    kept = f"regexp_replace({text}, {literal(_PARAMETER)}, '\\1', 'g')"
    found = (
        f"CASE WHEN contains({text}, '@') OR regexp_matches({text}, '%(?:25)*40')"
        f" THEN regexp_replace({kept}, {literal(_ADDRESS)}, {literal(REMOVED)}, 'g')"
        f" ELSE {text} END"
    )
    # Most rows have no such text, and most texts neither an @ nor a %, which an address has.
    may_quote = f"contains({text}, '@') OR contains({text}, '%')"
    ids = tuple(ids)
    written = [each for own in ids for each in (f"trim({own})", f"url_encode(trim({own}))")]
    if not written:
        return f"CASE WHEN {may_quote} THEN {found} ELSE {text} END"
    may_quote += "".join(f" OR NOT contains({own}, '@')" for own in ids)
    is_there = " OR ".join(
        f"length({each}) >= {_SHORTEST_ID} AND contains(lower({text}), lower({each}))"
        for each in written
    )
    either = ", ".join(
        f"CASE WHEN length({each}) >= {_SHORTEST_ID} THEN regexp_escape({each}) END"
        for each in written
    )
    return (
        f"CASE WHEN NOT coalesce({may_quote}, false) THEN {text} WHEN {is_there}"
        f" THEN regexp_replace({found}, concat_ws('|', {either}), {literal(REMOVED)}, 'gi')"
        f" ELSE {found} END"
    )
