"""Tests the warehouse: opens it, tries a sync that is rolled back, and looks at the state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ometria_replica import history
from ometria_replica.config import masked
from ometria_replica.doctor.findings import Finding, failed, of_account, passed, tested, warned
from ometria_replica.doctor.machine import Load
from ometria_replica.duckdb_files import duckdb_path, file_name_warning
from ometria_replica.errors import ReplicaError
from ometria_replica.maintenance_report import due_as_text
from ometria_replica.replication import owner_of
from ometria_replica.text import counted
from ometria_replica.warehouse import local_places, open_warehouse
from ometria_replica.warehouse.state_upgrades import STATE_VERSION, version_of
from ometria_replica.warehouse.trial import try_sync

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ometria_replica.batch import Owner
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config
    from ometria_replica.doctor.feed import FeedFacts
    from ometria_replica.warehouse.warehouse import Warehouse

OPEN: Final = "warehouse.open"
PRIVILEGES: Final = "warehouse.privileges"
STATE: Final = "warehouse.state"
ROWS: Final = "warehouse.rows"
FILES: Final = "warehouse.unreadable"
MAINTENANCE: Final = "warehouse.maintenance"


def check_warehouse(
    config: Config, catalog: Catalog, facts: Sequence[FeedFacts], now: datetime
) -> Iterator[Finding | Load]:
    """Open the warehouse, try a sync in it, and find out what the next one has to load."""
    url = config.warehouse.url
    if name := file_name_warning(url, catalog):
        text, _, mend = name.partition(". ")
        yield warned("warehouse.file_name", f"{text}.", mend)
    found: list[Load] = []
    yield from tested(
        OPEN, f"The warehouse {_named(url)} cannot be used.",
        lambda: _opened(config, catalog, facts, now, found),
    )  # fmt: skip
    yield from found or [Load(each.files, each.expansion or 1) for each in facts]


def folder_of(url: str) -> Path | None:
    """Return where a warehouse on this machine keeps its rows; None for any other."""
    path = duckdb_path(url)
    places = [Path(path)] if path else local_places(url)
    return places[-1].absolute() if places else None


def _named(url: str) -> str:
    path = duckdb_path(url)
    return f"{Path(path).absolute()}" if path else masked(url)


def _opened(
    config: Config,
    catalog: Catalog,
    facts: Sequence[FeedFacts],
    now: datetime,
    loads: list[Load],
) -> Iterator[Finding]:
    url = config.warehouse.url
    with open_warehouse(
        url, catalog=catalog, dry_run=True, limits=config.warehouse.limits
    ) as warehouse:
        warehouse.check_access()
        remark = warehouse.remark()
        is_new = (path := duckdb_path(url)) is not None and not Path(path).exists()
        how = "does not exist yet, and can be created" if is_new else "can be opened"
        yield passed(OPEN, f"The warehouse {_named(url)} {how}{f' ({remark})' if remark else ''}.")
        yield from _privileges(warehouse, _with_histories(config, catalog), now)
        yield from tested(STATE, "The state cannot be read.", lambda: _state(warehouse))
        told: set[str] = set()
        for account in config.accounts:
            owner = owner_of(account, catalog)
            yield from of_account(
                tested(
                    ROWS, "The settings do not fit the rows that are there.",
                    lambda owner=owner: _lost(warehouse, owner, now, told),  # type: ignore[misc] # mypy cannot infer its default.
                ),
                account.source_id,
            )  # fmt: skip
        for each in facts:
            yield from of_account(
                tested(
                    FILES, "The file log cannot be read.",
                    lambda each=each: _files(warehouse, each, loads),  # type: ignore[misc] # As above.
                ),
                each.source_id,
            )  # fmt: skip
        yield from tested(
            MAINTENANCE, "The files of the tables cannot be looked at.",
            lambda: _maintenance(warehouse, catalog),
        )  # fmt: skip


def _privileges(warehouse: Warehouse, catalog: Catalog, now: datetime) -> Iterator[Finding]:
    """Try a sync; where that fails, of each table by itself, so that all that lacks is told."""
    try:
        if try_sync(warehouse, catalog, now):
            text = "A sync was tried and rolled back: it created, loaded, replaced and removed rows"
            yield passed(PRIVILEGES, f"{text} in {counted(len(catalog.tables), 'table')}.")
        else:
            yield passed(
                PRIVILEGES, "The warehouse can be written, as far as its permissions tell: here a"
                " trial could not be rolled back.",
            )  # fmt: skip
    except ReplicaError as first:
        told: dict[str, tuple[ReplicaError, list[str]]] = {}
        for table in catalog:
            try:
                try_sync(warehouse, replace(catalog, tables=(table,), joins=()), now)
            except ReplicaError as error:
                told.setdefault(str(error), (error, []))[1].append(table.name)
        for cause, names in told.values() or [(first, [])]:
            of = f" of {', '.join(names)}" if len(names) < len(catalog.tables) and names else ""
            text = f"A sync{of} was tried and rolled back, and failed: the next one would too."
            yield failed(PRIVILEGES, text, cause)


def _with_histories(config: Config, catalog: Catalog) -> Catalog:
    """Let each table keep its history, if it does for any account."""
    tables = list(catalog)
    for account in config.accounts:
        tables = [history.with_history(table, account) for table in tables]
    return replace(catalog, tables=tuple(tables))


def _state(warehouse: Warehouse) -> Iterator[Finding]:
    with warehouse.sessions.open("reading the version of the state"):
        version = version_of(warehouse.sessions.engine)
    if version is None:
        yield passed(STATE, "No sync has run here yet: the first one reads everything.")
    elif version < STATE_VERSION:
        upgraded = f"the next sync upgrades it to version {STATE_VERSION}"
        yield passed(STATE, f"The state has version {version}; {upgraded}.")
    else:
        yield passed(STATE, f"The state has version {version}, that of this program.")


def _lost(warehouse: Warehouse, owner: Owner, now: datetime, told: set[str]) -> Iterator[Finding]:
    """Warn of what is gone, unless it was *told* of another account: a table is of all of them."""
    for warning in warehouse.prepare(owner, now):
        if warning not in told:
            told.add(warning)
            yield warned(
                ROWS, warning,
                "Run `ometria-replica sync`; or before, if you have a backup of the tables and the"
                " state of one time, restore it.",
            )  # fmt: skip


def _files(warehouse: Warehouse, facts: FeedFacts, loads: list[Load]) -> Iterator[Finding]:
    """Tell files that could not be read, and note in *loads* those that are new."""
    known = warehouse.state.table_state(facts.source_id, facts.table.name)
    new = warehouse.state.new_files(facts.source_id, facts.table.name, facts.files)
    loads.append(Load(tuple(new), facts.expansion or 1))
    if known.unreadable:
        again = f"; {len(known.retry_files):,} of them will be tried again"
        yield warned(
            FILES,
            f"{counted(known.unreadable, 'file')} of {facts.table.name} could not be read"
            f"{again if known.retry_files else ''}.",
            "See `ometria-replica rejects list` for the reason of each.",
        )


def _maintenance(warehouse: Warehouse, catalog: Catalog) -> Iterator[Finding]:
    """Tell of a lake whether its tables should be maintained; nothing of any other warehouse."""
    if warehouse.maintains_itself():
        return
    if due := warehouse.maintenance_due([*catalog.stored, *catalog.records]):
        text = due_as_text(due)
        yield warned(
            MAINTENANCE, f"{text[0].upper()}{text[1:]}",
            "Run `ometria-replica maintain`; with --dry-run, it shows what it would do.",
        )  # fmt: skip
    else:
        yield passed(MAINTENANCE, "No table needs maintenance.")
