"""The command ``verify``: compare Ometria and the export with the warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ometria_replica.cli.logs import announce, say_report, shown_progress
from ometria_replica.cli.options import (
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    TablesArgument,
    VerboseOption,
    WarehouseOption,
    settings_of_accounts,
)
from ometria_replica.errors import ReplicaError

if TYPE_CHECKING:
    from ometria_replica.verify_report import VerifyReport


def verify(
    tables: TablesArgument = None,
    everything: Annotated[bool, typer.Option("--all", help="Read everything.")] = False,
    sample: Annotated[
        float | None,
        typer.Option(
            "--sample",
            metavar="SHARE",
            show_default="0.05",
            help="Read this share of the pages, lists, windows of time and files, at random.",
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            min=1,
            metavar="N",
            show_default=False,
            help="Send about so many requests to the API at most.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", metavar="N", show_default="random", help="Choose the same sample again."
        ),
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Load what is missing or differs. No sync can run.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with code 4 also for rows that may be newer in Ometria."
        ),
    ] = False,
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Compare Ometria and the export with the warehouse. Exits with 4 if rows differ."""
    from ometria_replica.progress import watching
    from ometria_replica.verification.run import refuse_differences
    from ometria_replica.verification.run import verify as run_verify
    from ometria_replica.verification.sample import random_seed, share_to_read

    share = share_to_read(everything, sample, requests)
    try:
        with watching(shown_progress()) as progress:
            report = run_verify(
                settings_of_accounts(config, warehouse, account),
                tables or (),
                share=share,
                requests=requests,
                seed=random_seed() if seed is None else seed,
                repair=repair,
                progress=progress,
                announce=announce,
            )
    except ReplicaError as error:
        if error.verified:
            _print(error.verified, as_json=as_json)
        raise
    _print(report, as_json=as_json)
    refuse_differences(report, strict=strict)


def _print(report: VerifyReport, *, as_json: bool) -> None:
    say_report(report.to_json() if as_json else report.to_text(), as_json=as_json)
