"""The command ``check``."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli.options import (
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    settings_of,
)
from ometria_replica.cli.output import has_colours, say
from ometria_replica.errors import ConfigError
from ometria_replica.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.doctor.findings import Finding, Level


def check(
    account: AccountOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 4 if there are only warnings.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Test the settings, the API key, the bucket, the warehouse and the machine. Reads only."""
    from ometria_replica.check_report import (
        CheckReport,
        finding_as_text,
        heading_of,
        summary_as_text,
    )

    findings: list[Finding] = []
    heading = ""
    for finding in _findings(config, warehouse, account):
        findings.append(finding)
        if as_json:
            continue
        if heading != (heading := heading_of(finding)):
            say(heading if len(findings) == 1 else f"\n{heading}")
        typer.echo(_coloured(printable(finding_as_text(finding)), finding.level))
    report = CheckReport(tuple(findings), strict)
    say(report.to_json() if as_json else f"\n{summary_as_text(findings)}")
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def _findings(
    config: Path | None, warehouse: str | None, accounts: list[str] | None
) -> Iterator[Finding]:
    """Test everything; with settings that are wrong, what does not need them."""
    from ometria_replica.accounts import only_accounts
    from ometria_replica.config import load_warehouse
    from ometria_replica.doctor.run import check as run_check
    from ometria_replica.doctor.run import check_without

    with _collected_warnings() as warnings:
        try:
            settings = settings_of(config, warehouse)
        except ConfigError as error:
            try:
                place = load_warehouse(warehouse, os.environ, config)
            except ConfigError:
                place = None
            yield from check_without(error, place, warnings)
            return
    yield from run_check(only_accounts(settings, accounts or ()), warnings=warnings)


@contextmanager
def _collected_warnings() -> Iterator[list[str]]:
    """Collect what the loading of settings warns of, in place of its log lines."""
    logger, found = logging.getLogger("ometria_replica.config"), list[str]()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.propagate = True
        logger.removeHandler(handler)


def _coloured(text: str, level: Level) -> str:
    """Colour the level's word, on a terminal that has colours."""
    if not has_colours():
        return text
    colours = {"pass": typer.colors.GREEN, "warn": typer.colors.YELLOW, "fail": typer.colors.RED}
    return text.replace(level, typer.style(level, fg=colours[level], bold=level != "pass"), 1)
