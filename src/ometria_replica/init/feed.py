"""Ask for the feed and for the way to sign in to its bucket, list it, and look into one file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.catalog import CATALOG
from ometria_replica.clock import utc_now
from ometria_replica.doctor.feed import check_feed
from ometria_replica.doctor.findings import Finding
from ometria_replica.init.prompts import Choice
from ometria_replica.init.questions import (
    ACCESS_KEY_ID,
    ENDPOINT_URL,
    FEED_URL,
    PATTERN,
    PROFILE,
    REGION,
    SECRET_ACCESS_KEY,
)
from ometria_replica.init.sample import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ometria_replica.config import Config
    from ometria_replica.init.draft import Draft
    from ometria_replica.init.session import Session
    from ometria_replica.records import FeedFile
    from ometria_replica.schema import Table

_SIGN_IN = (
    Choice("aws", "as AWS's own programs do: variables, configuration files, a role"),
    Choice("profile", "with a profile of the AWS configuration files"),
    Choice("key", "with an access key of its own, such as one for a shared bucket"),
)
_SECRETS = (
    (ACCESS_KEY_ID, "OMETRIA_FEED_KEY_ID"),
    (SECRET_ACCESS_KEY, "OMETRIA_FEED_SECRET"),
)
_AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")


def ask_feed(session: Session, draft: Draft) -> Draft:
    """Ask for the feed, list it, and look into one file. The feed is optional."""

    def ask(afresh: bool) -> Draft:
        url = session.ask(FEED_URL, afresh=afresh)
        if not url:
            return draft
        tried = draft.with_feed(url=url)
        if pattern := session.answer(PATTERN):
            tried = tried.with_feed(pattern=pattern)
        return _ask_bucket(session, tried, afresh=afresh) if url.startswith("s3://") else tried

    def test(tried: Draft) -> None:
        if tried is draft:
            return
        config = session.config(tried)
        if session.tries:
            _try_feed(session, config)

    return session.accepted(ask, test)


def _ask_bucket(session: Session, draft: Draft, *, afresh: bool) -> Draft:
    """Ask where the bucket is, and how to sign in to it."""
    for question in (REGION, ENDPOINT_URL):
        answer = session.ask(question, afresh=afresh)
        draft = draft.with_feed(**{question.name: answer or None})
    how = "aws"
    if session.answer(PROFILE) and not afresh:
        how = "profile"
    elif session.prompts.is_attended:
        how = session.prompts.choose("How to sign in to the bucket?", _SIGN_IN, "aws")
    if how == "profile":
        return draft.with_feed(profile=session.ask(PROFILE, afresh=afresh) or None)
    if how == "key":
        return _ask_key(session, draft)
    if found := [name for name in _AWS_VARIABLES if name in session.environ]:
        session.prompts.tell(f"  The bucket is read with {found[0]} of this shell: keep it set.")
    return draft


def _ask_key(session: Session, draft: Draft) -> Draft:
    for question, name in _SECRETS:
        variable = draft.variable(name)
        if answer := session.prompts.ask_secret(question):
            draft = draft.with_feed(**{question.name: f"env:{variable}"})
            draft = draft.with_secret(variable, answer)
    return draft


def _try_feed(session: Session, config: Config) -> None:
    """Show what ``check`` finds of the feed, and a few rows. Raises the first error in it."""
    account, limits = config.accounts[-1], config.warehouse.limits

    def look(file: FeedFile, table: Table) -> Iterator[Finding]:
        lines.extend(rows_of(file, table, account, limits))
        return iter(())

    lines: list[str] = []
    session.prompts.tell("")
    found = check_feed(account, CATALOG, limits, utc_now, look=look)
    try:
        session.show(each for each in found if isinstance(each, Finding))
    finally:
        session.prompts.tell("\n".join(f"        {line}" for line in lines))
