"""The JSON Schemas of the documentation, and documents that are as they say."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from scripts.schema_tables import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]  # It ships no types.
def is_time(value: object) -> bool:
    """Whether it is a time in UTC; what is no text has no format."""
    if not isinstance(value, str):
        return True
    return datetime.fromisoformat(value).utcoffset() == timedelta(0) and value.endswith("+00:00")


@FORMATS.checks("date", raises=ValueError)  # type: ignore[untyped-decorator]  # It ships no types.
def is_day(value: object) -> bool:
    """Whether it is a day; what is no text has no format."""
    return not isinstance(value, str) or date.fromisoformat(value).isoformat() == value


def closed(part: Any) -> Any:
    """Refuse fields that a schema does not name: readers have to accept them, and the docs not."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    inner = {name: closed(each) for name, each in part.items()}
    return {**inner, "additionalProperties": False} if "required" in part else inner


@cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks the document *name*: its schema, which names all fields."""
    every = {each["$id"]: closed(each) for each in schemas().values()}
    registry: Registry[Any] = Registry().with_resources(
        (name, Resource.from_contents(schema)) for name, schema in every.items()
    )
    return Draft202012Validator(
        every[schemas()[name]["$id"]], registry=registry, format_checker=FORMATS
    )


def faults(name: str, document: Any) -> list[str]:
    """Say where *document* is not as the schema *name* says; nothing if it is."""
    found = sorted(validator(name).iter_errors(document), key=str)
    return [f"{error.json_path}: {error.message}" for error in found]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Find all schemas of objects with fields, within one."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)
