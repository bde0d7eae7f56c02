"""
Whether the mart of sends can answer for the events: it has all of them, and no others.

The mart is a copy that dbt makes, at times of its own. It is compared with the events by numbers
that differ if an event was added, removed or written anew since, or if the variables of the dbt
package name other types of events than the report does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import QueryError
from ometria_replica.html_report.statement import SENDS, is_kind
from ometria_replica.mapping.quoting import literal
from ometria_replica.warehouse.queries.run import ask

if TYPE_CHECKING:
    from collections.abc import Collection

    from ometria_replica.config import Config

_COLUMNS = frozenset({
    "source_id", "campaign_title", "campaign_type", "is_sent", "sent_at", "is_opened",
    "is_clicked", "is_bounced", "opens", "clicks", "events", "synced_at",
})  # fmt: skip


@dataclass(frozen=True)
class SendsMart:
    """
    Whether the mart of sends *is_current*. *because* says why an existing one is not.

    Both are empty where there is none.
    """

    is_current: bool = False
    because: str = ""


def sends_mart(config: Config, sources: Collection[str]) -> SendsMart:
    """Compare the mart of sends with the events of *sources*."""
    try:
        if not _exists(config):
            return SendsMart()
        ((events, opens, clicks, newest), (sends, opened, clicked, made)) = _numbers(
            config, sources
        )
    except QueryError:  # Without the right to read it, the events are counted.
        return SendsMart()
    if (events, opens, clicks) == (sends, opened, clicked) and _is_as_new(made, newest):
        return SendsMart(is_current=True)
    if events == sends and (opens, clicks) != (opened, clicked):
        return SendsMart(because="it was built with other types of events")
    return SendsMart(because="it is older than the events")


def _is_as_new(made: object, newest: object) -> bool:
    return newest is None or (made is not None and made >= newest)  # type: ignore[operator]  # Both are times.


def _exists(config: Config) -> bool:
    schema, _, name = SENDS.partition(".")
    query = (
        "SELECT column_name FROM information_schema.columns"
        f" WHERE table_schema = {literal(schema)} AND table_name = {literal(name)}"
    )
    return _COLUMNS.issubset(name for (name,) in _rows(config, query))


def _numbers(config: Config, sources: Collection[str]) -> list[tuple[object, ...]]:
    """Count events, opens and clicks, and find the newest load: in the events, and in the mart."""
    among = f"IN ({', '.join(map(literal, sorted(sources)))})"
    kinds = ", ".join(
        f"count(CASE WHEN {is_kind(kind)} THEN 1 END)" for kind in ("opened", "clicked")
    )
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT)" for name in ("events", "opens", "clicks"))
    query = f"""
SELECT 1 AS place, count(*) AS events, {kinds}, max(__synced_at)
FROM ometria.email_events WHERE __source_id {among}
UNION ALL
SELECT 2, {sums}, max(synced_at) FROM {SENDS} WHERE source_id {among}
ORDER BY 1"""
    return [numbers for _, *numbers in _rows(config, query)]  # type: ignore[misc]  # As many.


def _rows(config: Config, query: str) -> list[tuple[object, ...]]:
    with ask(config.warehouse.url, query, config.warehouse.limits) as answer:
        return [
            row
            for batch in answer.batches
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
