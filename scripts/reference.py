"""
Write the reference pages that are made from the program, or check that they are current.

    python -m scripts.reference           writes them
    python -m scripts.reference --check   exits 1 and names those that are not current
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from scripts import dbt_marts, dbt_models, meltano, schema_tables
from typer.testing import CliRunner

from ometria_replica.catalog import CATALOG
from ometria_replica.cli import app
from ometria_replica.comments import CERTAINTIES
from ometria_replica.config import AccountSettings, Config, FeedSettings, WarehouseSettings
from ometria_replica.config.setting import settings_of
from ometria_replica.describe import as_markdown, describe
from ometria_replica.tables import JOINS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ometria_replica.config.setting import Setting
    from ometria_replica.schema import Join

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates"
PROGRAM = "ometria-replica"
WIDTH = {"COLUMNS": "88", "TERM": "dumb"}


def pages() -> dict[Path, str]:
    """Make every page from the program as it is."""
    folder = ROOT / "docs" / "reference"
    return {
        folder / "commands.md": _template("commands").format(helps="\n\n".join(_helps())),
        folder / "tables.md": _template("tables").format(
            tables=describe((), "markdown"),
            further=as_markdown(replace(CATALOG, tables=CATALOG.further, further=())),
            certainties=_certainties(),
            joins=_joins(JOINS),
            further_joins=_joins(join for join in CATALOG.joins if join not in JOINS),
            mermaid=describe((), "mermaid"),
            every=describe((), "mermaid", every=True),
        ),
        folder / "settings.md": settings_page(),
        folder / "json.md": _template("json").format(
            documents=schema_tables.documents(), sections=schema_tables.sections()
        ),
        folder / "marts.md": _template("marts").format(marts=dbt_marts.sections()),
        **{ROOT / "dbt" / name: text for name, text in dbt_models.files().items()},
        ROOT / "examples" / "meltano" / "meltano.yml": meltano.project(),
        ROOT / "examples" / "meltano" / "hub" / "tap-ometria.yml": meltano.definition(),
    }


def settings_page() -> str:
    """Make the page of settings."""
    return _template("settings").format(
        run=_rows(Config),
        warehouse=_rows(WarehouseSettings),
        account=_rows(AccountSettings),
        feed=_rows(FeedSettings),
    )


def _template(name: str) -> str:
    return (TEMPLATES / f"{name}.md").read_text(encoding="utf-8")


def _rows(kind: type) -> str:
    defaults = {each.name: each.default for each in dataclasses.fields(kind)}
    lines = ["| key | variable | type | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for name, known in settings_of(kind).items():
        variables = [*([known.env] if known.env else []), *known.aws]
        shown = ", ".join(f"`{variable}`" for variable in variables)
        default = _default(defaults[name], known)
        lines.append(f"| `{name}` | {shown} | {known.type} | {default} | {known.meaning} |")
    return "\n".join(lines)


def _default(default: object, known: Setting) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, (int, float)):
        return f"`{default:.15g}`"
    return f"`{default}`" if isinstance(default, str) and default else known.unset


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


def _joins(joins: Iterable[Join]) -> str:
    return "\n".join(
        f"| `{join.one}` | `{join.many}` | {'best effort' if join.best_effort else ''} |"
        for join in joins
    )


def _certainties() -> str:
    return "\n".join(f"| {name} | {meaning} |" for name, meaning in CERTAINTIES.items())


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
