"""What every warehouse must do: one list of cases, told to each of them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ometria_replica.batch import DeleteDetection, Loaded, Owner, Run
from ometria_replica.errors import Busy, ConfigError, WarehouseError
from ometria_replica.records import FeedObject
from ometria_replica.selection import ALL, Selection, Span, Times, Values
from ometria_replica.tables import EMAIL_EVENTS, LISTS, MEMBER_LISTS, PROFILES, TABLES, UNSUBSCRIBES
from ometria_replica.warehouse import open_warehouse, state_store
from ometria_replica.warehouse.state_tables import REJECTS
from tests.places import DuckDBPlace, PostgresPlace
from tests.spec.page import page_tables
from tests.warehouses.loads import (
    HOUR,
    NOON,
    Load,
    a_lease,
    columns_of,
    opened,
    rows,
    somebody_elses,
    state,
    table_state_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica.schema import Table
    from ometria_replica.warehouse.warehouse import Warehouse
    from tests.duck import Row
    from tests.places import Place

DAY = timedelta(days=1)
TYPES = {
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
}


def profile(profile_id: str, **fields: object) -> str:
    """Write a profile as Ometria would."""
    return json.dumps({"id": profile_id, **fields})


def event(**cells: object) -> str:
    """Write an event of the feed."""
    usual = {"to_address": "ann@example.com", "event_type": "open",
             "dt_occurred": "2026-03-01T10:00:00+00:00"}  # fmt: skip
    return json.dumps({**usual, **cells})


# --- columns -----------------------------------------------------------------------------------


def test_the_columns_are_the_specifications(place: Place) -> None:
    """Names, order and types are the page's, and nothing else is in the schema."""
    with opened(place):
        pass

    for specified in page_tables():
        ours = next(table for table in TABLES if table.name == specified.name)
        there = columns_of(place, specified.name)
        assert there == [(c.name, TYPES[c.type]) for c in ours.all_columns]
    with place.looking() as connection:
        found = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'ometria'"
            " ORDER BY ALL"
        ).fetchall()
    assert [table for (table,) in found if not table.startswith("_dlt_")] == sorted(
        table.name for table in TABLES
    )


def test_a_table_with_a_column_of_somebodys_own_is_refused(place: Place) -> None:
    """Nothing is changed, and the error names table and column."""
    with opened(place) as warehouse:
        Load(LISTS, ['{"id": "7"}']).into(warehouse)
    place.add_column("lists", "notes")

    with pytest.raises(WarehouseError, match=r"ometria\.lists.* is not ours.*notes"), opened(place):
        pass

    assert [row["list_id"] for row in rows(place, "lists")] == ["7"]


# --- values ------------------------------------------------------------------------------------

TEXTS = {
    "emoji": "👩‍👩‍👧 naïve ﷽ \u202e",
    "60 KB": "ab€" * 20_000,
    "quotes": """O'Neil said "no"; DROP TABLE profiles; -- \\ \\N $1 ? %s {}""",
    "lines": "one\r\ntwo\ttabbed\x0b\x1f",
    "empty": "",
    "spaces": "  kept  ",
    "a word for null": "NULL",
}


def test_text_is_kept_as_it_came(place: Place) -> None:
    """Whatever a text holds, it is the same when it is read, and after it was merged again."""
    records = [profile(name, name=text) for name, text in TEXTS.items()]
    with opened(place) as warehouse:
        Load(PROFILES, records).into(warehouse)
        again = Load(PROFILES, records, at=NOON + HOUR).into(warehouse)

    assert {row["profile_id"]: row["customer_name"] for row in rows(place, "profiles")} == TEXTS
    assert again.unchanged == len(TEXTS)


