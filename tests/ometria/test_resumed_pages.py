"""Full reads of a collection that another run has begun, and that may have changed since."""

from __future__ import annotations

import random
from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ometria_replica.ometria.offset_pages import PositionLostError, read_pages
from ometria_replica.ometria.prefetch import IN_FLIGHT
from ometria_replica.read_position import TAIL, ReadPosition
from ometria_replica.tables import PROFILES
from tests.ometria.listener import Reply
from tests.ometria.test_pages import CHANGES, Change, ids, offsets, profiles, reading, shop_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ometria_replica.ometria.client import Client
    from ometria_replica.records import Page
    from tests.ometria.listener import Asked
    from tests.ometria.test_pages import Shop


def read_some(client: Client, pages: int) -> tuple[list[str], ReadPosition | None]:
    """Read the first *pages* pages, and return their ids and the position after them."""
    found: list[str] = []
    position = None
    for page, _ in zip(profiles(client), range(pages), strict=False):
        found += [record["id"] for record in page.records]
        position = page.position or position
    return found, position


def continued(client: Client, position: ReadPosition | None) -> Iterator[Page]:
    assert position is not None
    # As another run writes and reads it.
    return read_pages(client, PROFILES.read, position=ReadPosition.parse(str(position)))  # type: ignore[arg-type]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.integers(1, 150),
    page=st.sampled_from([10, 25, 100]),
    pages=st.integers(1, 12),
    meanwhile=st.tuples(CHANGES, CHANGES, CHANGES),
)
def test_a_record_that_exists_throughout_is_read_by_one_of_two_runs(
    size: int, page: int, pages: int, meanwhile: tuple[list[Change], ...], tmp_path: Path
) -> None:
    """Deletions, insertions and updates before, between and during two runs lose no survivor."""
    before, between, after = (list(changes) for changes in meanwhile)
    shop = shop_of(size, page=page, changes=before)
    survivors = set(shop.order)
    with reading(shop.answer, tmp_path) as (_, client):
        found, position = read_some(client, pages)
        if position is None:  # All was deleted before a page held anything.
            return
        for change in between:
            shop.change(*change)
        shop.changes = after
        try:
            found += ids(continued(client, position))
        except PositionLostError:
            found = ids(profiles(client))

    assert survivors - shop.gone <= set(found)


@pytest.mark.parametrize("deleted", [0, 1, 4, 30, 49, 50, 140, 400, 780])
def test_a_position_is_found_again_after_deletions(deleted: int, tmp_path: Path) -> None:
    """However far deletions have shifted it, within 16 pages, a few requests find it."""
    shop = shop_of(1000, page=50)
    with reading(shop.answer, tmp_path) as (server, client):
        read, position = read_some(client, 18)
        shop.change("delete", 0.0, deleted)
        asked_before = len(server.asked)
        found = ids(continued(client, position))

        assert set(shop.order) <= {*read, *found}
        assert len(found) <= 1000 - 18 * 45 + 100
        assert len(server.asked) - asked_before <= 7 + deleted / 50 + IN_FLIGHT
        assert min(offsets(server)[asked_before:]) > 0


def test_a_position_at_the_end_costs_few_requests(tmp_path: Path) -> None:
    """A run that was killed after its last page leaves little to read."""
    shop = shop_of(700)
    with reading(shop.answer, tmp_path) as (server, client):
        _, position = read_some(client, 100)
        asked_before = len(server.asked)
        found = ids(continued(client, position))

    assert len(server.asked) - asked_before <= 3
    assert set(found) <= set(shop.order[-250:])


def _shuffled(shop: Shop) -> None:
    random.Random(3).shuffle(shop.order)


def _halves_swapped_within_the_tail(shop: Shop) -> None:
    at = len(shop.order) // 2
    shop.order[at - TAIL : at] = [
        *shop.order[at - TAIL // 2 : at],
        *shop.order[at - TAIL : at - TAIL // 2],
    ]


def _interleaved(shop: Shop) -> None:
    shop.order = shop.order[0::2] + shop.order[1::2]


def _all_other_records(shop: Shop) -> None:
    shop.order = [f"other-{name}" for name in shop.order]


def _emptied(shop: Shop) -> None:
    shop.order.clear()


@pytest.mark.parametrize(
    "change",
    [
        lambda shop: shop.order.reverse(),
        _shuffled,
        _interleaved,
        _halves_swapped_within_the_tail,
        _all_other_records,
        _emptied,
        lambda shop: setattr(shop, "page", 120),
    ],
    ids=["reversed", "shuffled", "interleaved", "swapped", "other", "emptied", "longer pages"],
)
def test_a_position_is_not_believed_if_the_order_has_changed(
    change: Callable[[Shop], object], tmp_path: Path
) -> None:
    """Instead of reading the wrong rest, the read starts over."""
    shop = shop_of(1190, page=100)
    with reading(shop.answer, tmp_path) as (_, client):
        _, position = read_some(client, 6)
        change(shop)

        with pytest.raises(PositionLostError):
            ids(continued(client, position))


@pytest.mark.parametrize("status", [400, 410, 416])
def test_a_position_is_not_believed_if_its_offset_is_refused(status: int, tmp_path: Path) -> None:
    """A server that has got a highest offset is read from the start."""
    shop = shop_of(900)

    def answer(asked: Asked) -> Reply:
        refused = asked.offset > 0 and len(shop.gone) > 0
        return Reply(b"", status) if refused else shop.answer(asked)

    with reading(answer, tmp_path) as (_, client):
        _, position = read_some(client, 2)
        shop.gone.add("x")
        with pytest.raises(PositionLostError):
            ids(continued(client, position))


def test_a_position_of_another_collection_is_not_believed(tmp_path: Path) -> None:
    """Another address may be another account."""
    shop = shop_of(900)
    with (
        reading(shop.answer, tmp_path) as (_, client),
        reading(shop.answer, tmp_path) as (other, other_client),
    ):
        _, position = read_some(client, 2)
        with pytest.raises(PositionLostError):
            ids(continued(other_client, position))

        assert other.asked == []


def test_a_position_holds_no_profile_id(tmp_path: Path) -> None:
    """It holds short hashes of the last hundred ids, and fits into a key of any database."""
    shop = shop_of(900)
    with reading(shop.answer, tmp_path) as (_, client):
        _, position = read_some(client, 2)

    text = str(position)
    assert position is not None
    assert len(position.tail) == TAIL
    assert len(text) < 700
    assert not any(name in text for name in shop.order[100:])


@pytest.mark.parametrize(
    "text",
    ["", "x", "a 5 250", "a b c d", "a 5 250 !", "a 5 250 AAA=", "a 0 250 AAAAAA==", "a 5 2 "],
)
def test_the_position_of_another_release_is_no_position(text: str) -> None:
    """A text that this release does not understand means a read from the start."""
    assert ReadPosition.parse(text) is None


def test_only_full_reads_have_positions(tmp_path: Path) -> None:
    """A read since a day is short, and begins at its watermark anyway."""
    shop = shop_of(300)
    with reading(shop.answer, tmp_path) as (_, client):
        assert all(page.position is None for page in profiles(client, date(2026, 5, 1)))
        assert all(page.position is not None for page in profiles(client) if page.records)
