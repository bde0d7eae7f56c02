"""
Excluded and hashed columns: their fields are replaced in the relation that the mapping reads.

So whatever is made of a record (columns, keys, rejects) is made without the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from ometria_replica.schema import Column, Table

REMOVED = "[address]"
"""What takes the place of an address in a text that quotes one."""

_AT = "(?:@|%(?:25)*40)"  # Percent-encoded, also more than once.
_SHORTEST_ID = 4  # Characters: shorter texts are found within words.
_IN_ADDRESS = r"""[^\s<>"'(),;:=&?/#%@]"""
_ADDRESS = rf"(?i)(?:{_IN_ADDRESS}|%[0-9a-f]{{2}})+{_AT}{_IN_ADDRESS}+"
_PARAMETER = rf"(?i)([?&;])[^?&;#=]*=[^&;#]*{_AT}[^&;#]*"


def person_columns(table: Table) -> dict[str, str]:
    """Map the staging columns with hashes of people's ids to the fields of these ids."""
    if table.suppressions is None:
        return {}
    return {f"_person:{field}": field for field in table.people}


def parameters(table: Table, statement: str) -> dict[str, bytes]:
    """Give the parameters of *statement*, which reads a :func:`treated_relation`, if it has any."""
    pseudonyms = table.pseudonyms if table.is_treated else None
    known = {
        **(pseudonyms.parameters if pseudonyms else {}),
        **(table.suppressions.parameters if table.suppressions else {}),
    }
    return {name: value for name, value in known.items() if f"${name}" in statement}


def treated_relation(
    table: Table, relation: str, available: Collection[str], *, several: bool
) -> str:
    """
    Read *relation* with the treated fields replaced, and with hashes of the ids of people.

    The latter only if people are suppressed. *several* files keep their numbers. The statement
    then needs the :func:`parameters`.
    """
    replacements = ", ".join(
        f"{expression} AS {quoted(field)}"
        for field, expression in _replacements(table, available).items()
        if field in available
    )
    hashes = "".join(
        f", {table.suppressions.sql(table.people[field], quoted(field))} AS {quoted(name)}"
        for name, field in person_columns(table).items()
        if table.suppressions and field in available
    )
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
    written = [each for own in ids for each in (f"trim({own})", f"url_encode(trim({own}))")]
    if not written:
        return found
    is_there = " OR ".join(
        f"length({each}) >= {_SHORTEST_ID} AND contains(lower({text}), lower({each}))"
        for each in written
    )
    either = ", ".join(
        f"CASE WHEN length({each}) >= {_SHORTEST_ID} THEN regexp_escape({each}) END"
        for each in written
    )
    return (
        f"CASE WHEN {is_there}"
        f" THEN regexp_replace({found}, concat_ws('|', {either}), {literal(REMOVED)}, 'gi')"
        f" ELSE {found} END"
    )
