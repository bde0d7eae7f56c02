"""The erasure of people: find them, erase them, list erasures, allow people again."""

from __future__ import annotations

import csv
import re
from contextlib import ExitStack
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from ometria_replica import privacy
from ometria_replica.accounts import owner_of
from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.errors import ConfigError
from ometria_replica.privacy import secret_for
from ometria_replica.pseudonyms import PSEUDONYM
from ometria_replica.run_context import new_id
from ometria_replica.state_commands import chosen_sources, leased, opened, refuse_if_unknown
from ometria_replica.text import names_of
from ometria_replica.warehouse.erasure.erasures import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.suppressions import PersonId
    from ometria_replica.warehouse.erasure.people import Found
    from ometria_replica.warehouse.erasure.receipts import Outcome, Receipt

_PSEUDONYM = re.compile(PSEUDONYM)

Ids = frozenset[tuple["PersonId", str]]
"""Ids of people, each with its kind."""

KINDS: dict[str, PersonId] = {
    "email": "address",
    "profile_id": "profile",
    "customer_id": "customer",
}
"""The kinds of ids, by the names that a user writes."""


@dataclass(frozen=True)
class Erased:
    """The receipts of the erasures of a source, and how many of its people are suppressed."""

    source_id: str
    suppressed: int
    receipts: tuple[Receipt, ...]


def ids_of(
    emails: Iterable[str] = (), profile_ids: Iterable[str] = (), customer_ids: Iterable[str] = ()
) -> Ids:
    """
    Join ids that were given one by one.

    Raises ConfigError for one that is empty or no text, and for an address without an @.
    """
    given = {"email": emails, "profile_id": profile_ids, "customer_id": customer_ids}
    found = [(KINDS[kind], text) for kind, texts in given.items() for text in names_of(texts)]
    if any(not text.strip() for _, text in found):
        raise ConfigError("An id is empty. Nothing was changed.")
    if any("\ud800" <= each <= "\udfff" for _, text in found for each in text):
        raise ConfigError("An id is not written in UTF-8. Nothing was changed.")
    if not all(_is_possible(*each) for each in found):
        raise ConfigError(
            "An email address has an @ in it, and one that was given has none. For another id,"
            " use --profile-id or --customer-id. Nothing was changed."
        )
    return frozenset(found)