def test_nulls_stay_nulls(place: Place) -> None:
    """A field that is absent, null, or would not convert is null, and a null becomes a value."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", email=None, seen="perhaps", date_of_birth="")]).into(
            warehouse
        )
    (row,) = rows(place, "profiles")
    keyed = {"profile_id", "_account_id", "__source_id", "__sync_key", "__synced_at"}
    assert {name for name, value in row.items() if value is not None} == keyed

    with opened(place) as warehouse:
        changed = Load(PROFILES, [profile("ann", email="a@b", seen=True)]).into(warehouse)
    (row,) = rows(place, "profiles")
    assert (row["email"], row["seen"], changed.updated) == ("a@b", True, 1)


def test_a_nul_character_is_removed(place: Place) -> None:
    """Texts lose it, and the rejects show that it was there, or keep it."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", name="A\0nn", seen="per\0haps")]).into(warehouse)

    assert rows(place, "profiles")[0]["customer_name"] == "Ann"
    assert state(place, "rejects")[0]["raw"] in {"per\0haps", "per␀haps"}


MOMENTS = {
    "2026-03-29T01:30:00+01:00": datetime(2026, 3, 29, 0, 30, tzinfo=UTC),
    "2026-03-29 01:30:00": datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    "2026-03-01T10:00:00.123456-11:30": datetime(2026, 3, 1, 21, 30, 0, 123456, UTC),
    "1969-12-31T23:59:59+00:00": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
    "2099-12-31 23:59:59+00": datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC),
}


def test_a_time_is_the_same_instant_everywhere(place: Place) -> None:
    """With a zone or without, before 1970 or far ahead, to the microsecond."""
    records = [event(dt_occurred=written, uuid=written) for written in MOMENTS]
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, records).into(warehouse)
        again = Load(EMAIL_EVENTS, records, at=NOON + HOUR).into(warehouse)

    found = rows(place, "email_events")
    assert {row["send_id"]: row["event_at"] for row in found} == MOMENTS
    assert {row["__synced_at"] for row in found} == {loaded_again_at(place)}
    assert again.unchanged == len(MOMENTS)


def test_a_date_is_the_same_day(place: Place) -> None:
    """A date has no zone to move it."""
    days = ["1900-01-01", "1984-02-29", "2026-12-31"]
    with opened(place) as warehouse:
        Load(PROFILES, [profile(born, date_of_birth=born) for born in days]).into(warehouse)

    found = {row["profile_id"]: row["date_of_birth"] for row in rows(place, "profiles")}
    assert found == {born: date.fromisoformat(born) for born in days}


def test_words_that_sql_keeps_for_itself_are_texts(place: Place) -> None:
    """Values, ids and names of files that are reserved words or statements do no harm."""
    odd = "select'; DROP TABLE ometria.lists; --"
    with opened(place) as warehouse:
        Load(LISTS, [json.dumps({"id": odd, "title": "table", "type": "order"})]).into(warehouse)
        Load(EMAIL_EVENTS, [event()], file=(odd, NOON)).into(warehouse)
        listed = [FeedObject(odd, f"{odd} of {NOON.isoformat()}", 1, NOON)]
        assert warehouse.state.new_files("uk", "email_events", listed) == []

    assert [row["list_id"] for row in rows(place, "lists")] == [odd]


# --- merging -----------------------------------------------------------------------------------


def test_a_batch_that_comes_again_changes_nothing(place: Place) -> None:
    """The rows are the same, but for when they were loaded: remotes do not write them again."""
    records = [profile("ann", name="Ann"), profile("bob", name="Bob")]
    with opened(place) as warehouse:
        first = Load(PROFILES, records).into(warehouse)
    before = rows(place, "profiles")
    with opened(place) as warehouse:
        second = Load(PROFILES, records, at=NOON + HOUR).into(warehouse)

    assert (first, second) == (Loaded(inserted=2), Loaded(unchanged=2))
    after = rows(place, "profiles")
    assert [{**row, "__synced_at": None} for row in after] == [
        {**row, "__synced_at": None} for row in before
    ]
    assert {row["__synced_at"] for row in after} == {loaded_again_at(place)}


def loaded_again_at(place: Place) -> datetime:
    """Give the load time of rows that were loaded at noon, and came unchanged an hour later."""
    return NOON + HOUR if type(place) in {DuckDBPlace, PostgresPlace} else NOON


