"""A small server of the endpoints that the further tables are read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from ometria_replica.config import AccountSettings, Secret
from tests.ometria.listener import KEY, Asked, Reply, json_reply, listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tests.ometria.listener import Listener

Record = dict[str, Any]


@dataclass
class Endpoints:
    """
    The records of each path, in Ometria's order, and the status of a path that fails.

    *changed* has the day on which a record, by path and id, last changed; *honours* says whether
    ``updateSince`` selects by it. *in_reverse* serves the newest first. *most* are sent at once.
    """

    records: dict[str, list[Record]] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    changed: dict[tuple[str, str], date] = field(default_factory=dict)
    honours: bool = False
    in_reverse: bool = False
    most: int = 250

    def served(self) -> AbstractContextManager[Listener]:
        """Serve them over HTTP."""
        return listening(self.answer)

    def answer(self, asked: Asked) -> Reply:
        """Answer one request, as Ometria pages."""
        path = asked.path.removeprefix("/v2/")
        if path in self.status:
            return Reply(b"{}", status=self.status[path])
        found = list(self._selected(path, asked.query.get("updateSince")))
        if self.in_reverse:
            found.reverse()
        return json_reply(found[asked.offset : asked.offset + min(asked.limit, self.most)])

    def _selected(self, path: str, since: str | None) -> Iterator[Record]:
        day = date.fromisoformat(since) if since and self.honours else date.min
        for record in self.records.get(path, []):
            if self.changed.get((path, str(record.get("id"))), date(2020, 1, 1)) >= day:
                yield record


def orders(first: int, last: int, **fields: object) -> list[Record]:
    """Make orders with the ids from *first* to *last*."""
    return [{"id": f"{number:06}", "status": "new", **fields} for number in range(first, last + 1)]


def reading(listener: Listener, *tables: str, **more: Any) -> AccountSettings:
    """Give the settings of an account that replicates *tables* from a listener."""
    return AccountSettings(
        account_id="1042",
        source_id="uk",
        api_key=Secret(KEY, "the test"),
        api_url=listener.url,
        requests_per_second=1000,
        tables=tables,
        **more,
    )
