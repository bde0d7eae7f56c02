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
    yield from _fields(schema, every)
    for part, definition in schema.get("$defs", {}).items():
        yield f"\nEach {part.replace('_', ' ')}:"
        yield from _fields(definition, every)


def _fields(part: Mapping[str, Any], every: Mapping[str, Any]) -> Iterator[str]:
    yield "\n| field | type | meaning |\n| --- | --- | --- |"
    inner = {}
    for name, field in part["properties"].items():
        objects = _inside(field)
        meaning = field["description"]
        if other := _document(objects, every):
            meaning += f": see [{other}](#{other})"
        elif "properties" in objects:
            inner[name] = objects
        yield f"| `{name}` | {_type(field)} | {meaning} |"
    for name, objects in inner.items():
        which = "Each object" if "items" in part["properties"][name] else "The object"
        yield f"\n{which} in `{name}`:"
        yield from _fields(objects, every)


def _inside(field: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of the objects in a field that may have some."""
    inner: Mapping[str, Any] = field.get("items") or field.get("anyOf", [field])[0]
    return inner


def _document(objects: Mapping[str, Any], every: Mapping[str, Any]) -> str | None:
    """Name the document of which *objects* are; None if they are of this one."""
    document = objects.get("$ref", "").partition("#")[0]
    return next((name for name, schema in every.items() if schema["$id"] == document), None)


def _type(field: Mapping[str, Any]) -> str:
    """Name the type of a field for a person."""
    match field:
        case {"const": value}:
            return f'`"{value}"`'
        case {"enum": values}:
            return ", ".join(f"`{json.dumps(value)}`" for value in values)
        case {"anyOf": _}:
            return "object or null"
        case {"$ref": _}:
            return "object"
        case {"type": "array", "items": items}:
            return "array of strings" if "enum" in items else f"array of {_type(items)}s"
        case {"type": kinds}:
            kind = kinds if isinstance(kinds, str) else kinds[0]
            shown = {"date-time": "time", "date": "day"}.get(field.get("format", ""), kind)
            return shown if isinstance(kinds, str) else f"{shown} or null"
    raise ValueError(field)