def test_an_event_of_a_later_file_is_known_as_that_files(place: Place) -> None:
    """Though it is the same: else a file between the two, which comes late, would replace it."""
    with opened(place) as warehouse:
        for hours, title in ((1, "Sale"), (3, "Sale"), (2, "Draft")):
            load = Load(
                EMAIL_EVENTS, [event(uuid="1", campaign_title=title)],
                at=NOON + DAY + hours * HOUR, file=(f"{hours}.csv", NOON + hours * HOUR),
            )  # fmt: skip
            loaded = load.into(warehouse)

    assert loaded == Loaded(older=1)
    assert [row["campaign_title"] for row in rows(place, "email_events")] == ["Sale"]


def test_the_newest_of_a_batch_stands(place: Place) -> None:
    """Of several records with one key the last stands, beside a row that is there or not."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", name="0")]).into(warehouse)
        both = ("ann", "bob")
        records = [profile(who, name=str(number)) for number in range(1, 4) for who in both]
        loaded = Load(PROFILES, records).into(warehouse)

    assert [row["customer_name"] for row in rows(place, "profiles")] == ["3", "3"]
    assert (loaded.inserted, loaded.updated) == (1, 1)


def test_a_file_that_comes_late_does_not_win(place: Place) -> None:
    """An event of an older file never replaces that of a newer one; a newer file's does."""
    with opened(place) as warehouse:
        for hours, title, modified_at in (
            (0, "first", NOON), (1, "newer", NOON + 2 * HOUR), (2, "late", NOON + HOUR),
        ):  # fmt: skip
            late = Load(
                EMAIL_EVENTS, [event(campaign_title=title), event(event_type=title)],
                at=NOON + hours * HOUR, file=(title, modified_at),
            ).into(warehouse)  # fmt: skip

    found = {row["event_type"]: row["campaign_title"] for row in rows(place, "email_events")}
    assert found == {"open": "newer", "first": None, "newer": None, "late": None}
    assert late == Loaded(inserted=1, older=1)


def test_distinct_events_of_one_key_are_counted(place: Place) -> None:
    """The specified key merges two clicks of one second: the newest stands, and is told of."""
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, [event(target_url="a")]).into(warehouse)
        loaded = Load(EMAIL_EVENTS, [event(target_url="b")], at=NOON + HOUR).into(warehouse)

    assert loaded == Loaded(merged=1)
    assert [row["target_url"] for row in rows(place, "email_events")] == ["b"]


def test_events_without_a_time_are_found_again(place: Place) -> None:
    """A row whose time is null is replaced and not doubled, whatever the batch's span."""
    with opened(place) as warehouse:
        for hours in (0, 1):
            loaded = Load(
                UNSUBSCRIBES,
                [
                    '{"profile_id": "ann", "timestamp": "soon"}',
                    '{"profile_id": "bob", "timestamp": "2026-03-01T10:00:00Z"}',
                ],
                at=NOON + hours * HOUR,
            ).into(warehouse)

    assert loaded.unchanged == 2
    assert len(rows(place, "unsubscribes")) == 2


def test_a_day_of_update_moves_with_its_row(place: Place) -> None:
    """A full read, which knows no day, never makes a known one null."""
    stamped = {"requested_since": "2026-03-01"}
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", name="Ann", **stamped)]).into(warehouse)
        Load(PROFILES, [profile("ann", name="Anna")], at=NOON + HOUR).into(warehouse)

    (row,) = rows(place, "profiles")
    assert (row["customer_name"], row["updated_at"]) == ("Anna", datetime(2026, 3, 1, tzinfo=UTC))


def test_two_sources_stand_side_by_side(place: Place) -> None:
    """The same ids of another account touch no row of the first."""
    with opened(place, "uk", "us") as warehouse:
        Load(PROFILES, [profile("ann", name="Ann")]).into(warehouse)
        Load(PROFILES, [profile("ann", name="Annie")], "us").into(warehouse)
        assert [warehouse.count(PROFILES, Selection(source)) for source in ("uk", "us")] == [1, 1]

    found = {row["__source_id"]: row["customer_name"] for row in rows(place, "profiles")}
    assert found == {"uk": "Ann", "us": "Annie"}


