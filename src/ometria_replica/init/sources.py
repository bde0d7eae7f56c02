"""Ask for the API key, and try it; and ask for the tables that can be read with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.config import ALL
from ometria_replica.doctor.rights import rights
from ometria_replica.errors import ConfigError, ReplicaError
from ometria_replica.init.questions import API_KEY, TABLES

if TYPE_CHECKING:
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import Config
    from ometria_replica.doctor.rights import Right
    from ometria_replica.init.draft import Draft
    from ometria_replica.init.session import Session


def ask_key(session: Session, draft: Draft) -> Draft:
    """Ask for the API key, and try each endpoint with it. The key is optional."""
    variable = draft.variable(API_KEY.setting.env or "")
    key = session.answer(API_KEY)
    if key is None and draft.is_added:
        key = session.environ.get(variable)
    if key and session.prompts.is_attended:
        session.prompts.tell("\nAPI key: the one that was given.")
    while True:
        key = key or session.prompts.ask_secret(API_KEY)
        if not key:
            return draft
        tried = draft.with_account(api_key=f"env:{variable}").with_secret(variable, key)
        try:
            config = session.config(tried)
            if session.tries:
                _try_key(session, config)
        except ReplicaError as error:
            if session.is_to_be_answered_again(error, tried):
                key = None
                continue
        return tried


def _try_key(session: Session, config: Config) -> None:
    """Show what the key may read. Raises the first error if that is nothing at all."""
    account = replace(config.accounts[-1], tables=(ALL,))
    session.rights.clear()
    session.prompts.tell(f"\nWith this key, {account.api_url}:")
    for right in rights(account):
        session.rights.append(right)
        why = f" ({right.untried})" if right.untried else ""
        words, names = outcome_of(right), ", ".join(right.tables)
        session.prompts.tell(f"  {words:12}  {right.endpoint:24}  {names}{why}")
    errors = [right.error for right in session.rights if right.error is not None]
    if errors and not any(right.is_granted for right in session.rights):
        raise errors[0]
    for right in session.rights:
        if outcome_of(right) == "failed":
            session.warn(f"{right.endpoint}: {right.error}")


def outcome_of(right: Right) -> str:
    """Say in a few words whether the key may read an endpoint."""
    if right.is_granted:
        return "may read"
    if right.is_refused:
        return "may not read"
    if right.is_missing:
        return "not there"
    return "not tried" if right.untried else "failed"


def ask_tables(session: Session, draft: Draft) -> Draft:
    """Ask which tables to replicate: by default the five, or those of them that can be read."""
    readable = _readable(session)
    default = ",".join(readable)
    if len(readable) < len(CATALOG.names) and session.answer(TABLES) is None:
        lacking = ", ".join(name for name in CATALOG.names if name not in readable)
        session.warn(f"the API key may not read {lacking}: a sync would fail, so it is left out.")
    afresh = False
    while True:
        answer = session.ask(TABLES, default, afresh=afresh)
        names = [name for name in (each.strip() for each in answer.split(",")) if name]
        value: object = ALL if names == [ALL] else names
        if {*names} == {*CATALOG.names}:
            value = None  # The default, which may come to be more.
        tried = draft.with_account(tables=value)
        try:
            _refuse_tables(CATALOG.of([session.settings(tried)]))
        except ConfigError as error:
            if session.is_to_be_answered_again(error):
                afresh = True
                continue
        return tried


def _refuse_tables(catalog: Catalog) -> None:
    """Raise ConfigError for a table inside one that is not replicated."""
    if problems := [*catalog.problems()]:
        raise ConfigError(problems)


def _readable(session: Session) -> list[str]:
    """List the five, without those of endpoints that the key may not read."""
    refused = {name for right in session.rights if right.is_refused for name in right.tables}
    return [name for name in CATALOG.names if name not in refused]
