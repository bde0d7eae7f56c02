"""
Log lines, for people and as JSON: each record is one line, with its run, account and table.

These are formatters of the standard library, so that the lines of other libraries pass through
them too; structlog would need the same formatters for those, and nothing here needs the rest of it.
A record may have the attribute ``fields``: further values of its JSON object.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from ometria_replica.log_context import log_context
from ometria_replica.text import encodable, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_PLAIN = re.compile(r"[A-Za-z0-9_./:@-]+")
_LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"} | {ord("\n"): "\\n"}


class TextLines(logging.Formatter):
    """Lines for people: level, logger and message, and in brackets what they belong to."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        parts = [f"{record.levelname} {record.name}: {_message(record)}", *_failure(record)]
        line = " | ".join(parts)
        context = log_context()
        places = {"run": context.run, "account": context.account, "table": context.table}
        named = ", ".join(f"{name}={_plain(text)}" for name, text in places.items() if text)
        return printable((f"{line} ({named})" if named else line).translate(_LINE_ENDS))


class JsonLines(logging.Formatter):
    """Lines for machines: a JSON object in ASCII, always with the same fields in the same order."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        context = log_context()
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            "run": context.run,
            "account": context.account,
            "table": context.table,
        }
        if failure := _failure(record):
            line["traceback"] = "\n".join(failure)
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        return json.dumps(_encodable(line | dict(fields)), allow_nan=False)


def frames_of(trace: TracebackType | None) -> str:
    """Write where an exception came from, without its message, which may quote personal data."""
    return "".join(traceback.format_tb(trace)).rstrip("\n")


def _message(record: logging.LogRecord) -> str:
    """Return the message; of a record that does not fit its arguments, what it says of itself."""
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 -- A library's mistake must not stop a run.
        where = f"{record.module}.{record.funcName}, line {record.lineno}"
        return f"a log line that cannot be written ({type(error).__name__} in {where})"


def _failure(record: logging.LogRecord) -> list[str]:
    """Return the kind of the exception that a record is about, and its frames; else nothing."""
    if not record.exc_info or record.exc_info[0] is None:
        return []
    kind, _, trace = record.exc_info
    return [part for part in (frames_of(trace), kind.__name__) if part]


def _plain(text: str) -> str:
    """Write a value such that it ends where it ends."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return encodable(value)
        case dict():
            return {name: _encodable(each) for name, each in value.items()}
    return value