def test_two_sources_may_have_rows_of_one_key(place: Place) -> None:
    """The texts of two keys can be equal: a row of one account never replaces another's."""
    with opened(place, "shop", "shop-2") as warehouse:
        for time in range(2):
            at = NOON + time * HOUR
            for source_id, address in (
                ("shop", "-2bob@example.com"),
                ("shop-2", "bob@example.com"),
            ):
                Load(
                    EMAIL_EVENTS, [event(to_address=address, campaign_title=str(time))],
                    source_id=source_id, at=at, file=(f"{source_id} {time}", at),
                ).into(warehouse)  # fmt: skip

    found = rows(place, "email_events")
    assert len({row["__sync_key"] for row in found}) == 1
    assert {(row["__source_id"], row["email"], row["campaign_title"]) for row in found} == {
        ("shop", "-2bob@example.com", "1"), ("shop-2", "bob@example.com", "1"),
    }  # fmt: skip


def test_an_empty_batch_moves_the_state_only(place: Place) -> None:
    """A read that brought nothing still was a read."""
    with opened(place) as warehouse:
        loaded = Load(UNSUBSCRIBES, [], watermark=NOON).into(warehouse)

    assert loaded == Loaded()
    assert table_state_of(place, "unsubscribes").watermark == NOON


# --- state -------------------------------------------------------------------------------------


def test_state_is_there_when_the_warehouse_is_opened_again(place: Place) -> None:
    """Watermark, ledger, rejects and history are read as they were written."""
    run = Run("a-run", NOON, NOON + HOUR, "succeeded", "1", '{"warnings": ["O\'Neil?"]}')
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", seen="perhaps")], watermark=NOON).into(warehouse)
        Load(EMAIL_EVENTS, [event()], file=("f.csv", NOON - DAY)).into(warehouse)
        warehouse.state.record(run)
        warehouse.state.record(run)

    with open_warehouse(place.url, dry_run=True) as warehouse:
        assert warehouse.state.owners() == [Owner("account of uk", "uk")]
        assert warehouse.state.table_state("uk", "profiles").watermark == NOON
        assert warehouse.state.table_state("uk", "profiles").rejects == 1
        events = warehouse.state.table_state("uk", "email_events")
        assert (events.files, events.loaded_at) == (1, NOON)
        assert warehouse.state.runs(5) == [run]
        assert [(each.raw, each.column_name) for each in warehouse.rejects.newest(5)] == [
            ("perhaps", "seen")
        ]


def test_a_version_of_a_file_is_read_once(place: Place) -> None:
    """The ledger knows name, ETag and size, until the table is rewound."""
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, [event()], file=("f.csv", NOON)).into(warehouse)
        known = FeedObject("f.csv", f"f.csv of {NOON.isoformat()}", 1, NOON)
        written_again = FeedObject("f.csv", "another", 1, NOON + DAY)
        new_files = warehouse.state.new_files("uk", "email_events", [known, written_again])
        assert new_files == [written_again]
        warehouse.state.rewind("uk", "email_events", NOON + DAY)
        assert warehouse.state.new_files("uk", "email_events", [known]) == []
        warehouse.state.rewind("uk", "email_events", NOON)

    with opened(place) as warehouse:
        assert warehouse.state.new_files("uk", "email_events", [known]) == [known]


