"""Ask for the warehouse, and try it as ``check`` does."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.config import masked
from ometria_replica.demo import DEMO
from ometria_replica.doctor.findings import Finding
from ometria_replica.doctor.program import check_extra
from ometria_replica.doctor.warehouse import check_warehouse
from ometria_replica.errors import ConfigError
from ometria_replica.init.questions import WAREHOUSE, is_reference
from ometria_replica.text import counted
from ometria_replica.warehouse import open_warehouse

if TYPE_CHECKING:
    from ometria_replica.init.draft import Draft
    from ometria_replica.init.session import Session

DEFAULT = "duckdb:///warehouse.duckdb"
VARIABLE = "OMETRIA_WAREHOUSE_URL"
_WITHOUT_PASSWORD = re.compile(r"(?P<before>[a-z][a-z0-9+.-]*://[^/:@?]+)(?P<after>@.+)", re.DOTALL)


def ask_warehouse(session: Session, draft: Draft) -> Draft:
    """Ask for the URL, for a password if it has a user, and try the warehouse."""

    def ask(afresh: bool) -> Draft:
        url = session.ask(WAREHOUSE, DEFAULT, afresh=afresh)
        return _with_url(draft, _with_password(session, url))

    def test(tried: Draft) -> None:
        if session.tries:
            _try_warehouse(session, tried)
        else:
            session.config(tried)

    return session.accepted(ask, test)


def _with_password(session: Session, url: str) -> str:
    """Put the password into the URL, percent-encoded, if the URL has a user without one."""
    found = _WITHOUT_PASSWORD.fullmatch(url)
    if found is None or is_reference(WAREHOUSE, url):
        return url
    password = session.prompts.ask_password("Password (not shown; empty if none is needed)")
    if not password:
        return url
    return f"{found['before']}:{quote(password, safe='')}{found['after']}"


def _with_url(draft: Draft, url: str) -> Draft:
    """Put a URL with a password into the environment file."""
    if masked(url) == url:
        return draft.with_warehouse(url=url).with_secret(VARIABLE, None)
    return draft.with_warehouse(url=f"env:{VARIABLE}").with_secret(VARIABLE, url)


def _try_warehouse(session: Session, draft: Draft) -> None:
    """Show what ``check`` finds of the warehouse. Raises the first error in it."""
    config = session.config(draft)
    catalog = CATALOG.of(config.accounts)
    session.prompts.tell("")
    session.show(check_extra(config.warehouse.url))
    results = check_warehouse(replace(config, accounts=()), catalog, (), utc_now())
    session.show(each for each in results if isinstance(each, Finding))
    _show_owners(session, draft)


def _show_owners(session: Session, draft: Draft) -> None:
    """Name the accounts that the warehouse holds; that of a demo should not be beside others."""
    settings = session.config(draft).warehouse
    with open_warehouse(settings.url, dry_run=True, limits=settings.limits) as warehouse:
        owners = [owner.account_id for owner in warehouse.accounts.owners()]
    if DEMO in owners:
        raise ConfigError(
            f"{masked(settings.url)} holds the simulated people of a demo, and a sync would add"
            " yours to them. Use another file, such as duckdb:///shop.duckdb."
        )
    if owners:
        session.prompts.tell(
            f"        It holds {counted(len(owners), 'account')}: {', '.join(owners)}."
        )