def ids_in(file: Path) -> Ids:
    """
    Read a file of ids: one a line as ``kind:value``, or CSV with a column for each kind.

    Kinds are ``email``, ``profile_id`` and ``customer_id``. Raises ConfigError, which quotes no
    line, for a file that cannot be read so.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file} cannot be read as a text of UTF-8 ({type(error).__name__}). Nothing was"
            " changed."
        ) from None
    lines = text.splitlines()
    if lines and any(map(_kind, lines[0].split(","))):
        found = list(_ids_in_csv(file, text))
    else:
        found = [
            _id_in_line(file, place, line) for place, line in enumerate(lines, 1) if line.strip()
        ]
    if not found:
        raise ConfigError(f"{file} names no id. Nothing was changed.")
    return frozenset(found)


def _is_possible(kind: PersonId, text: str) -> bool:
    """Whether a text may be an id of its kind: an address, or the pseudonym of one."""
    return kind != "address" or "@" in text.strip()[1:-1] or bool(_PSEUDONYM.fullmatch(text))


def _checked(file: Path, place: int, kind: PersonId, text: str) -> tuple[PersonId, str]:
    if not _is_possible(kind, text):
        raise ConfigError(f"{file}, line {place}: is no email address. Nothing was changed.")
    return kind, text


def _kind(name: str) -> PersonId | None:
    return KINDS.get(re.sub("[- ]", "_", name.strip(' "').lower()).replace("e_mail", "email"))


def _ids_in_csv(file: Path, text: str) -> Iterator[tuple[PersonId, str]]:
    rows = csv.reader(StringIO(text, newline=""), strict=True)
    refusal = "is not CSV with the columns of the first line. Nothing was changed."
    try:
        header = [_kind(name) for name in next(rows)]
        for row in rows:
            if any(row[len(header) :]):  # An id may be among them, or not be where it belongs.
                raise ConfigError(f"{file}, line {rows.line_num}: {refusal}")
            for kind, cell in zip(header, row, strict=False):
                if kind and cell.strip():
                    yield _checked(file, rows.line_num, kind, cell.strip())
    except csv.Error:
        raise ConfigError(f"{file}, line {rows.line_num}: {refusal}") from None


def _id_in_line(file: Path, place: int, line: str) -> tuple[PersonId, str]:
    name, _, text = line.partition(":")
    kind = _kind(name)
    if kind is None or not text.strip():
        raise ConfigError(
            f"{file}, line {place}: is not an id such as email:ann@example.com, profile_id:1-2 or"
            " customer_id:55. Nothing was changed."
        )
    return _checked(file, place, kind, text.strip())


def find(
    config: Config, ids: Ids, *, again: bool = False, catalog: Catalog = CATALOG
) -> list[Found]:
    """
    Find what each account's tables hold of the people with *ids*. Changes nothing.

    *again* adds the people who are suppressed. Raises ConfigError if the columns are treated
    otherwise than the settings say: people would not be found.
    """
    catalog = _refuse(config, catalog)
    with opened(config, catalog, dry_run=True) as warehouse:
        for account in config.accounts:
            warehouse.refuse_changed_treatments(owner_of(account, catalog))
        return [
            warehouse.erasures.find(_wanted(account, catalog, ids, again=again))
            for account in config.accounts
        ]


def read_held(
    config: Config, ids: Ids, *, catalog: Catalog = CATALOG
) -> dict[str, dict[str, list[dict[str, object]]]]:
    """
    Read all that is held of the people with *ids*: by source, by table. Changes nothing.

    Raises ConfigError as :func:`find` does.
    """
    catalog = _refuse(config, catalog)
    with opened(config, catalog, dry_run=True) as warehouse:
        for account in config.accounts:
            warehouse.refuse_changed_treatments(owner_of(account, catalog))
        return {
            account.source_id: warehouse.erasures.held(_wanted(account, catalog, ids))
            for account in config.accounts
        }


def erase(
    config: Config,
    ids: Ids,
    *,
    blank: bool = False,
    again: bool = False,
    catalog: Catalog = CATALOG,
    clock: Callable[[], datetime] = utc_now,
) -> list[Receipt]:
    """
    Remove people from each account's tables, and let no later run load them again.

    With *blank*, events stay without anything personal. *again* also erases what is held of
    people who are suppressed. Then what the rows have left in the
    storage is removed. Raises Busy, with nothing changed, while a run of one of the accounts is
    active.
    """
    catalog = _refuse(config, catalog)
    outcome: Outcome = "blanked" if blank else "removed"
    now = clock()
    erasure_id = new_id(now)
    with opened(config, catalog) as warehouse, ExitStack() as leases:
        held = [
            leases.enter_context(leased(warehouse, owner_of(account, catalog)))
            for account in config.accounts
        ]
        for account, lease in zip(config.accounts, held, strict=True):
            wanted = _wanted(account, catalog, ids, again=again)
            warehouse.erasures.erase(wanted, outcome, now, erasure_id, lease)
        warehouse.forget_erased(account.source_id for account in config.accounts)
        return [
            receipt
            for account in config.accounts
            for receipt in warehouse.receipts.of(account.source_id)
            if receipt.erasure_id == erasure_id
        ]


def allow(config: Config, ids: Ids, *, catalog: Catalog = CATALOG) -> dict[str, int]:
    """Let later runs load people again; return how many were suppressed, by source."""
    catalog = _refuse(config, catalog)
    allowed = {}
    with opened(config, catalog) as warehouse:
        for account in config.accounts:
            with leased(warehouse, owner_of(account, catalog)):
                wanted = _wanted(account, catalog, ids)
                allowed[account.source_id] = warehouse.erasures.allow(wanted)
    return allowed


def read_erasures(config: Config, accounts: Sequence[str] = ()) -> list[Erased]:
    """Read the receipts of each source in the warehouse, or of the named *accounts*."""
    with opened(config, dry_run=True) as warehouse:
        chosen = chosen_sources(warehouse, config, accounts)
        sources = [
            owner.source_id
            for owner in warehouse.accounts.owners()
            if chosen is None or owner.source_id in chosen
        ]
        return [
            Erased(
                source_id,
                warehouse.suppressions.people(source_id),
                tuple(warehouse.receipts.of(source_id)),
            )
            for source_id in sources
        ]


def _refuse(config: Config, catalog: Catalog) -> Catalog:
    """Refuse settings with a problem; return the tables that are switched on."""
    privacy.refuse_problems(catalog.every, config.accounts)
    refuse_if_unknown(config)
    return catalog.of(config.accounts)


def _wanted(account: AccountSettings, catalog: Catalog, ids: Ids, *, again: bool = False) -> Wanted:
    tables = catalog.every.as_set(account).tables  # Those that are switched off keep their rows.
    return Wanted(account.source_id, tables, ids, secret_for(account), again)
