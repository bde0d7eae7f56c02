"""
The account that version 1 replicated, and what happened to it: by the seed the same each time.

``make_v1.py`` lives it with the program of version 1. The tests live it without any, and
so stand where that program had stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ometria_simulator import Dialect
from tests.faults.scenarios import mail
from tests.faults.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.places import Place

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
QUIET, REFUSED, GONE = "9001", "9002", "9003"
"""A dynamic list without news, one whose changes the API refuses, and one that is deleted."""

REMOVE = 'deletes = "remove"\nmax_deleted_share = 1.0'


@dataclass(frozen=True)
class Run:
    """
    A run of the program, which ends with the exit code *code*.

    *settings* are added to the account's. *refused* are paths that the API answers with 403.
    With *killed* the process ends when it has taken the lease.
    """

    arguments: tuple[str, ...] = ("sync",)
    settings: str = ""
    refused: tuple[str, ...] = ()
    killed: bool = False
    code: int = 0


class Shop(World):
    """
    The account, before version 1 comes to it.

    Its files are named from its folder, so that the state speaks of no machine's paths. They
    are not compressed: the same bytes everywhere.
    """

    def __init__(self, folder: Path, place: Place) -> None:
        super().__init__(
            folder,
            seed=11,
            profiles=60,
            lists=3,
            email_events=60,
            dialect=Dialect(),
            place=place,
        )
        account = self.account
        everyone = [profile.id for profile in account.profiles]
        for list_id, kind in ((QUIET, "DYNAMIC"), (REFUSED, "DYNAMIC"), (GONE, "STATIC")):
            account.add_list(list_id, type=kind, refreshed_at=account.now - 30 * DAY)
            for member in everyone[:5]:
                account.add_change(list_id, member, "list_enter", at=account.now - 30 * DAY)
        account.update_profile(everyone[7], date_of_birth="31st of June")
        account.add_event(None, "open", uuid="nameless")
        (name,) = self.feed.export_events(account.events[-1:])
        self.feed.rewrite(name, lambda cells: {**cells, "dt_occurred": None})
        self.feed.delivered = [
            each for each in self.feed.delivered if each.file != name or each.version > 1
        ]
        self.feed.export()

    def settings(self) -> str:
        """Write the settings file, its paths from the folder in which the program runs."""
        return super().settings().replace(f"{self.folder}/", "")


def life(shop: Shop) -> Iterator[Run]:
    """Let three days pass, and say at which moments version 1 ran, and how."""
    account = shop.account
    everyone = [profile.id for profile in account.profiles]
    yield Run()

    account.advance(DAY)
    account.delete_profile(everyone[50])
    account.merge_profiles(everyone[0], [everyone[51]])
    account.delete_list(GONE)
    _something_happens(shop, everyone[10:13], "first")
    yield Run(("sync", "--sweep"), settings=REMOVE)

    account.advance(DAY)
    account.delete_profile(everyone[52])
    account.refresh_list(REFUSED, enter=everyone[20:24], leave=everyone[:2])
    mail(shop, "unreadable@example.com", 3)
    shop.feed.export_html()
    account.advance(timedelta(minutes=1))
    _something_happens(shop, everyone[13:16], "second")
    refused = f"/v2/lists/{REFUSED}/changes"
    yield Run(("sync", "--sweep"), refused=(refused,))

    account.advance(6 * HOUR)
    _something_happens(shop, everyone[16:19], "third")
    yield Run(refused=("/v2/profiles", refused), code=3)

    account.advance(6 * HOUR)
    yield Run(killed=True, code=9)

    account.advance(HOUR)  # The lease that it left has run out.


def live_on(shop: Shop) -> list[str]:
    """Let half a day pass, in which no program runs; return the names of the new files."""
    account = shop.account
    account.advance(12 * HOUR)
    everyone = [profile.id for profile in account.profiles]
    return _something_happens(shop, everyone[30:35], "news")


def _something_happens(shop: Shop, people: list[str], what: str) -> list[str]:
    """Let something happen to each of the five tables."""
    account = shop.account
    for person in people:
        account.update_profile(person, lastname=f"Renamed, {what}")
    static = account.add_list(type="STATIC", title=f"A list, {what}")
    account.refresh_list(static.id, enter=people, leave=[])
    account.add_unsubscribe(people[0], at=account.now - HOUR, reason_text=what)
    mail(shop, f"{what}@example.com", 3)
    return shop.feed.export()
