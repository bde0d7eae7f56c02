"""Changes the treatments of columns for rows that are there: the command ``rehash``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ometria_replica import privacy
from ometria_replica.accounts import owner_of
from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.errors import ConfigError
from ometria_replica.raw_records import hides_values
from ometria_replica.selection import Selection
from ometria_replica.state_commands import leased, opened
from ometria_replica.warehouse.rehashing.histories import HistoryRewriting

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from datetime import datetime

    from ometria_replica.batch import Lease, Owner
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.schema import ColumnTreatment, Table
    from ometria_replica.warehouse.rehashing.rows import Rewritten
    from ometria_replica.warehouse.warehouse import Warehouse

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rehashed:
    """
    What was done to a table of a source: *rows* were rewritten, or *removed* to be read again.

    *merged* of them now have the key of a newer one, and are gone. *remains* says what may still
    hold the values of before; empty if nothing does.
    """

    source_id: str
    table: str
    rows: int
    merged: int = 0
    removed: bool = False
    remains: str = ""


def rehash(
    config: Config,
    *,
    reload: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> list[Rehashed]:
    """
    Rewrite the rows of tables whose columns the settings now exclude or hash.

    Where there are transactions, all tables of an account are rewritten in one. With *reload*,
    the rows of a table that cannot be rewritten are removed, and the next run reads them again.
    At the end, what rows have left in the storage is removed, also if none had to be rewritten.

    Raises ConfigError for what cannot be done, with no row of that account changed: a pseudonym or
    an excluded value cannot become a value again, nor can another secret be used, and the key of
    a row may be made of what is not stored. Raises Busy while a run is active.
    """
    privacy.refuse_problems(catalog.every, config.accounts)
    catalog = catalog.of(config.accounts)
    with opened(config, catalog) as warehouse:
        done: list[Rehashed] = []
        try:
            for account in config.accounts:
                done += _Rehash(warehouse, account, catalog, clock()).run(reload=reload)
        except ConfigError:
            if done:  # Accounts before the one that is refused.
                warehouse.forget_deleted()
            raise
        remains = warehouse.forget_deleted()  # Maybe of a call that was interrupted before this.
        if remains and not done:
            logger.warning("%s", remains)
    return [replace(each, remains=remains) for each in done]


@dataclass(frozen=True)
class _Rehash:
    warehouse: Warehouse
    account: AccountSettings
    catalog: Catalog
    now: datetime

    def run(self, *, reload: bool) -> list[Rehashed]:
        source_id = self.account.source_id
        wanted = owner_of(self.account, self.catalog)
        noted = self.warehouse.noted_treatments(source_id)
        with leased(self.warehouse, replace(wanted, treatments=noted)) as lease:
            # Refuses another secret, with which no sync could read again what is removed here.
            self.warehouse.suppressions.of(source_id, privacy.secret_for(self.account))
            return self._rewrite(wanted, noted, lease, reload=reload)

    def _rewrite(
        self,
        wanted: Owner,
        noted: frozenset[ColumnTreatment],
        lease: Callable[[], Lease],
        *,
        reload: bool,
    ) -> list[Rehashed]:
        changed = {each.table_name for each in noted ^ wanted.treatments}
        tables = [t for t in self.catalog.every.as_set(self.account) if self._is_held(t, changed)]
        problems = {table.name: _impossible(table, noted, wanted.treatments) for table in tables}
        warehouse = self.warehouse
        rewriting = HistoryRewriting(warehouse.sessions, warehouse.connection, warehouse.state)
        prepared: list[Rewritten] = []
        for table in tables:
            if not problems[table.name]:
                stored = privacy.as_noted(table, noted)
                found = rewriting.prepare(stored, table, self.account.source_id)
                if found.unknown:
                    problems[table.name] = (
                        f"the keys of {found.unknown:,} of {found.rows:,} rows are made of texts"
                        " that are not stored"
                    )
                else:
                    prepared.append(found)
        to_reload = [table for table in tables if problems[table.name]]
        if to_reload and not reload:
            raise ConfigError(
                f"{table.name} of '{self.account.source_id}' cannot be rewritten:"
                f" {problems[table.name]}. No row of the account was changed. Restore the old"
                " setting, or run"
                " `ometria-replica rehash --reload`, which removes these rows, and then"
                " `ometria-replica sync`, which reads them again, as far as Ometria and the"
                " export still have them."
                for table in to_reload
            )
        return list(self._write(rewriting, prepared, to_reload, (wanted, noted), lease))

    def _is_held(self, table: Table, changed: Container[str]) -> bool:
        """Whether a table is one of those *changed*, and exists: one that is off may do."""
        is_on = table.name in self.catalog.names
        of_source = Selection(self.account.source_id)
        return table.name in changed and (is_on or self.warehouse.count(table, of_source) > 0)

    def _write(
        self,
        rewriting: HistoryRewriting,
        prepared: Iterable[Rewritten],
        to_reload: Iterable[Table],
        change: tuple[Owner, frozenset[ColumnTreatment]],
        lease: Callable[[], Lease],
    ) -> Iterator[Rehashed]:
        source_id, (wanted, noted) = self.account.source_id, change
        tables = self.catalog.every.as_set(self.account).tables
        with self.warehouse.sessions.writing("rewriting rows", "the rewritten rows"):
            self.warehouse.leases.renew(lease())  # To read the rows may have taken long.
            for table in tables:
                if hides_values(table, tables):
                    rewriting.forget_records(table, source_id)
            for found in prepared:
                run_id = lease().run_id
                rewriting.write(found, source_id, run_id, self.now)
                stored = privacy.as_noted(found.table, noted)
                rewriting.rewrite(stored, found.table, source_id, run_id, self.now)
                yield Rehashed(source_id, found.table.name, found.rows, found.merged)
            for table in to_reload:
                rows = self.warehouse.count(table, Selection(source_id))
                rewriting.remove(table, source_id, self.now)
                rewriting.remove_history(table, source_id)
                yield Rehashed(source_id, table.name, rows, removed=True)
            if noted != wanted.treatments:  # They are copies of the old values.
                self.warehouse.marts.clear(source_id)
            self.warehouse.treatments.note(wanted, self.now)
            self.warehouse.leases.renew(lease())


def _impossible(
    table: Table, noted: frozenset[ColumnTreatment], wanted: frozenset[ColumnTreatment]
) -> str:
    """Say which change of a column cannot be made of what is stored; empty if each can."""
    before = {each.column_name: each for each in noted if each.table_name == table.name}
    after = {each.column_name: each for each in wanted if each.table_name == table.name}
    for name, old in before.items():
        new = after.get(name)
        if new and old.check and new.check and old.check != new.check:
            return f"{name} is hashed with another hash_key, and pseudonyms cannot be changed"
        if new is None or new.treatment not in {old.treatment, "excluded"}:
            was = "is excluded" if old.treatment == "excluded" else f"is {old.treatment}"
            return f"{name} {was}, and its values are not there"
    return ""