def test_names_that_sort_by_time_tell_where_to_list_from(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their bytes, and a week before the newest; not once a name has stood out of order."""
    monkeypatch.setattr(state_store, "ENOUGH_NAMES", 5)
    named = [(f"É/{number:03}", NOON + number * DAY) for number in range(15)]
    with opened(place) as warehouse:
        assert warehouse.state.list_after("uk", "email_events") is None
        for name, modified_at in named:
            Load(EMAIL_EVENTS, [], at=modified_at, file=(name, modified_at)).into(warehouse)
        assert warehouse.state.list_after("uk", "email_events") == "É/006"
        assert warehouse.state.list_after("us", "email_events") is None
        warehouse.state.rewind("uk", "email_events", NOON + 14 * DAY)
        assert warehouse.state.list_after("uk", "email_events") is None
        Load(EMAIL_EVENTS, [], at=NOON + 99 * DAY, file=named[-1]).into(warehouse)
        assert warehouse.state.list_after("uk", "email_events") == "É/006"
        late = ("Z/070", NOON + 15 * DAY)  # In a dictionary it comes after É, by bytes before.
        Load(EMAIL_EVENTS, [], at=NOON + 100 * DAY, file=late).into(warehouse)
        assert warehouse.state.list_after("uk", "email_events") is None


def test_a_rewind_moves_the_watermark_back_and_never_on(place: Place) -> None:
    """To a moment before it, or to nothing."""
    with opened(place) as warehouse:
        Load(UNSUBSCRIBES, [], watermark=NOON).into(warehouse)
        warehouse.state.rewind("uk", "unsubscribes", NOON + DAY)
        assert warehouse.state.table_state("uk", "unsubscribes").watermark == NOON
        warehouse.state.rewind("uk", "unsubscribes", NOON - DAY)
    assert table_state_of(place, "unsubscribes").watermark == NOON - DAY
    with opened(place) as warehouse:
        warehouse.state.rewind("uk", "unsubscribes", None)
    assert table_state_of(place, "unsubscribes").watermark is None


def test_what_converts_today_is_filled_in(place: Place) -> None:
    """A replayed value fills its column, unless a newer value was loaded since."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", seen="x"), profile("bob", seen="x")]).into(warehouse)
    _let_rejects_convert(place)
    with opened(place) as warehouse:
        assert warehouse.rejects.replay("uk") == 2

    assert [row["seen"] for row in rows(place, "profiles")] == [True, True]
    assert state(place, "rejects") == []


def test_a_replay_takes_values_of_the_newest_record_alone(place: Place) -> None:
    """An older record of the batch, or of a late file, leaves no reject that could fill a null."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", seen="x"), profile("ann", seen=None)]).into(warehouse)
        for name, moment, seen in (("new", NOON, None), ("old", NOON - DAY, "x")):
            Load(PROFILES, [profile("bob", seen=seen)], file=(name, moment)).into(warehouse)
    assert state(place, "rejects") == []


def test_a_time_that_converts_today_moves_its_row(place: Place) -> None:
    """An event without a time lay elsewhere than one with it may; it is there once."""
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, [event(dt_occurred="soon"), event()]).into(warehouse)
    _let_rejects_convert(place, "2026-03-01T12:00:00Z")
    with opened(place) as warehouse:
        assert warehouse.rejects.replay("uk") == 1

    found = [row["event_at"] for row in rows(place, "email_events")]
    assert len(found) == 2
    assert NOON - timedelta(days=1) in found


def test_an_event_that_has_a_time_is_found_by_one_that_has_none(place: Place) -> None:
    """Their key is the same, wherever they lie: an older version reads less than a newer one."""
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, [event(dt_occurred="soon")]).into(warehouse)
    _let_rejects_convert(place, "2025-01-01T12:00:00Z")
    with opened(place) as warehouse:
        warehouse.rejects.replay("uk")
        Load(EMAIL_EVENTS, [event(dt_occurred="soon"), event()]).into(warehouse)

    assert len(rows(place, "email_events")) == 2


def _let_rejects_convert(place: Place, raw: str = "true") -> None:
    """Do by hand what a newer version would: read what this one could not."""
    with open_warehouse(place.url) as warehouse:
        engine = warehouse._engine
        with engine.session("a test"), engine.transaction():
            engine.execute(f"UPDATE {engine.name(REJECTS)} SET raw = '{raw}'")


def test_a_record_without_its_fault_leaves_the_rejects(place: Place) -> None:
    """A reject is dropped when its row is loaded again and converts."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann", seen="perhaps"), '{"name": "nobody"}']).into(warehouse)
        assert len(state_of_rejects(place)) == 2
        Load(PROFILES, [profile("ann", seen="true")]).into(warehouse)

    assert [reject["reason"] for reject in state_of_rejects(place)] == ["no id"]


