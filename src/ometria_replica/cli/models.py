"""The commands of the dbt package: build its models, list and document them, copy it out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ometria_replica.cli.logs import announce, say_report
from ometria_replica.cli.options import (
    Command,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    repeated,
)
from ometria_replica.cli.output import say
from ometria_replica.errors import TestsFailed, WarehouseError
from ometria_replica.text import counted

if TYPE_CHECKING:
    from ometria_replica.models.results import Built

models_app = typer.Typer(
    help="Build the models of the dbt package that comes with the program.", no_args_is_help=True
)

SelectOption = Annotated[
    list[str] | None,
    repeated("--select", "MODEL", "Only these models, in dbt's syntax, such as +email_sends"),
]
ExcludeOption = Annotated[list[str] | None, repeated("--exclude", "MODEL", "Not these models")]
VarOption = Annotated[
    list[str] | None,
    repeated("--var", "NAME=VALUE", "A variable of the package; the value is JSON or a text"),
]
IntoOption = Annotated[
    str | None,
    typer.Option(
        "--into", metavar="FILE", help="The DuckDB file for the models of a Delta or Iceberg lake."
    ),
]
ProfilesOption = Annotated[
    Path | None,
    typer.Option(
        "--profiles-dir",
        metavar="FOLDER",
        help="The folder of your own profiles.yml, for a warehouse that needs one.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help="A target of that profile."),
]


@models_app.command("build", cls=Command)
def models_build(
    select: SelectOption = None,
    exclude: ExcludeOption = None,
    full_refresh: Annotated[
        bool,
        typer.Option("--full-refresh", help="Build incremental models from the start."),
    ] = False,
    no_tests: Annotated[
        bool, typer.Option("--no-tests", help="Build without testing the data.")
    ] = False,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone",
            metavar="ZONE",
            show_default="UTC",
            help="Days begin at midnight of this time zone.",
        ),
    ] = None,
    attribution_days: Annotated[
        int | None,
        typer.Option(
            "--attribution-days",
            min=0,
            metavar="N",
            show_default="7",
            help="An order belongs to a campaign clicked in so many days before it.",
        ),
    ] = None,
    var: VarOption = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            max=64,
            metavar="N",
            show_default="1 in DuckDB, 4 in PostgreSQL",
            help="Models that are built at the same time.",
        ),
    ] = None,
    into: IntoOption = None,
    profiles_dir: ProfilesOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Build the models in the schema ometria_marts, and test their data."""
    from ometria_replica.config import load_warehouse
    from ometria_replica.models.build import Wish, build
    from ometria_replica.models.results import built_as_json, built_as_text
    from ometria_replica.models.variables import ATTRIBUTION_DAYS, TIMEZONE, parsed

    given: dict[str, Any] = parsed(var or ())
    if timezone is not None:
        given[TIMEZONE] = _zone(timezone)
    if attribution_days is not None:
        given[ATTRIBUTION_DAYS] = attribution_days
    wish = Wish(
        select=tuple(select or ()),
        exclude=tuple(exclude or ()),
        full_refresh=full_refresh,
        tests=not no_tests,
        given=given,
        threads=threads,
        into=into,
        profiles=profiles_dir,
        target=target,
    )
    settings = load_warehouse(warehouse, os.environ, config)
    built = build(settings, wish, _tell)
    say_report(built_as_json(built) if as_json else built_as_text(built), as_json=as_json)
    _refuse(built)


@models_app.command("list", cls=Command)
def models_list(
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """List the models, what a row of each is, and which tables they need."""
    from ometria_replica.models.listing import listed_as_json, listed_as_text, read_models

    found = read_models()
    say(listed_as_json(found) if as_json else listed_as_text(found))


@models_app.command("docs", cls=Command)
def models_docs(
    html: Annotated[
        Path,
        typer.Option("--html", metavar="FILE", show_default=False, help="Write this file."),
    ],
    into: IntoOption = None,
    profiles_dir: ProfilesOption = None,
    target: TargetOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Write dbt's documentation of the models as one HTML file, with their lineage."""
    from ometria_replica.config import load_warehouse
    from ometria_replica.models.listing import write_docs

    settings = load_warehouse(warehouse, os.environ, config)
    write_docs(settings, html, into, profiles_dir, target)
    if as_json:
        from ometria_replica.json_documents import document

        say(document("models-docs", {"file": str(html), "bytes": html.stat().st_size}))
        return
    say_report(f"Wrote {html}. Open it in a browser.")


@models_app.command("export", cls=Command)
def models_export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", show_default=False, help="A new or empty folder."),
    ],
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Copy the dbt package into a folder, to use it in a dbt project of your own."""
    from ometria_replica.json_documents import document
    from ometria_replica.models import package

    files = package.export(folder)
    if as_json:
        say(document("models-export", {"folder": str(folder), "files": files}))
        return
    say_report(f"Copied {counted(len(files), 'file')} of the dbt package to {folder}.")


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise typer.BadParameter(
            f"{name!r} is not a time zone, such as Europe/London.", param_hint="--timezone"
        ) from None
    return name


def _tell(model: str, status: str) -> None:
    if status == "started":
        announce(f"Building {model}")


def _refuse(built: Built) -> None:
    """Raise for models that were not built, and for tests that failed."""
    from ometria_replica.models.results import failures_of

    kept = "The others were built, and models that were built before are kept."
    if built.failed:
        number = counted(len(built.failed), "model")
        raise WarehouseError(
            f"{number} could not be built in {built.warehouse}: {failures_of(built.failed)}. {kept}"
            " If it happens again, report it; `ometria-replica models export` copies the SQL."
        )
    if failed := built.tests.failed:
        number = counted(len(failed), "test")
        raise TestsFailed(
            f"{number} of the data failed, and what depends on these models was not built. {kept}"
            " --no-tests builds all."
        )
