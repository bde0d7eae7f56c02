"""
Excluded and hashed columns: their fields are replaced in the relation that the mapping reads.

So whatever is made of a record (columns, keys, rejects) is made without the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.mapping.quoting import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ometria_replica.schema import Column, Table

REMOVED = "[address]"
"""What takes the place of an address in a text that quotes one."""

_AT = "(?:@|%40)"
_IN_ADDRESS = r"""[^\s<>"'(),;:=&?/#%@]"""
_ADDRESS = rf"(?i)(?:{_IN_ADDRESS}|%[0-9a-f]{{2}})+{_AT}{_IN_ADDRESS}+"
_PARAMETER = rf"(?i)([?&;])[^?&;#=]*=[^&;#]*{_AT}[^&;#]*"


def person_columns(table: Table) -> dict[str, str]:
    """Map the staging columns with hashes of people's ids to the fields of these ids."""
    if table.suppressions is None:
        return {}
    return {f"_person:{field}": field for field in table.people}


def parameters(table: Table) -> dict[str, bytes]:
    """Give the parameters of a statement that reads a :func:`treated_relation`."""
    pseudonyms = table.pseudonyms if table.is_treated else None
    return {
        **(pseudonyms.parameters if pseudonyms else {}),
        **(table.suppressions.parameters if table.suppressions else {}),
    }


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
        for field, expression in _replacements(table).items()
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


def _replacements(table: Table) -> Mapping[str, str]:
    """Write what takes the place of each field of a column that is treated, or may quote one."""
    found = {
        str(column.source): without_addresses(quoted(str(column.source)))
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


def without_addresses(text: str) -> str:
    """Drop the parameters of a URL that hold an address, and replace addresses elsewhere."""
    kept = f"regexp_replace({text}, {literal(_PARAMETER)}, '\\1', 'g')"
    return (
        f"CASE WHEN contains({text}, '@') OR contains({text}, '%40')"
        f" THEN regexp_replace({kept}, {literal(_ADDRESS)}, {literal(REMOVED)}, 'g')"
        f" ELSE {text} END"
    )
