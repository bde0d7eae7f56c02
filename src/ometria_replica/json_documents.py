"""
The JSON documents that commands print: an object that begins with the name of its schema.

Each document has a row here and a file ``docs/reference/schemas/NAME.json``.
A change after which a program that reads the document may fail takes a new version.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS: Final = {
    "check": 1,
    "config": 1,
    "erase": 1,
    "erase-allow": 1,
    "erase-dry-run": 1,
    "erase-export": 1,
    "erase-list": 1,
    "fields": 1,
    "init": 1,
    "maintain": 1,
    "models-build": 1,
    "models-docs": 1,
    "models-export": 1,
    "models-list": 1,
    "plan": 1,
    "rehash": 1,
    "rejects-list": 1,
    "rejects-replay": 1,
    "report": 1,
    "runs": 1,
    "state-rewind": 1,
    "state-show": 1,
    "status": 1,
    "sync": 1,
    "tables": 1,
    "verify": 1,
}


def schema_of(name: str) -> str:
    """Return what a document says of its schema: its name and its version."""
    return f"ometria-replica/{name}/{VERSIONS[name]}"


def document(name: str, fields: Mapping[str, Any]) -> str:
    """Write the document *name*, times as ISO 8601 in UTC, in ASCII for any terminal or pipe."""
    return as_json(plain_document(name, fields))


def plain_document(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Make the document *name* as plain data: what ``json.loads`` gives of it, once written."""
    return {"schema": schema_of(name), **{key: _plain_data(value) for key, value in fields.items()}}


def as_json(value: Any, *, ascii_only: bool = True) -> str:
    """Write *value* as JSON, times as ISO 8601 in UTC."""
    return json.dumps(value, indent=2, ensure_ascii=ascii_only, default=_plain)


def _plain_data(value: Any) -> Any:
    match value:
        case dict():
            return {key: _plain_data(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain_data(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(type(value).__name__)
