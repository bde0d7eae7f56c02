"""
The scenarios: what is done to a replica, and how each starts.

A scenario starts from an account that was replicated and has changed since, unless it is
*fresh*: then nothing was replicated yet.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import places
from tests.faults.world import World

if TYPE_CHECKING:
    from ometria_simulator.records import Json

Play = Callable[[World], None]


@dataclass(frozen=True)
class Scenario:
    """A way to hurt a replica, and the checks after it, in a world that is made with *options*."""

    group: str
    name: str
    what: str
    play: Play
    fresh: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


SCENARIOS: dict[str, Scenario] = {}


def add(scenario: Scenario) -> None:
    """Register a scenario. ValueError if the name is taken."""
    if scenario.name in SCENARIOS:
        raise ValueError(scenario.name)
    SCENARIOS[scenario.name] = scenario


def scenario(group: str, *, fresh: bool = False, **options: Any) -> Callable[[Play], Play]:
    """Register a function as a scenario, named like it and described by its docstring."""

    def register(play: Play) -> Play:
        name = play.__name__.replace("_", " ")
        what = " ".join((play.__doc__ or "").split())
        add(Scenario(group, name, what, play, fresh, options))
        return play

    return register


def run_scenario(
    chosen: Scenario,
    folder: Path,
    *,
    defect: str = "",
    new_place: places.NewPlace = places.KINDS["duckdb"],
    timezone: str = "",
    settings: str = "",
) -> None:
    """
    Run a scenario in a new warehouse; from its start on, the program has the *defect*.

    The *settings* are added to its own, such as EVERYTHING of :mod:`tests.faults.checks`.
    """
    options = dict(chosen.options) | ({"timezone": timezone} if timezone else {})
    own = options.pop("settings", "")
    settings = settings if own in settings else f"{settings}{own}\n"
    with World(folder, place=new_place(folder), settings=settings, **options) as world:
        if not chosen.fresh:
            if options.keys() <= {"profiles", "lists", "email_events"}:
                world.begin_as(_replicated(new_place, settings, *options.items()))
            else:
                world.run()
                world.replica.check()
            live(world)
        world.defect = defect
        try:
            chosen.play(world)
        finally:
            world.place.remove()


@cache
def _replicated(new_place: places.NewPlace, settings: str, *sizes: tuple[str, Any]) -> World:
    """Replicate an account, once for each kind of place, settings, sizes, and test process."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    world = World(folder, place=new_place(folder), settings=settings, **dict(sizes))
    with world:
        atexit.register(shutil.rmtree, world.folder)
        world.run()
        world.replica.check()
    return world


def live(world: World) -> None:
    """Let a day pass during which every table changes."""
    account = world.account
    account.advance(timedelta(days=1))
    everyone = [profile.id for profile in account.profiles]
    # Nine of ten: of 300 profiles, that is two pages of changes.
    for number, profile_id in enumerate(everyone[: len(everyone) * 9 // 10]):
        account.update_profile(profile_id, lastname=f"Renamed {number} on {account.now:%d %B}")
    account.delete_profile(everyone[-1])
    account.merge_profiles(everyone[0], [everyone[-2]])
    for segment in account.lists:
        if not segment.archived:
            account.refresh_list(segment.id, enter=everyone[5:30], leave=everyone[2:4])
    for number in range(5):
        account.add_unsubscribe(
            everyone[number], at=account.now - timedelta(hours=number), reason_text=f"no {number}"
        )
    if world.replica.has_all:
        trade(world)
    world.feed.export()
    for number in range(3):
        account.advance(timedelta(minutes=1))
        mail(world, f"fresh-{number}@example.com", 12)
        world.feed.export()


def trade(world: World) -> None:
    """Let all further and nested tables change, each in every way."""
    account, shop = world.account, world.account.shop
    everyone = [profile.id for profile in account.profiles]
    day = f"{account.now:%d %B}"
    for number, profile_id in enumerate(everyone[30:60]):
        identities: Json = [{"id": f"{number} on {day}", "type": "loyalty"}] * (number % 3 > 0)
        tags: Json = [*[f"tag {number % 4}", day][: number % 3]]
        account.update_profile(profile_id, tags=tags, identities=identities)
    orders = [order.id for order in shop.orders]
    for order_id in orders[:40]:
        shop.update_order(order_id, status=f"checked on {day}")
    shop.update_order(orders[1], lineitems=[{"sku": "SKU-1", "quantity": 2, "total": 1.10}])
    shop.update_order(orders[2], lineitems=None)
    shop.delete_order(orders[3])
    shop.refund_order(orders[-1])
    shop.add_order(profile_id=everyone[20], grand_total="12.30", quantity=3)
    products = [product.id for product in shop.products]
    shop.update_product(products[0], title=f"Renamed on {day}")
    shop.delete_product(products[-1])
    shop.add_product(title=f"New on {day}", price=9.99)
    shop.add_contact("by hand", day, email="contact@example.com", source=day)
    collection = next(iter(shop.collections))
    shop.delete_contact(collection, shop.contacts(collection)[-1].id)
    shop.add_custom_event(f"event of {day}", profile_id=everyone[21], points=1.50)
    shop.delete_custom_event(shop.custom_events[0].id)
    shop.add_push_error("1", "This value should not be blank.", error_path=day)
    address = next(p.email for p in reversed(account.profiles) if p.email)
    account.request_deletion(address, completed_after=timedelta(hours=30))


def mail(world: World, address: str, count: int = 1) -> None:
    """Add events of *address*, a second apart."""
    for number in range(count):
        world.account.add_event(
            address, "open", occurred_at=world.account.now - timedelta(seconds=number),
            uuid=f"{address}-{number}", campaign_title="Spring",
        )  # fmt: skip
