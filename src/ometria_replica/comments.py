"""What the catalog says about tables and columns, as sentences and as comments in a warehouse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ometria_replica.schema import Md5

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.schema import Column, Table

CERTAINTIES: Mapping[str, str] = {
    "documented": "a public page of Ometria states it",
    "inferred": "the specification, another program or a name suggests it",
    "unknown": "no source states it",
    "computed": "this program makes the value",
}
"""How the meaning of a column is known."""

NEVER = "never"


def comments(table: Table) -> dict[str, str]:
    """Return the comment of each column that has a meaning, and of the table, under ``""``."""
    found = {"": f"{table.about} [{_PROGRAM}]" if table.about else ""}
    found |= {column.name: column_comment(table, column) for column in table.all_columns}
    return {name: comment for name, comment in found.items() if comment}


def missing_comments(table: Table, there: Mapping[str, str | None]) -> dict[str, str]:
    """Return those that are not *there*, or of another release; those of a user stay."""
    found = {}
    for name, text in comments(table).items():
        old = there.get(name)
        if old != text and (not old or is_ours(old)):
            found[name] = text
    return found


def column_comment(table: Table, column: Column) -> str:
    """Write all that is known of a column; empty for one without a meaning."""
    if column.meaning is None:
        return ""
    null = null_when(table, column)
    when = "Never null." if null == NEVER else f"Null: {null}."
    return f"{column.meaning.text} {when} [{column.meaning.certainty}]"


def is_ours(comment: str) -> bool:
    """Return whether a release of this program wrote a comment; others are the user's."""
    return bool(_OURS.search(comment))


def null_when(table: Table, column: Column) -> str:
    """Say when a column is null: as its meaning says, or as its source and type imply."""
    if column.meaning and column.meaning.null:
        return column.meaning.null
    known = (column.source,) in table.identity or column == table.parent_column
    if known or column in table.lineage or isinstance(column.source, Md5):
        return NEVER
    if column.type == "text":
        return "no value was sent"
    return "no value was sent, or one that is rejected because it does not convert"


_PROGRAM = "ometria-replica"
_OURS = re.compile(rf" \[(?:{'|'.join([*CERTAINTIES, _PROGRAM])})\]$")
