# ruff: noqa: D401, E501 -- The page of the suite quotes a scenario's docstring.
"""All tables at once, with their records and histories: what is done to them, and their defects."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import tests.faults.odd_data  # noqa: F401 -- its scenarios come first, whatever imports this.
from tests.faults.checks import EVERYTHING, Finding
from tests.faults.scenarios import live, scenario
from tests.faults.world import DETECT_DELETES

if TYPE_CHECKING:
    from tests.faults.world import World

ALL = "All tables, their records and histories"


@scenario(ALL, settings=EVERYTHING, profiles=130, lists=3, email_events=60)
def all_tables_through_days(world: World) -> None:
    """All tables change for days: their rows, the records, the arrays inside these and the histories are what they should be after each run, and each past day is as it was."""
    world.run()
    world.replica.check()
    live(world)
    world.run("sync", DETECT_DELETES)
    world.replica.check()
    for table in ("profiles", "orders", "contacts", "products", "custom_events"):
        if world.replica.gone(table) != set(world.contents.deleted(table)):
            raise Finding(f"{table}: the deleted records are not those in deleted_upstream")
    world.account.advance(timedelta(hours=20))
    shop = world.account.shop
    shop.update_order(shop.orders[0].id, status="checked again")  # And none is gone.
    shop.add_order(grand_total="0.10")
    world.feed.export()
    world.run()
    world.replica.check()
    check_states(world)


def check_states(world: World) -> None:
    """The histories tell of each state that was seen, and of no other. Each run was checked."""
    for name, past in world.replica.pasts.items():
        if wrong := past.observer.refute(world.contents.history(name)):
            raise Finding(f"the history of {name}: {len(wrong)} rows with other versions than seen")
