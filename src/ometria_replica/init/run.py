"""The set-up: the questions in their order, a trial of each answer, and the files at the end."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, Secret
from ometria_replica.config.load import config_of, parsed
from ometria_replica.errors import ConfigError
from ometria_replica.init import environment_text, settings_text
from ometria_replica.init.choices_for_ever import choose_for_ever
from ometria_replica.init.draft import Draft
from ometria_replica.init.feed import ask_feed
from ometria_replica.init.files import Files, read
from ometria_replica.init.questions import (
    ACCOUNT_ID,
    API_KEY,
    API_URL,
    EXCLUDE,
    FEED_URL,
    HASH,
    TABLES,
    WAREHOUSE,
)
from ometria_replica.init.sources import ask_key, ask_tables, outcome_of
from ometria_replica.init.target import ask_warehouse
from ometria_replica.init.version_control import not_ignored
from ometria_replica.run_checks import problems_of

if TYPE_CHECKING:
    from datetime import date

    from ometria_replica.doctor.rights import Right
    from ometria_replica.init.session import Session


@dataclass(frozen=True)
class Done:
    """
    What was written. *has_environment* says whether there is an environment file to load.

    *is_added* says whether the account was added to files that were there.
    """

    files: Files
    has_environment: bool
    is_added: bool
    account_id: str
    source_id: str
    rights: tuple[Right, ...] = ()
    warnings: tuple[str, ...] = field(default=())


def set_up(session: Session, files: Files, today: date, *, adds: bool = False) -> Done:
    """
    Ask, try and write. With *adds*, add the account to a settings file that is there.

    Nothing is written before the last answer. Raises ConfigError for files that are there, and
    for an answer that is missing where nobody can be asked; and, there, what a trial raises.
    """
    files.refuse_same()
    before = read(files.settings) if adds else ""
    if adds:
        session, draft = _continued(session, files)
    else:
        files.refuse_existing()
        draft = Draft()
        session.config(draft.with_feed(url="."))  # What else is wrong, no answer could mend.
    _refuse_names(session)
    draft = draft.with_account(account_id=session.ask(ACCOUNT_ID, "default"))
    if (api_url := session.answer(API_URL)) is not None:
        draft = draft.with_account(api_url=api_url)
    draft = ask_key(session, draft)
    draft = ask_feed(session, draft)
    if not draft.account.get("api_key") and not draft.feed:
        raise ConfigError(
            "An account needs an API key, a feed or both: give"
            f" {API_KEY.option} FILE ({API_KEY.option} - reads standard input) or set"
            f" {API_KEY.setting.env}; or give {FEED_URL.option} URL."
        )
    draft = ask_tables(session, draft)
    if not adds:
        draft = ask_warehouse(session, draft)
    draft = choose_for_ever(session, draft)
    session.config(draft)  # Everything together, with the accounts that were there.
    _warn(session, files, draft)  # Before the files: after them, nothing can be interrupted.
    _write(files, before, draft, today)
    return Done(
        files,
        files.environment.exists(),
        adds,
        str(draft.account["account_id"]),
        str(draft.account.get("source_id") or draft.account["account_id"]),
        tuple(session.rights),
        tuple(session.warnings),
    )


def next_steps(done: Done, *, is_default: bool) -> str:
    """Write what was written, and the commands that come next."""
    option = "" if is_default else f" --config {shlex.quote(str(done.files.settings))}"
    load = environment_text.load_command(done.files.environment)
    wrote = f"Wrote {done.files.settings}"
    if done.is_added:
        wrote = f"Added {done.account_id} to {done.files.settings}"
    elif done.has_environment:
        wrote += f", and {done.files.environment} with the secrets, which only you can read"
    return "\n".join(
        [
            f"{wrote}.",
            "",
            "Next:",
            "",
            *([f"    {load}"] if done.has_environment else []),
            f"    ometria-replica check{option}",
            f"    ometria-replica sync{option}",
        ]
    )


def as_data(done: Done) -> dict[str, object]:
    """Write the result as data for JSON."""
    return {
        "config": str(done.files.settings),
        "env_file": str(done.files.environment) if done.has_environment else None,
        "account_id": done.account_id,
        "source_id": done.source_id,
        "endpoints": {right.endpoint: outcome_of(right) for right in done.rights},
        "warnings": list(done.warnings),
    }


def _refuse_names(session: Session) -> None:
    """Raise ConfigError for tables and columns in options that are not there: nothing is tried."""
    given: dict[str, Any] = {
        question.name: question.setting.check(raw)
        for question in (TABLES, HASH, EXCLUDE)
        if (raw := session.answer(question)) is not None
    }
    secret = Secret("a secret will be made", "init")
    name = session.answer(ACCOUNT_ID) or "default"
    account = AccountSettings(account_id=name, api_key=secret, hash_key=secret, **given)
    if problems := [problem for _, problem in problems_of(account, CATALOG)]:
        raise ConfigError(problems)


def _continued(session: Session, files: Files) -> tuple[Session, Draft]:
    """Begin with the accounts of the file, and with the variables of the environment file."""
    if not files.settings.exists():
        raise ConfigError(
            f"{files.settings} does not exist, so no account can be added to it."
            " Leave out --add-account, or name the file with --config."
        )
    if session.answer(WAREHOUSE) is not None:
        raise ConfigError(
            f"{WAREHOUSE.option}: all accounts of {files.settings} are kept in its warehouse, so"
            " an account that is added has no other. Leave the option out, or name another file"
            " with --config, without --add-account."
        )
    document = parsed(files.settings)
    if not isinstance(document.get("accounts"), list):
        raise ConfigError(
            f"{files.settings} has no [[accounts]], so no account can be added to it: write that"
            " section for the account that the environment describes, as docs/reference/settings.md"
            " shows."
        )
    variables = environment_text.variables_in(read(files.environment), files.environment)
    session = session.with_variables(variables)
    config_of(document, session.environ, files.settings)  # What is wrong there is mended first.
    return session, Draft(before=document)


def _write(files: Files, before: str, draft: Draft, today: date) -> None:
    secrets = draft.secrets
    if not draft.is_added:
        environment = environment_text.new_environment(secrets, files.environment)
        files.create(settings_text.new_file(draft, today), environment if secrets else None)
        return
    kept = read(files.environment)
    there = environment_text.variables_in(kept, files.environment)
    if taken := [name for name, value in secrets.items() if there.get(name, value) != value]:
        raise ConfigError(
            f"{files.environment} has {name} already, with another value."
            f" Choose another {ACCOUNT_ID.option}, or remove that line."
            for name in taken
        )
    secrets = {name: value for name, value in secrets.items() if name not in there}
    if kept:
        environment = environment_text.added_environment(kept, secrets)
    else:
        environment = environment_text.new_environment(secrets, files.environment)
    added = settings_text.added_account(before, draft, today)
    files.change(before, added, environment if secrets else None)


def _warn(session: Session, files: Files, draft: Draft) -> None:
    """Warn of what would undo what was set up."""
    for name in draft.overriding(session.environ):
        session.warn(f"{name} is set in this shell, and overrides {files.settings}: unset it.")
    if draft.secrets and not_ignored(files.environment):
        session.warn(
            f"git does not ignore {files.environment}, which holds secrets:"
            f" add its name to .gitignore."
        )