def state_of_rejects(place: Place) -> list[dict[str, object]]:
    """Read the rejects."""
    return list(state(place, "rejects"))


# --- sweeps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("remove", [False, True])
def test_a_whole_read_notices_who_is_gone(remove: bool, place: Place) -> None:
    """Rows it did not find are noted, and removed where that is asked for; others stay."""
    with opened(place, "uk", "us") as warehouse:
        Load(PROFILES, [profile(who) for who in ("ann", "bob", "eve")]).into(warehouse)
        Load(PROFILES, [profile("bob")], "us").into(warehouse)
        swept = Load(
            PROFILES, [profile("ann"), profile("eve")],
            at=NOON + HOUR, whole=DeleteDetection(remove=remove, max_share=0.5),
        ).into(warehouse)  # fmt: skip

    assert (swept.deleted_upstream, swept.removed) == (1, int(remove))
    left = {(row["__source_id"], row["profile_id"]) for row in rows(place, "profiles")}
    everyone = {("uk", "ann"), ("uk", "bob"), ("uk", "eve"), ("us", "bob")}
    assert left == (everyone - {("uk", "bob")} if remove else everyone)
    (missing,) = state(place, "deleted_upstream")
    assert (missing["record_id"], missing["removed_at"] is not None) == ("bob", remove)


