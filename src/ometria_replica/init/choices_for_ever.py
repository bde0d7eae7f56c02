"""Ask for what cannot change after the first load: the source_id, wide keys, hidden columns."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.errors import ConfigError
from ometria_replica.init.prompts import Choice
from ometria_replica.init.questions import EXCLUDE, HASH, SOURCE_ID
from ometria_replica.init.settings_text import in_toml
from ometria_replica.privacy import problems, problems_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.catalog import Catalog
    from ometria_replica.init.draft import Draft
    from ometria_replica.init.session import Session

FOR_EVER = ("source_id", "wide_keys", "hash", "exclude", "hash_key")
HASH_KEY = "OMETRIA_HASH_KEY"
_KEYS = (
    Choice("no", "the keys of other vendors' replicas: of clicks in one second, one is kept"),
    Choice("yes", "wide keys: every event is kept, under keys that only this program makes"),
)
_PRIVACY = (
    Choice("keep", "every column as Ometria sends it"),
    Choice("hide", "pseudonyms for email addresses; no names, phone numbers or home addresses"),
    Choice("name", "name the columns"),
)


def choose_for_ever(session: Session, draft: Draft) -> Draft:
    """Ask for each of them, with a sentence on what it means."""
    if session.prompts.is_attended:
        session.prompts.tell("\nThe next choices cannot change after the first load.")
    draft = _ask_source_id(session, draft)
    is_wide = session.wide_keys
    if is_wide is None:
        is_wide = (
            session.prompts.choose("Keep apart events that share a key?", _KEYS, "no") == "yes"
        )
    draft = _ask_privacy(session, draft.with_account(wide_keys=is_wide))
    session.prompts.tell("\nThese cannot change after the first load:")
    for name in FOR_EVER:
        if (value := draft.account.get(name)) is not None:
            session.prompts.tell(f"  {name} = {in_toml(value)}")
    if (variable := draft.variable(HASH_KEY)) in draft.secrets:
        session.prompts.tell(
            f"  Keep a copy of {variable}: without it, no sync can make the same pseudonyms."
        )
    return draft


def private_columns(catalog: Catalog) -> tuple[list[str], list[str]]:
    """
    Choose the columns to hash, and those to exclude, so that no row names a person.

    Ids stay: they tell rows apart, and only Ometria knows whose they are.
    """
    hashed = {
        f"*.{column.name}": None
        for table in catalog
        for column in table.columns
        if column.person == "address"
    }
    excluded = [
        f"{table.name}.{column.name}"
        for table in catalog
        if any(column.is_personal and column.name == table.record_id for column in table.columns)
        for column in table.columns
        if column.personal and column.source not in table.identifying_fields
    ]
    return [*hashed], excluded


def _ask_source_id(session: Session, draft: Draft) -> Draft:
    afresh = False
    while True:
        name = session.ask(SOURCE_ID, str(draft.account["account_id"]), afresh=afresh)
        tried = draft.with_account(source_id=name)
        try:
            session.config(tried)
        except ConfigError as error:
            if session.is_to_be_answered_again(error):
                afresh = True
                continue
        return tried


def _ask_privacy(session: Session, draft: Draft) -> Draft:
    catalog = CATALOG.of([session.settings(draft)])
    is_given = any(session.answer(question) is not None for question in (EXCLUDE, HASH))
    if is_given or not session.prompts.is_attended:
        how = "name" if is_given else "keep"
    else:
        how = session.prompts.choose("What to keep of people's data?", _PRIVACY, "keep")
    if how == "keep":
        return draft
    if how == "hide":
        return _hiding(draft, *private_columns(catalog), session)
    afresh = False
    while True:
        hashed = _names(session.ask(HASH, afresh=afresh))
        tried = _hiding(draft, hashed, _names(session.ask(EXCLUDE, afresh=afresh)), session)
        account = session.settings(tried)
        tables = catalog.for_account(account)
        found = [*problems(catalog.every, account), *problems_inside(tables)]
        if found and session.is_to_be_answered_again(ConfigError(found)):
            afresh = True
            continue
        return tried


def _hiding(
    draft: Draft, hashed: Sequence[str], excluded: Sequence[str], session: Session
) -> Draft:
    """Name the columns. Pseudonyms need a secret: one is made if there is none."""
    draft = draft.with_account(hash=list(hashed) or None, exclude=list(excluded) or None)
    variable = draft.variable(HASH_KEY)
    if not hashed and not excluded:
        return draft.with_account(hash_key=None).with_secret(variable, None)
    secret = draft.secrets.get(variable) or session.environ.get(variable) or secrets.token_hex(32)
    return draft.with_account(hash_key=f"env:{variable}").with_secret(variable, secret)


def _names(answer: str) -> list[str]:
    return [name for name in (each.strip() for each in answer.split(",")) if name]
