"""The assets: one for each table, all materialised by one sync, since they share a rate limit."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ometria_replica.catalog import CATALOG
from ometria_replica.dagster.metadata import of_a_run, of_a_table
from ometria_replica.dagster.resource import OmetriaReplica  # noqa: TC001 -- Dagster reads it.
from ometria_replica.errors import TRY_AGAIN_LATER, ConfigError, ReplicaError
from ometria_replica.text import names_of
from ometria_replica.ways_to_read import Feed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ometria_replica.config import Config
    from ometria_replica.report import RunReport
    from ometria_replica.schema import Table
    from ometria_replica.status_report import Status

API, EXPORT = dg.AssetKey("ometria_api"), dg.AssetKey("ometria_export")
NO_REJECTS, FRESH = "nothing_rejected", "complete"
DEFAULT_PREFIX = ("ometria",)


class SyncOptions(dg.Config):
    """
    What a run reads beyond what is new, as in the command ``sync``; days as ``2026-01-31``, in UTC.

    *since* reads again from that day on, and *until* ends after that day. A run of partitions has
    its days from these.
    """

    full: bool = False
    detect_deletes: bool = False
    since: str | None = None
    until: str | None = None
    strict: bool = False


def ometria_sources() -> list[dg.AssetSpec]:
    """Return what the tables come from, as external assets: Ometria's API, and its export."""
    return [
        dg.AssetSpec(API, description="Ometria's REST API.", group_name="ometria", kinds={"api"}),
        dg.AssetSpec(
            EXPORT,
            description="Ometria's self-serve export of email events, in a bucket.",
            group_name="ometria",
            kinds={"s3"},
        ),
    ]


def ometria_assets(
    config: Config | None = None,
    tables: str | Iterable[str] | None = None,
    *,
    name: str = "ometria_sync",
    key_prefix: str | Sequence[str] = DEFAULT_PREFIX,
    group_name: str = "ometria",
    partitions: dg.DailyPartitionsDefinition | None = None,
    max_age: timedelta | None = None,
    max_retries: int = 3,
    seconds_to_wait: float = 300,
    pool: str | None = "ometria",
    owners: Sequence[str] | None = None,
    tags: Mapping[str, str] | None = None,
    resource_key: str = "ometria",
) -> dg.AssetsDefinition:
    """
    Make an asset for each of *tables*, which one sync materialises: any of them can be selected.

    *tables* None means those that *config* switches on, and without settings the five. Settings are
    only for that, and hold no secret in a definition: a run reads its own, of the resource
    *resource_key*. An asset has the key *key_prefix* and the name of its table, and holds the rows
    of all accounts.

    With daily *partitions*, a run of days reads these again, as ``backfill`` does, and a run of the
    newest day alone reads what is new. Without, *since* and *until* of :class:`SyncOptions` do it.

    *max_age* has Dagster expect the assets to be materialised at such intervals, and is the limit
    of the check ``complete``. An error that passes by itself is retried *max_retries* times after
    *seconds_to_wait*; any other is not. Limit the *pool* to one, and runs do not meet in the
    warehouse.

    Raises ConfigError for a table that is not there.
    """
    chosen = _chosen(config, tables)
    prefix = names_of(key_prefix)
    keys = {dg.AssetKey([*prefix, table.name]): table for table in chosen}
    specs = [
        dg.AssetSpec(
            key,
            deps=[EXPORT if isinstance(table.read, Feed) else API],
            description=table.about,
            metadata=of_a_table(table),
            skippable=True,  # Settings may not allow to read it.
            group_name=group_name,
            owners=owners,
            tags=tags,
            kinds={"ometria", *_kind(config)},
            partitions_def=partitions,
            freshness_policy=dg.FreshnessPolicy.time_window(max_age) if max_age else None,
        )
        for key, table in keys.items()
    ]
    checks = [
        dg.AssetCheckSpec(check, asset=key, description=text)
        for key in keys
        for check, text in (
            (NO_REJECTS, "No record, value or file of the run was rejected."),
            (FRESH, "Everything up to the run, or within its age, has been read."),
        )
    ]

    def sync_tables(context: dg.AssetExecutionContext, config: SyncOptions) -> Iterator[Any]:
        replica: OmetriaReplica = getattr(context.resources, resource_key)
        selected = {key: keys[key].name for key in context.selected_asset_keys}
        error: ReplicaError | None = None
        report: RunReport | None = None
        try:
            options = {**_options(config), **_days(context, config)}
            left_out = replica.unreadable(sorted(selected.values()))
            for table, reason in left_out.items():
                context.log.warning("Not read: %s: %s.", table, reason)
            readable = sorted({*selected.values()} - {*left_out})
            if readable:
                report = replica.sync(readable, context=context, **options)
        except ReplicaError as raised:
            error, report = raised, raised.report
        if report is not None:
            for warning in report.warnings:
                context.log.warning("%s", warning)
            for not_read in report.not_read:
                context.log.warning("Not read: %s.", not_read)
            yield from _results(context, replica, report, selected, max_age)
        if error is not None:
            raise _failure(error, max_retries, seconds_to_wait) from error

    # Dagster reads them as they are, and they are texts in this file.
    sync_tables.__annotations__ = {"context": dg.AssetExecutionContext, "config": SyncOptions}
    decorate = dg.multi_asset(
        name=name,
        specs=specs,
        check_specs=checks,
        can_subset=True,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run() if partitions else None,
        required_resource_keys={resource_key},
        pool=pool,
    )
    return decorate(sync_tables)


