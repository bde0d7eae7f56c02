"""The resource: where the settings of a run are, and what is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from ometria_replica.accounts import only_accounts
from ometria_replica.api import plan, status, sync
from ometria_replica.catalog import CATALOG
from ometria_replica.config import Config, load_config
from ometria_replica.ometria.account_source import setting_missing
from ometria_replica.status_report import TOO_OLD
from ometria_replica.text import counted

if TYPE_CHECKING:
    from datetime import date, timedelta

    from ometria_replica.planning.plan_report import Plan
    from ometria_replica.report import RunReport, TableReport
    from ometria_replica.status_report import Status


class OmetriaReplica(dg.ConfigurableResource):  # type: ignore[type-arg]  # Its value is itself.
    """
    The replica that the settings describe.

    *config_path* is the path of ``ometria.toml``; None means that of ``OMETRIA_CONFIG``, or the
    file in the working directory if it is there. *warehouse_url* overrides that of the settings,
    and holds no password. *accounts* names those to read; none means all. Secrets are not among
    these: the settings name their variables or files, of the process that runs the assets.
    """

    config_path: str | None = None
    warehouse_url: str | None = None
    accounts: list[str] = []  # noqa: RUF012 -- Pydantic copies it.

    def settings(self) -> Config:
        """Read the settings. Raises ConfigError with everything that is wrong with them."""
        return load_config(self.config_path, warehouse_url=self.warehouse_url)

    def unreadable(self, tables: list[str]) -> dict[str, str]:
        """Return those of *tables* that no account can read, each with the setting that lacks."""
        accounts = only_accounts(self.settings(), self.accounts).accounts
        missing = {
            name: [setting_missing(each, CATALOG.every.table(name)) for each in accounts]
            for name in tables
        }
        return {name: str(found[0]) for name, found in missing.items() if found and all(found)}

    def sync(
        self,
        tables: list[str],
        *,
        context: dg.AssetExecutionContext | None = None,
        full: bool = False,
        detect_deletes: bool = False,
        since: date | None = None,
        until: date | None = None,
        strict: bool = False,
    ) -> RunReport:
        """Sync *tables*, as :func:`ometria_replica.sync` does; tell *context* of each table."""
        return sync(
            self.settings(),
            tables,
            accounts=self.accounts,
            full=full,
            detect_deletes=detect_deletes,
            since=since,
            until=until,
            strict=strict,
            progress=_Told(context) if context else None,
        )

    def status(self, tables: list[str] | None = None, max_age: timedelta | None = None) -> Status:
        """Say how fresh *tables* are, as :func:`ometria_replica.status` does; None means all."""
        limit = TOO_OLD if max_age is None else max_age
        return status(self.settings(), tables or (), accounts=self.accounts, max_age=limit)

    def plan(self, tables: list[str] | None = None, *, offline: bool = False) -> Plan:
        """Plan a sync, as :func:`ometria_replica.plan` does; None means all tables."""
        return plan(self.settings(), tables or (), accounts=self.accounts, offline=offline)


class _Told:
    """Tells the log of a Dagster run of each table that was read."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._log = context.log

    def start(self, source_id: str, table: str, total: int | None, unit: str) -> None:
        expected = f", {total:,} {unit} expected" if total else ""
        self._log.info("%s %s: reading%s", source_id, table, expected)

    def advance(self, source_id: str, table: str, records: int, requests: int, done: int) -> None:
        pass

    def finish(self, report: TableReport) -> None:
        told = self._log.error if report.error else self._log.info
        told(
            "%s %s: %s read, %s inserted, %s updated, %s, %.1f s%s",
            report.source_id,
            report.table,
            counted(report.records, "record"),
            counted(report.inserted, "row"),
            f"{report.updated:,}",
            counted(report.requests, "request"),
            report.seconds,
            f"; failed: {report.error}" if report.error else "",
        )
