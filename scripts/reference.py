"""
Write the reference pages that are made from the program, or check that they are current.

    python scripts/reference.py           writes them
    python scripts/reference.py --check   exits 1 and names those that are not current
"""

# ruff: noqa: E501  # The pages are written one sentence a line.

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.testing import CliRunner

from ometria_replica import settings
from ometria_replica.cli import app
from ometria_replica.describe import describe
from ometria_replica.tables import JOINS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "ometria-replica"
WIDTH = {"COLUMNS": "88", "TERM": "dumb"}

COMMANDS = """\
# Commands

Standard output carries the answer, standard error everything else: progress, warnings, errors.
The exit codes are in [errors](errors.md), the settings that the options override in [settings](settings.md).
The simulator has a command of its own, `ometria-simulator`, told in [the simulator](../simulator.md).

This page is made from the program's own help; `make docs` writes it.

{helps}
"""

TABLES = """\
# Tables

Five tables in the schema `ometria`, each with the last four columns in common.
`a::b` in a source is field `b` inside object `a`.
A key is the MD5 of its parts, joined with nothing between them, in lower-case hex: see [keys](../explanation/keys.md).
All times are instants, kept in UTC.

This page is made from the program; `make docs` writes it.
`ometria-replica tables` shows the same in a terminal, and `ometria-replica tables --format sql` the statements that make the tables.

![The five tables and how they join](../assets/erd.svg)

{tables}

## How the tables join

| one side | other side | |
| --- | --- | --- |
{joins}

Always join on `__source_id` as well, so that accounts which share a warehouse stay apart.
Best effort means that neither side is unique, or that the texts may differ: an address may be written in another case, and may belong to several profiles.
[How to ask questions of the tables](../how-to/query.md) shows each join at work.

## The diagram's source

```mermaid
{mermaid}
```
"""


def pages() -> dict[Path, str]:
    """Make every page from the program as it is."""
    folder = ROOT / "docs" / "reference"
    return {
        folder / "commands.md": COMMANDS.format(helps="\n\n".join(_helps())),
        folder / "tables.md": TABLES.format(
            tables=describe(None, "markdown"), joins=_joins(), mermaid=describe(None, "mermaid")
        ),
        folder / "settings.md": settings.reference(),
    }


def help_of(*command: str) -> str:
    """Ask a command for its help, in a terminal of a set width."""
    runner = CliRunner()
    result = runner.invoke(app, [*command, "--help"], prog_name=PROGRAM, env=WIDTH)
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def commands() -> dict[str, Any]:
    """List the commands in the order of the help; those of a group follow it, as ``state show``."""
    return dict(_commands_of(typer.main.get_command(app), ()))


def _commands_of(group: Any, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        path = (*names, name)
        yield " ".join(path), command
        if hasattr(command, "commands"):
            yield from _commands_of(command, path)


def _helps() -> list[str]:
    sections = [f"```console\n$ {PROGRAM} --help\n{help_of()}\n```"]
    for name in commands():
        told = f"```console\n$ {PROGRAM} {name} --help\n{help_of(*name.split())}\n```"
        sections.append(f"## `{PROGRAM} {name}`\n\n{told}")
    return sections


def _joins() -> str:
    return "\n".join(
        f"| `{join.one}` | `{join.many}` | {'best effort' if join.best_effort else ''} |"
        for join in JOINS
    )


def stale() -> list[Path]:
    """List the pages that are not what the program would write now."""
    return [
        path
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write the pages, or check them."""
    outdated = stale()
    if "--check" in sys.argv[1:]:
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is not current: run `make docs`", file=sys.stderr)
        return 1 if outdated else 0
    for path, text in pages().items():
        if path in outdated:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