def _chosen(config: Config | None, tables: str | Iterable[str] | None) -> list[Table]:
    names = () if tables is None else names_of(tables)
    on = CATALOG.of(config.accounts) if config is not None else CATALOG
    return list((on if config is not None or not names else CATALOG.every).only(names).tables)


def _kind(config: Config | None) -> list[str]:
    return [config.warehouse.url.partition(":")[0].partition("+")[0]] if config is not None else []


def _options(config: SyncOptions) -> dict[str, Any]:
    return {
        "full": config.full,
        "detect_deletes": config.detect_deletes,
        "since": _day(config.since),
        "until": _day(config.until),
        "strict": config.strict,
    }


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise ConfigError(f"'{text}' is no day such as 2026-01-31.") from None


def _days(context: dg.AssetExecutionContext, config: SyncOptions) -> dict[str, date]:
    """Return the days of a run of partitions; none of one that reads what is new."""
    if not context.has_partition_key and not context.has_partition_key_range:
        return {}
    if config.since or config.until:
        raise ConfigError("The partitions of a run are its days. Leave out since and until.")
    window = context.partition_time_window
    first, last = window.start.date(), (window.end - timedelta(microseconds=1)).date()
    newest = context.assets_def.partitions_def.get_last_partition_key()
    if context.partition_key_range.end != newest:
        return {"since": first, "until": last}
    return {} if context.partition_key_range.start == newest else {"since": first}


def _results(
    context: dg.AssetExecutionContext,
    replica: OmetriaReplica,
    report: RunReport,
    selected: Mapping[dg.AssetKey, str],
    max_age: timedelta | None,
) -> Iterator[dg.MaterializeResult[Any]]:
    """Give a result for each table that was read in every account, with its checks."""
    read = {each.table for each in report.tables} - {e.table for e in report.tables if e.error}
    status = _status(context, replica, sorted(read & {*selected.values()}), max_age)
    wanted = context.selected_asset_check_keys
    for key, table in selected.items():
        if table in read:
            checks = [_rejects(key, table, report), *_completeness(key, table, status)]
            yield dg.MaterializeResult(
                key,
                metadata=of_a_run(report, table, status),
                check_results=[
                    each
                    for each in checks
                    if dg.AssetCheckKey(key, each.check_name or "") in wanted
                ],
            )


def _status(
    context: dg.AssetExecutionContext,
    replica: OmetriaReplica,
    tables: list[str],
    max_age: timedelta | None,
) -> Status | None:
    if not tables:
        return None
    try:
        return replica.status(tables, max_age)
    except ReplicaError as error:
        context.log.warning("The rows could not be counted: %s", error)
        return None


def _rejects(key: dg.AssetKey, table: str, report: RunReport) -> dg.AssetCheckResult:
    rejected = sum(each.rejected for each in report.tables if each.table == table)
    return dg.AssetCheckResult(
        passed=not rejected,
        asset_key=key,
        check_name=NO_REJECTS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"rejected": rejected},
        description="See `ometria-replica rejects list`." if rejected else None,
    )


def _completeness(
    key: dg.AssetKey, table: str, status: Status | None
) -> Iterator[dg.AssetCheckResult]:
    if status is None:
        return
    old = [each.source_id for each in status.tables_too_old if each.table == table]
    yield dg.AssetCheckResult(
        passed=not old,
        asset_key=key,
        check_name=FRESH,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"max_age_hours": status.max_age.total_seconds() / 3600, "accounts": old},
    )


def _failure(error: ReplicaError, max_retries: int, seconds_to_wait: float) -> Exception:
    """Return what Dagster is told: to try again, or what has to be changed first."""
    if error.exit_code == TRY_AGAIN_LATER:
        return dg.RetryRequested(max_retries, seconds_to_wait)
    metadata: dict[str, str | int] = {"error": type(error).__name__, "exit_code": error.exit_code}
    return dg.Failure(error.sentence, metadata=metadata, allow_retries=False)
