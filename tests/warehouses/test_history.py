"""Every version of a row, with the times between which it held."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ometria_replica.batch import DeleteDetection, Owner
from ometria_replica.catalog import Catalog
from ometria_replica.history import history_table
from ometria_replica.selection import Selection
from ometria_replica.tables import PROFILES
from ometria_replica.warehouse import open_warehouse
from tests.clickhouse import ClickHousePlace
from tests.places import KINDS, DuckDBPlace
from tests.warehouses.histories import Seen, expected, found, refute
from tests.warehouses.loads import NOON, Load, opened, rows, state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ometria_replica.batch import Loaded
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.duck import Row
    from tests.places import Place

HISTORIED = replace(PROFILES, keeps_history=True)
DAY = timedelta(days=1)
MARK = DeleteDetection(remove=False, max_share=1.0)
REMOVE = DeleteDetection(remove=True, max_share=1.0)
CONTENTS = ("first_name",)


@pytest.fixture(params=[*KINDS, "clickhouse"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Give a warehouse in which nothing was written, ClickHouse in this process too."""
    made = {**KINDS, "clickhouse": ClickHousePlace.new}[request.param](tmp_path)
    yield made
    made.remove()


@pytest.fixture
def in_duckdb(tmp_path: Path) -> Place:
    """Give a DuckDB file in which nothing was written."""
    return DuckDBPlace(tmp_path / "replica.duckdb")


@dataclass(frozen=True)
class Day:
    """A load of *names* of profiles by their ids, so many days after NOON."""

    day: int
    names: Mapping[str, str | None]
    whole: DeleteDetection | None = None
    stamp: str | None = None

    def into(self, warehouse: Warehouse, source_id: str = "uk") -> Loaded:
        """Load it."""
        return replace(self._load(), source_id=source_id).into(warehouse)

    def seen(self) -> Seen:
        """Tell the oracle."""
        names = {name: (value,) for name, value in self.names.items()}
        return Seen(NOON + self.day * DAY, names, self.whole is not None)

    def _load(self) -> Load:
        stamp = {"requested_since": self.stamp} if self.stamp else {}
        records = [
            json.dumps({"id": name, "firstname": value, **stamp})
            for name, value in self.names.items()
        ]
        return Load(HISTORIED, records, at=NOON + self.day * DAY, whole=self.whole)


def versions(place: Place, table: str = "profiles", source_id: str | None = None) -> list[Row]:
    """Read the history of a table as it lies there."""
    return rows(place, table, source_id, "ometria_history")


def loaded(place: Place, *days: Day, history: Sequence[str] = ("profiles",)) -> list[Loaded]:
    """Load days, in a warehouse that is opened once."""
    with opened(place, history=history) as warehouse:
        return [day.into(warehouse) for day in days]


def problems(place: Place, *days: Day) -> list[str]:
    """List what the history has otherwise than the oracle."""
    history = versions(place)
    deleted = [row["sync_key"] for row in state(place, "deleted_upstream")]
    wrong = refute(history, rows(place, "profiles"), deleted)
    should = expected(day.seen() for day in days)
    is_so = found(history, "profile_id", CONTENTS)
    return [*wrong, *(str((name, is_so.get(name), should.get(name)))
                      for name in is_so.keys() | should.keys()
                      if is_so.get(name) != should.get(name))]  # fmt: skip


LIFE = (
    Day(0, {"ann": "Ann", "bob": "Bob", "eve": "Eve"}, stamp="2026-03-01"),
    Day(1, {"ann": "Ann", "bob": "Bobby"}, stamp="2026-03-02"),  # Ann is only read again.
    Day(2, {"bob": "Bobby", "eve": "Eve"}, whole=MARK),  # Ann is deleted.
    Day(3, {"bob": "Bobby", "eve": "Eve"}, whole=MARK),  # Still.
    Day(4, {"ann": "Ann"}),  # And comes back.
    Day(5, {"ann": "Ann", "eve": "Eva"}, whole=REMOVE),  # Bob is deleted, and removed.
    Day(5, {"eve": "Evi"}),  # In the place of a version that began at the same time.
    Day(5, {"eve": "Eve"}),  # As before that.
    Day(3, {"eve": "Eva"}),  # From a clock that is late.
    Day(7, {"bob": "Bob", "dan": None}),
)


def test_each_version_is_there_with_the_times_between_which_it_held(in_duckdb: Place) -> None:
    """Half open and without a gap; a record that is deleted has a version that says so."""
    _the_whole_life(in_duckdb)


@pytest.mark.slow
def test_each_version_is_there_in_each_kind_of_warehouse(place: Place) -> None:
    """In the warehouses that merge, in lakes, and through dlt."""
    _the_whole_life(place)


def _the_whole_life(place: Place) -> None:
    done = loaded(place, *LIFE)

    assert problems(place, *LIFE) == []
    counts = [day.parts.get("ometria_history.profiles") for day in done]
    assert [(c.inserted, c.updated, c.merged) for c in counts if c] == [
        (3, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0), (1, 1, 0),
        (2, 2, 0), (0, 0, 1), (1, 1, 0), (1, 1, 0), (2, 1, 0),
    ]  # fmt: skip
    again = loaded(place, LIFE[-1])
    assert again[0].parts["ometria_history.profiles"].inserted == 0


NAMES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y", None]), max_size=4)
DAYS = st.lists(
    st.builds(
        Day,
        day=st.integers(0, 4),
        names=NAMES,
        whole=st.sampled_from([None, None, MARK, REMOVE]),
        stamp=st.sampled_from([None, "2026-03-01", "2026-03-02"]),
    ),
    max_size=6,
)


@pytest.fixture(scope="module")
def profiles() -> Iterator[Warehouse]:
    """Give a warehouse of profiles alone, for any number of sources."""
    with (
        TemporaryDirectory() as folder,
        open_warehouse(f"{folder}/replica.duckdb", catalog=Catalog((PROFILES,))) as warehouse,
        warehouse.sessions.open("a test"),
    ):
        yield warehouse


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(days=DAYS, in_order=st.booleans())
def test_a_history_is_what_the_loads_tell(
    profiles: Warehouse, days: list[Day], in_order: bool
) -> None:
    """Whatever changes, is deleted, comes back, or is read again, in time or late."""
    if in_order:
        days.sort(key=lambda day: day.day)
    source = f"{next(SOURCES)}!"  # No source id begins with another.
    history = frozenset(["profiles"])
    profiles.prepare(Owner(f"account of {source}", source, history=history), NOON)
    for day in days:
        day.into(profiles, source)

    selection = Selection(source)
    held, table = (
        [row for some in profiles.read(each, selection) for row in some.to_pylist()]
        for each in (history_table(PROFILES), PROFILES)
    )
    deleted = profiles._engine.rows(
        "SELECT sync_key FROM warehouse.ometria_replica.deleted_upstream WHERE source_id = ?",
        [source],
    )
    wrong = refute(held, table, [key for (key,) in deleted])
    assert found(held, "profile_id", CONTENTS) == expected(day.seen() for day in days)
    assert wrong == []


SOURCES = count()
