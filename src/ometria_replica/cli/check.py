"""The command ``check``."""

from __future__ import annotations

import typer

from ometria_replica.cli.options import (
    AccountOption,
    ConfigOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    WarehouseOption,
    settings_of_accounts,
)
from ometria_replica.cli.output import say


def check(
    account: AccountOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    warehouse: WarehouseOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = None,
) -> None:
    """Test the API key, the bucket and the warehouse. Nothing is written."""
    from ometria_replica.check import check as run_check
    from ometria_replica.rendering import finding_as_text, findings_as_json

    findings = []
    for finding in run_check(settings_of_accounts(config, warehouse, account)):
        findings.append(finding)
        if not as_json:
            say(finding_as_text(finding))
    if as_json:
        say(findings_as_json(findings))
    failures = [finding.error for finding in findings if finding.error is not None]
    if failures:
        raise typer.Exit(failures[0].exit_code)
