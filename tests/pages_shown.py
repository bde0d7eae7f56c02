"""A shop with something for every figure of the HTML report, and what a reader of a page sees."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING

from typing_extensions import override

from tests.incremental.shops import DAY, HOUR, NOON, account, small_shop
from tests.replicas import write_feed_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ometria_replica.config import AccountSettings
    from ometria_simulator import Account, Server

HOSTILE = "\"><script>alert('1')</script><img src=x onerror=alert(2)>"
MARKS = ("planted", "PLANTED")
"""In every value of a person, in one of these cases."""


def shop_with_everything() -> Account:
    """Make a shop whose values of people hold a mark, and whose titles hold hostile text."""
    shop = small_shop()
    for number in range(6):
        shop.add_profile(
            f"planted-{number}",
            email=f"planted{number}@example.com",
            firstname="Planted",
            name=HOSTILE,
            phone_number="PLANTED",
            marketing_optin=["yes", "no", None][number % 3],
            dates={"marketing_optin": f"{NOON - number * 20 * DAY:%Y-%m-%dT%H:%M:%S+00:00}"},
        )
    shop.update_profile("planted-1", date_of_birth="planted", seen="planted")
    shop.add_list("30", type="STATIC", title=f"{HOSTILE} for planted@example.com")
    for days, profile, event in (
        (50, 0, "list_enter"),
        (49, 1, "list_enter"),
        (48, 1, "list_enter"),  # Again: still one member.
        (40, 0, "list_exit"),
        (39, 0, "list_exit"),
        (20, 2, "list_exit"),  # Was a member before anything is known.
        (10, 0, "list_enter"),
        (500, 3, "list_enter"),  # Before the period.
    ):
        at = NOON - timedelta(days=days)
        shop.add_change("30", f"planted-{profile}", event, at=at)
    for days, reason in ((30, HOSTILE), (3, "too_many"), (2, "too_many"), (1, None)):
        shop.add_unsubscribe(
            f"planted-{days % 6}",
            email_address=f"planted{days % 6}@example.com",
            at=NOON - days * DAY,
            reason=reason,
            reason_text="planted",
        )
    return shop


def write_events(folder: Path) -> None:
    """Write a file of the export: two campaigns, a message without an id, and other types."""
    events: list[dict[str, str | None]] = []

    def add(days: int, kind: str, message: str | None, title: str | None, **more: str) -> None:
        at = NOON - timedelta(days=days, seconds=len(events))
        events.append(
            {
                "event_id": f"planted-{len(events)}",
                "uuid": f"planted-{message}" if message else None,
                "to_address": f"planted{len(events)}@example.com",
                "event_type": kind,
                "dt_occurred": f"{at:%Y-%m-%d %H:%M:%S}",
                "campaign_title": title,
                "campaign_type": "broadcast" if title else None,
                "target_url": "https://planted.example.com",
                **more,
            }
        )

    for number in range(10):
        add(100 - number, "send", f"a{number}", HOSTILE)
    for number in (0, 0, 1, 2):  # Twice by one.
        add(90 - number, "Open ", f"a{number}", None)
    add(80, "click", "a1", HOSTILE)
    add(80, "bounce", "a9", HOSTILE, bounce_class="10", reason="planted@example.com is unknown")
    for number in range(4):
        add(30, "sent", f"b{number}", "Sale")
    add(29, "click", "b1", "Sale")
    add(29, "opened", "never-sent", "Sale")
    add(28, "send", None, None)
    add(27, "spam_complaint", "b2", "Sale")
    add(600, "send", "old", "Before the period")
    write_feed_file(folder, "1.jsonl", NOON - HOUR, events)


def settings_of(server: Server, folder: Path) -> tuple[AccountSettings, AccountSettings]:
    """Give two accounts of one shop, of which the first has the export."""
    return account(server, folder), account(server, account_id="7", source_id="us")


class Shown(HTMLParser):
    """
    What a reader sees: *tables* by section, each as lines of cells, and the *text* of all.

    *elements* are the names of all elements with their attributes.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = defaultdict(list)
        self.text = ""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._section = ""
        self._is_cell = self._is_hidden = False
        self.feed(page)
        self.close()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        self._is_hidden = tag in {"style", "title"}
        if tag == "section":
            self._section = found["id"] or ""
        elif tag == "table":
            self.tables[self._section].append([])
        elif tag == "tr":
            self.tables[self._section][-1].append([])
        elif tag in {"td", "th"}:
            self.tables[self._section][-1][-1].append("")
            self._is_cell = True

    @override
    def handle_endtag(self, tag: str) -> None:
        self._is_hidden = False
        if tag in {"td", "th"}:
            self._is_cell = False

    @override
    def handle_data(self, data: str) -> None:
        if self._is_hidden:
            return
        self.text += data
        if self._is_cell:
            self.tables[self._section][-1][-1][-1] += data

    def rows(self, section: str, table: int = 0) -> list[list[str]]:
        """Give the lines of a table, without that of the heads; none without a table."""
        found = self.tables.get(section, [])
        return found[table][1:] if table < len(found) else []

    def sums(self, section: str, table: int = 0) -> list[int]:
        """Sum each column of whole numbers but the first, which names the line."""
        return [sum(numbers) for numbers in zip(*self._numbers(section, table), strict=True)]

    def _numbers(self, section: str, table: int) -> Iterable[list[int]]:
        for line in self.rows(section, table):
            yield [int(cell.replace(",", "")) for cell in line[1:]]
