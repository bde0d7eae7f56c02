"""Tests the API of an account: the key's right for each endpoint, and the clock."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ometria_replica.config import is_loopback
from ometria_replica.doctor.clock import ahead_of
from ometria_replica.doctor.findings import Finding, failed, passed, warned
from ometria_replica.doctor.rights import ANSWER_WITHIN, NOTHING_TO_ASK, Right, rights_of
from ometria_replica.errors import OmetriaError
from ometria_replica.ometria.account_source import AccountSource
from ometria_replica.text import span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings

RIGHT: Final = "api.right"
CLOCK: Final = "api.clock"

CLOCK_WARNS = timedelta(seconds=5)
"""More than a clock that is set by the network is off."""

CLOCK_FAILS = timedelta(minutes=15)
"""S3 refuses requests beyond it, and two such machines misjudge each other's leases."""

_SET_IT = (
    "Let the system set its clock by the network (NTP): timedatectl set-ntp true on Linux with"
    " systemd; in a container, on its host."
)


def check_api(
    account: AccountSettings, tables: Catalog, clock: Callable[[], datetime]
) -> Iterator[Finding]:
    """Ask each endpoint that *tables* need, and compare the clocks by the answers."""
    with AccountSource(account, clock(), tables, answer_within=ANSWER_WITHIN) as source:
        found = list(rights_of(source, account, tables, clock=clock))
    asked = [right for right in found if right.untried is None]
    if len(asked) > 1 and all(right.is_refused for right in asked):
        yield _wrong_key(account, asked)  # Once is enough.
    else:
        yield from map(_right, asked)
        yield from _untried([right for right in found if right.untried is not None])
    yield _clock(account, found)


def _wrong_key(account: AccountSettings, rights: Sequence[Right]) -> Finding:
    names = ", ".join(f"/{right.endpoint}" for right in rights)
    return failed(
        RIGHT,
        f"{_host(account)} refuses the API key for every endpoint that was asked: {names}.",
        rights[0].error or OmetriaError(),
        "Check that the key is whole and of this account, in Ometria under Settings > API keys, and"
        " that it may read these endpoints.",
    )


def _untried(rights: Sequence[Right]) -> Iterator[Finding]:
    """Name the endpoints that were not asked, those of one reason at once."""
    alike: dict[str, list[Right]] = {}
    for right in rights:
        alike.setdefault(right.untried or "", []).append(right)
    for reason, of_reason in alike.items():
        names = ", ".join(f"/{right.endpoint}" for right in of_reason)
        text = f"GET {names}: not tried, since {reason}."
        if reason == NOTHING_TO_ASK:
            yield passed(RIGHT, text)
        else:
            yield warned(RIGHT, text, "Mend what is above, then run check again.")


def _right(right: Right) -> Finding:
    what, needing = f"GET /{right.endpoint}", ", ".join(right.tables)
    if right.error is None:
        return passed(RIGHT, f"{what}: the key may read it, for {needing}.")
    without = f"{needing} cannot be read" if not right.can_lack else f"a sync leaves out {needing}"
    if right.is_refused:
        text = f"{what}: the API key has no right to it; {without}."
        mend = (
            "Give the key that right, in Ometria under Settings > API keys, or leave out the"
            " tables in the setting tables (OMETRIA_TABLES)."
        )
    elif right.is_missing and right.can_lack:
        text = f"{what}: there is nothing at that address; {without}."
        mend = "Leave out the tables in the setting tables (OMETRIA_TABLES), or check api_url."
    else:
        text, mend = f"{what}: no good answer; {without}.", str(right.error)
        return failed(RIGHT, text, right.error, mend)
    if right.can_lack:
        return warned(RIGHT, text, mend)
    return failed(RIGHT, text, right.error, mend)


def _clock(account: AccountSettings, rights: Sequence[Right]) -> Finding:
    """Compare the clocks; a server on this machine has no other than this machine's."""
    host = _host(account)
    answers = [right.heard for right in rights if right.heard is not None]
    if is_loopback(urlsplit(account.api_url).hostname or ""):
        return passed(CLOCK, f"The clock was not compared: {host} is this machine.")
    ahead = ahead_of(answers)
    if ahead is None:
        why = "its answers have no date" if answers else "it gave no good answer"
        return warned(
            CLOCK,
            f"The clock could not be compared with that of {host}: {why}.",
            "Compare it yourself: date -u. A sync never reads past Ometria's clock, if it knows it."
            if answers
            else "Mend what is above, then run check again.",
        )
    off, side = span(abs(ahead)), "ahead of" if ahead > timedelta() else "behind"
    if abs(ahead) < CLOCK_WARNS:
        return passed(CLOCK, f"The clock agrees with that of {host}.")
    text = f"The clock of this machine is {off} {side} that of {host}"
    if abs(ahead) < CLOCK_FAILS:
        return warned(
            CLOCK, f"{text}; __synced_at, and what is kept for how long, follow it.", _SET_IT
        )
    return failed(
        CLOCK,
        f"{text}: S3 refuses requests, two machines may write at once, and rows are dated wrong.",
        OmetriaError(f"{text}. {_SET_IT}"),
        _SET_IT,
    )


def _host(account: AccountSettings) -> str:
    return urlsplit(account.api_url).hostname or "the host"
