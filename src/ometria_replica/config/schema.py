"""
All settings of a run, and the variables that set them.

``docs/reference/settings.md`` is generated from the declarations of the settings. Messages never
repeat a text value, because a key may have been pasted into the wrong line.
"""

# ruff: noqa: RUF009  # setting() is dataclasses.field, with a description.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ometria_replica.config.account_settings import AccountSettings
from ometria_replica.config.checks import check_one_of, check_parallel, check_switch, check_text
from ometria_replica.config.feed_settings import FeedSettings
from ometria_replica.config.setting import setting, settings_of
from ometria_replica.config.urls import check_webhook
from ometria_replica.config.warehouse_settings import WarehouseSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ometria_replica.config.secrets import Secret


@dataclass(frozen=True)
class Config:
    """
    All settings of a run, checked.

    *path* is the file that was read, or None. *origins* maps a dotted key to the origin of
    its value; a key that is not in it has its default.
    """

    accounts: tuple[AccountSettings, ...]
    warehouse: WarehouseSettings = WarehouseSettings()
    path: Path | None = None
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    parallel_accounts: int = setting(
        check_parallel,
        "whole number",
        "How many accounts a sync reads at the same time; at most 100. Each has its own rate limit."
        " With 1, one is read after the other, and the feed of each after its API.",
        8,
        env="OMETRIA_PARALLEL_ACCOUNTS",
    )
    metrics: str | None = setting(
        check_text,
        "path",
        "The file into which each sync writes its metrics, in the text format of Prometheus; the"
        " textfile collector of its node exporter reads files that end in `.prom`.",
        None,
        env="OMETRIA_METRICS",
        example='"/var/lib/node_exporter/ometria.prom"',
    )
    traces: bool = setting(
        check_switch,
        "`true` or `false`",
        "Send the spans of each sync to the OpenTelemetry collector that"
        " `OTEL_EXPORTER_OTLP_ENDPOINT` names. See [traces and lineage](../how-to/observe.md).",
        False,
        env="OMETRIA_TRACES",
    )
    lineage: bool = setting(
        check_switch,
        "`true` or `false`",
        "Send OpenLineage events of each sync to the address that `OPENLINEAGE_URL` or"
        " `openlineage.yml` names. See [traces and lineage](../how-to/observe.md).",
        False,
        env="OMETRIA_LINEAGE",
    )
    log_format: Literal["text", "json"] = setting(
        check_one_of("text", "json"),
        "`text`, `json`",
        "The format of standard error: lines for people, or a JSON object in each line. What is"
        " logged before the settings are read has the format of the variable or the option.",
        "text",
        env="OMETRIA_LOG_FORMAT",
    )
    notify: Secret | None = setting(
        check_webhook,
        "secret URL",
        "The address to which a sync posts a short JSON when it fails, when it succeeds after a"
        " failure, and with `--strict` when there are rejects: https, except for localhost. See"
        " [Run on a schedule](../how-to/schedule.md#be-told).",
        None,
        env="OMETRIA_NOTIFY",
        example='"env:OMETRIA_NOTIFY"',
        reference="secret",
    )


ACCOUNT_VARIABLES: Final = {
    known.env: key
    for prefix, kind in (("", AccountSettings), ("feed.", FeedSettings))
    for key, known in ((prefix + name, each) for name, each in settings_of(kind).items())
    if known.env
}
"""The variables that set the only account, and the keys that they set."""

WAREHOUSE_VARIABLES: Final = tuple(
    known.env for known in settings_of(WarehouseSettings).values() if known.env
)

RUN_SETTINGS: Final = settings_of(Config)
"""Settings that stand above the sections of a file."""

VARIABLES: Final = (
    *ACCOUNT_VARIABLES,
    *WAREHOUSE_VARIABLES,
    *(known.env for known in RUN_SETTINGS.values() if known.env),
    "OMETRIA_CONFIG",
)
"""Every variable of the program."""

SHARED: Final = (
    "tables",
    "full_read_every_days",
    "exclude",
    "hash",
    "normalise",
    "retain",
    "history",
    "follow_erasures",
    "keep_records",
)
"""Settings of an account that a file may also give for all accounts, above the first."""
