"""The schemas of ``docs/reference/schemas``, as the tables of the page ``json.md``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference" / "schemas"


def schemas() -> dict[str, dict[str, Any]]:
    """Read the schemas by their names."""
    files = sorted(FOLDER.glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def documents() -> str:
    """Write a row for each command that prints a document."""
    rows = {command: name for name, schema in schemas().items() for command in schema["x-commands"]}
    return "\n".join(
        f"| `{command}` | [{rows[command]}](#{rows[command]}) |" for command in sorted(rows)
    )


def sections() -> str:
    """Write a section for each document that is an object: its fields, and those of its parts."""
    every = schemas()
    return "\n\n".join(
        "\n".join(_section(name, schema, every))
        for name, schema in every.items()
        if "properties" in schema
    )


def _section(name: str, schema: dict[str, Any], every: Mapping[str, Any]) -> Iterator[str]:
    commands = " and ".join(f"`{command}`" for command in schema["x-commands"])
    yield f"## {name}"
    yield f"\n{schema['description']} Of {commands}; schema: [{name}.json](schemas/{name}.json)."
    yield from _fields(schema, schema, every)


def _fields(part: dict[str, Any], whole: dict[str, Any], every: Mapping[str, Any]) -> Iterator[str]:
    yield "\n| field | type | meaning |\n| --- | --- | --- |"
    inner: dict[str, dict[str, Any]] = {}
    for name, field in part["properties"].items():
        objects = _objects(field, whole, every)
        meaning = field["description"]
        if isinstance(objects, str):
            meaning += f": see [{objects}](#{objects})"
        elif objects:
            inner[name] = objects
        yield f"| `{name}` | {_type(field)} | {meaning} |"
    for name, objects in inner.items():
        which = "Each object" if "items" in part["properties"][name] else "The object"
        yield f"\n{which} in `{name}`:"
        yield from _fields(objects, whole, every)


def _type(field: Mapping[str, Any]) -> str:
    """Name the type of a field for a person."""
    match field:
        case {"const": value}:
            return f'`"{value}"`'
        case {"enum": values}:
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"anyOf": _}:
            return "object or null"
        case {"type": "array", "items": items}:
            return (
                "array of objects"
                if "properties" in items or "$ref" in items
                else "array of strings"
            )
        case {"type": kinds}:
            kind = kinds if isinstance(kinds, str) else kinds[0]
            shown = {"date-time": "time", "date": "day"}.get(field.get("format", ""), kind)
            return shown if isinstance(kinds, str) else f"{shown} or null"
    raise ValueError(field)


def _objects(
    field: Mapping[str, Any], whole: dict[str, Any], every: Mapping[str, Any]
) -> dict[str, Any] | str | None:
    """Find the objects in a field, or the document that has them; None if it has none."""
    inner = field.get("items") or field.get("anyOf", [field])[0]
    if "$ref" not in inner:
        return inner if "properties" in inner else None
    document, _, path = inner["$ref"].partition("#/$defs/")
    if not document:
        return dict(whole["$defs"][path])
    return next(name for name, schema in every.items() if schema["$id"] == document)