def test_too_many_are_not_removed(place: Place) -> None:
    """A sweep that would take more than its share takes nothing."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile(who) for who in ("ann", "bob", "eve")]).into(warehouse)
        swept = Load(
            PROFILES, [profile("ann")], whole=DeleteDetection(remove=True, max_share=0.5)
        ).into(warehouse)

    assert (swept.deleted_upstream, swept.removed, swept.removal_refused) == (2, 0, True)
    assert len(rows(place, "profiles")) == 3


# --- who may write -----------------------------------------------------------------------------


def test_two_runs_at_once_are_refused(place: Place) -> None:
    """While one holds the lease of a source, another is told who; another source is free."""
    held = somebody_elses(a_lease())
    with opened(place, "uk", "us") as one:
        one.leases.acquire(held, NOON)
        with opened(place, "uk", "us") as other:
            with pytest.raises(Busy, match=r"another-run.*elsewhere"):
                other.leases.acquire(a_lease(), NOON)
            other.leases.acquire(a_lease("us"), NOON)
            assert other.leases.holder("uk") == held
            other.leases.release(a_lease())  # Not ours: nothing happens.
        assert one.leases.holder("uk") == held
        one.leases.release(held)
        assert one.leases.holder("uk") is None
        one.leases.acquire(a_lease(), NOON)


def test_an_expired_lease_is_taken_over_and_its_run_fenced_off(place: Place) -> None:
    """A run that slept through its lease writes nothing any more."""
    slept = somebody_elses(a_lease())
    with opened(place) as sleeper:
        sleeper.leases.acquire(slept, NOON)
        later = NOON + 2 * HOUR
        with opened(place) as other:
            other.leases.acquire(a_lease(until=later + HOUR), later)
        with pytest.raises(Busy, match="took over"):
            Load(LISTS, ['{"id": "7"}'], lease=slept, watermark=NOON).into(sleeper)

    assert rows(place, "lists") == []
    assert table_state_of(place, "lists").watermark is None


def test_a_dry_run_counts_and_leaves_nothing(place: Place) -> None:
    """Into a warehouse that is not there yet, and into one that is."""
    records = [profile("ann"), profile("bob", seen="perhaps")]
    with opened(place, dry_run=True) as warehouse:
        warehouse.leases.acquire(a_lease(), NOON)
        assert Load(PROFILES, records, watermark=NOON).into(warehouse) == Loaded(inserted=2)
        warehouse.leases.release(a_lease())
    assert not place.is_there
    with opened(place) as warehouse:
        Load(PROFILES, records[:1]).into(warehouse)
    before = rows(place, "profiles")
    with opened(place, dry_run=True) as warehouse:
        counted = Load(PROFILES, records, watermark=NOON, at=NOON + HOUR).into(warehouse)

    assert counted == Loaded(inserted=1, unchanged=1)
    assert rows(place, "profiles") == before
    assert (table_state_of(place, "profiles").watermark, state(place, "rejects")) == (None, [])


def test_another_source_id_is_refused(place: Place) -> None:
    """It would load every row a second time."""
    with opened(place):
        pass

    with (
        open_warehouse(place.url) as warehouse,
        pytest.raises(ConfigError, match="Every key contains the source id"),
    ):
        warehouse.prepare(Owner("account of uk", "fr"), NOON)


# --- any batches, in any order -----------------------------------------------------------------

_IDS: st.SearchStrategy[object] = st.sampled_from(["1", "2", "3", 1, 1.5])
records = st.fixed_dictionaries(
    {"id": _IDS},
    optional={
        "profile_id": st.sampled_from(["p", "q", None, ""]),
        "timestamp": st.sampled_from([None, "soon", "2026-03-01", "2026-03-01T00:00:00Z", 17]),
        "to_address": st.sampled_from(["a", "b", None]),
        "event_type": st.sampled_from(["open", "click"]),
        "dt_occurred": st.sampled_from([None, "?", "1772359200", "2026-03-01 10:00:00+00"]),
        "event": st.sampled_from(["list_enter", "list_exit"]),
        "title": st.text(st.characters(codec="utf-8"), max_size=3),
        "seen": st.sampled_from([True, "perhaps", None]),
        "requested_since": st.sampled_from(["2026-03-01", "2026-03-02"]),
    },
).map(json.dumps)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    table=st.sampled_from([PROFILES, LISTS, MEMBER_LISTS, UNSUBSCRIBES, EMAIL_EVENTS]),
    batches=st.lists(
        st.tuples(st.lists(records, max_size=6), st.integers(0, 3)), min_size=1, max_size=4
    ),
)
def test_any_batches_end_as_in_duckdb(
    table: Table, batches: list[tuple[list[str], int]], place: Place, tmp_path: Path
) -> None:
    """Whatever comes in whatever batches: the same counts, rows and rejects as in DuckDB."""
    reference = DuckDBPlace(tmp_path / "reference.duckdb")
    source_id = f"s{_next_number():06}"
    outcomes = []
    for where in (place, reference):
        with opened(where, source_id) as warehouse:
            loads = [
                Load(
                    table, found, source_id, NOON + number * HOUR,
                    file=(f"{number}", NOON + age * DAY) if table is EMAIL_EVENTS else None,
                ).into(warehouse)
                for number, (found, age) in enumerate(batches)
            ]  # fmt: skip
        rejects = [
            {**reject, "raw": str(reject["raw"]).replace("\0", "␀")}
            for reject in state(where, "rejects")
            if reject["source_id"] == source_id
        ]
        outcomes.append((loads, rows(where, table.name, source_id), rejects))

    assert outcomes[0] == outcomes[1]


_numbers = iter(range(10**6))


def _next_number() -> int:
    return next(_numbers)


# --- rows by selection -------------------------------------------------------------------------

MOMENT, MINUTE = timedelta(microseconds=1), timedelta(minutes=1)
MANY = (
    Span(NOON, NOON + HOUR - MOMENT),
    *(Span(NOON + n * HOUR + MOMENT, NOON + (n + 1) * HOUR - MOMENT) for n in range(1, 4)),
    *(Span(NOON + n * HOUR + MINUTE, NOON + (n + 1) * HOUR - MINUTE) for n in range(4, 150)),
)
"""More spans than a statement has conditions. The closest are those with an event between."""

PARTS = {
    "everything": ALL,
    "a source": Selection("o'neil"),
    "some values": Selection("uk", Values("email", ("b@example.com", "o'neil@example.com"))),
    "values of every source": Selection(values=Values("email", ("a@example.com",))),
    "an hour": Selection("uk", times=Times("event_at", (Span(NOON, NOON + HOUR),))),
    "two spans": Selection(
        times=Times("event_at", (Span(NOON, NOON), Span(NOON + 3 * HOUR, NOON + 9 * HOUR)))
    ),
    "without a time": Selection("uk", times=Times("event_at", untimed=True)),
    "values in a span": Selection(
        "uk", Values("email", ("a@example.com",)), Times("event_at", (Span(NOON, NOON + HOUR),))
    ),
    "many spans": Selection("uk", times=Times("event_at", MANY)),
    "nothing": Selection("nowhere"),
}


def fits(selection: Selection, row: Row) -> bool:
    """Say in plain Python whether a row fits."""
    times, at = selection.times, row["event_at"]
    return (
        selection.source_id in {None, row["__source_id"]}
        and (selection.values is None or row["email"] in selection.values.texts)
        and (
            times is None
            or (times.untimed if at is None else any(s.first <= at <= s.last for s in times.spans))
        )
    )


def load_parts(warehouse: Warehouse) -> None:
    """Load events of two sources: four hours, two addresses, and one without a time."""
    for source_id in ("uk", "o'neil"):
        events = [
            event(to_address=f"{who}@example.com", dt_occurred=(NOON + n * HOUR).isoformat())
            for who in ("a", "b", "o'neil")
            for n in range(4)
        ]
        undated = event(to_address="a@example.com", dt_occurred="soon")
        Load(EMAIL_EVENTS, [*events, undated], source_id).into(warehouse)


def test_reading_may_be_given_up_or_go_on_beside_other_work(place: Place) -> None:
    """The warehouse is let go of afterwards; a table that is not there has no rows."""
    with opened(place) as warehouse:
        Load(PROFILES, [profile("ann"), profile("bob")]).into(warehouse)
        everything, nowhere = Selection("uk"), replace(PROFILES, schema="nowhere")
        for _ in warehouse.read(PROFILES, everything):
            assert warehouse.count(PROFILES, everything) == 2
            assert sum(map(len, warehouse.read(PROFILES, everything))) == 2
        reading = warehouse.read(PROFILES, everything)
        next(reading)
        reading.close()  # type: ignore[attr-defined]  # It is a generator.
        assert len(rows(place, "profiles")) == 2
        assert list(warehouse.read(nowhere, everything)) == []
        assert warehouse.count(nowhere, everything) == 0


def test_rows_are_read_and_counted_by_selection(place: Place) -> None:
    """Each part has the rows that fit, with all columns in order, and no other row."""
    with opened(place, "uk", "o'neil") as warehouse:
        load_parts(warehouse)
        there = rows(place, "email_events")
        for name, selection in PARTS.items():
            wanted = sorted(row["__sync_key"] for row in there if fits(selection, row))
            batches = [batch for batch in warehouse.read(EMAIL_EVENTS, selection) if len(batch)]
            found = [row for batch in batches for row in batch.to_pylist()]
            assert sorted(row["__sync_key"] for row in found) == wanted, name
            assert warehouse.count(EMAIL_EVENTS, selection) == len(wanted), name
            columns = [column.name for column in EMAIL_EVENTS.all_columns]
            assert all(list(row) == columns for row in found), name


@pytest.mark.parametrize("name", PARTS)
def test_rows_are_deleted_by_selection(name: str, place: Place) -> None:
    """The rows that fit are gone, every other row is as it was, and loading goes on."""
    selection = PARTS[name]
    with opened(place, "uk", "o'neil") as warehouse:
        load_parts(warehouse)
        before = rows(place, "email_events")
        deleted = warehouse.delete(EMAIL_EVENTS, selection)
        kept = [row for row in before if not fits(selection, row)]
        assert rows(place, "email_events") == kept
        assert deleted == len(before) - len(kept)
        load_parts(warehouse)
        assert len(rows(place, "email_events")) == len(before)


def test_a_dry_run_deletes_nothing(place: Place) -> None:
    """It counts the rows that would be gone."""
    with opened(place, "uk", "o'neil") as warehouse:
        load_parts(warehouse)
    with open_warehouse(place.url, dry_run=True) as warehouse:
        assert warehouse.delete(EMAIL_EVENTS, Selection("uk")) == 13
    assert len(rows(place, "email_events")) == 26
