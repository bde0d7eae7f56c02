"""
The process of dbt: it reads a request from standard input, and writes lines of JSON.

dbt keeps a DuckDB file open until its process ends, has one set of flags and log handlers for a
whole process, and its messages quote values of the tables. So it has a process of its own, whose
every message is looked at here before it goes on.

The process ends when its standard input does: a program that is killed leaves none behind.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ometria_replica.models.request import ModelResult, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_OF_THE_SQL = ("Binder Error", "Catalog Error", "Parser Error", "Compilation Error")
"""Kinds of errors whose text is about the SQL of a model, and quotes no row."""

_KIND = re.compile(r"((?:[A-Z]\w* ){1,3}(?:Error|Exception))\b")
_WITHOUT_VALUES = re.compile(
    r"permission denied for \w+ \w+|must be owner of \w+ \w+|deadlock detected|No space left"
    r"|canceling statement due to [a-z ]+|Out of Memory Error"
    r"|Could not find adapter type [\w-]+|No module named '[\w.]+'"
    r"|Could not find profile named '[\w-]+'|does not have a target named '[\w-]+'"
    r"|(?:relation|column|schema|function|type) \"[\w.]+\" does not exist"
)
"""What messages of databases may be told of, since names of relations are no values."""

_LOCKED = ("Could not set lock", "Conflicting lock")
_FILES = {"passfile", "sslcert", "sslcrl", "sslcrldir", "sslkey", "sslrootcert"}
"""Parameters of libpq that name files: dbt changes the folder in which relative ones are."""
_NO_FILES = ("", "system")
_NOT_SHOWN = ("ephemeral",)


def main() -> None:
    """Carry out the request, and write what became of it."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Nothing else may be between our lines.
    request = Request(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    if request.postgres:
        _connect_by(request.postgres)
    if request.lake:
        from ometria_replica.models import lake_tables  # noqa: PLC0415 -- it needs dbt.

        lake_tables.OF_THIS_PROCESS.open(request.lake, request.tables)
    _run(request, answer)


def _end_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)  # dbt rolls back, and cancels what runs.


def _connect_by(url: str) -> None:
    """
    Have dbt connect by *url*, with all that libpq understands in one.

    A profile has no place for several hosts, a service or most parameters, and would be a file
    with the password in it.
    """
    import psycopg2.extensions  # noqa: PLC0415 -- only for PostgreSQL.

    from ometria_replica.warehouse.engines.postgres_dialect import with_defaults  # noqa: PLC0415

    connect = psycopg2.connect
    parts = psycopg2.extensions.parse_dsn(with_defaults(url))
    for name in _FILES.intersection(parts):
        parts[name] = parts[name] if parts[name] in _NO_FILES else os.path.abspath(parts[name])  # noqa: PTH100 -- without links.
    psycopg2.connect = lambda **_: connect(**parts)


def _run(request: Request, answer: Any) -> None:
    from dbt.cli.main import dbtRunner  # noqa: PLC0415 -- a few seconds.

    progress = _Progress(answer)
    ended = dbtRunner(callbacks=[progress.heard]).invoke(list(request.arguments))
    problem = None
    if ended.exception is not None:
        problem = _told(str(ended.exception))
    results = getattr(ended.result, "results", None) or ()
    manifest = _manifest(Path(request.target))
    answer(
        end={
            "is_success": bool(ended.success),
            "problem": problem,
            "results": [asdict(each) for each in _results(results)],
            "switched_off": sorted(_switched_off(manifest)),
        }
    )


class _Progress:
    """Tells which model dbt has begun and ended, of how many."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def heard(self, event: Any) -> None:
        """Pass on what is about a model."""
        if event.info.name not in {"NodeStart", "NodeFinished"}:
            return
        node = event.data.node_info
        if node.resource_type == "model":
            is_end = event.info.name == "NodeFinished"
            self._answer(model=node.node_name, status=node.node_status if is_end else "started")


def _results(results: Iterable[Any]) -> Iterable[ModelResult]:
    for each in results:
        node = each.node
        kind = str(getattr(node.resource_type, "value", node.resource_type))
        materialized = str(getattr(getattr(node, "config", None), "materialized", "") or "")
        if materialized in _NOT_SHOWN:
            continue
        yield ModelResult(
            kind=kind,
            name=node.name,
            relation=getattr(node, "relation_name", None),
            materialized=materialized,
            status=str(getattr(each.status, "value", each.status)),
            seconds=float(each.execution_time),
            failures=each.failures,
            message=_told(each.message or "") if str(each.status) in {"error", "fail"} else None,
            about=_about(node),
        )


def _about(node: Any) -> str | None:
    """Name the model that a test is about."""
    attached = getattr(node, "attached_node", None) or next(
        iter(getattr(getattr(node, "depends_on", None), "nodes", ()) or ()), None
    )
    return str(attached).rpartition(".")[2] if attached else None


def _told(message: str) -> str:
    """Say what an error is, without the text of one that may quote a row."""
    if any(sign in message for sign in _LOCKED):
        return "locked"
    kinds = []
    for line in map(str.strip, message.splitlines()):
        if found := _WITHOUT_VALUES.search(line):
            return found[0]
        kind = _KIND.match(line)
        if kind and kind[1] in _OF_THE_SQL:
            return line
        kinds += [kind[1]] if kind else []
    return kinds[-1] if kinds else "unknown"


def _manifest(target: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError):
        found: Mapping[str, Any] = json.loads((target / "manifest.json").read_text("utf-8"))
        return found
    return {}


def _switched_off(manifest: Mapping[str, Any]) -> set[str]:
    return {
        name.rpartition(".")[2]
        for name in manifest.get("disabled", {})
        if name.startswith("model.")
    }


if __name__ == "__main__":
    main()
