"""What lakes do in their own way: stretches of files, commits that are overtaken, a bucket."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica import maintain
from ometria_replica.batch import DeleteDetection, Loaded, Owner
from ometria_replica.config import Config, WarehouseSettings
from ometria_replica.errors import Busy, CommitConflict, ConfigError, Unreachable, WarehouseError
from ometria_replica.selection import ALL, Span, join_spans
from ometria_replica.tables import EMAIL_EVENTS, PROFILES, TABLES
from ometria_replica.warehouse import open_warehouse
from ometria_replica.warehouse.remotes import delta
from ometria_replica.warehouse.remotes.lake import MOST_KEYS, MOST_SPANS
from tests.faults.ladders import Rung, climb
from tests.faults.scenarios import live
from tests.faults.world import HISTORY, World
from tests.forked import ROOT
from tests.places import KINDS, BucketPlace, DeltaPlace
from tests.postgres import postgres
from tests.warehouses.loads import HOUR, NOON, Load, a_lease, opened, rows, state, table_state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ometria_replica.warehouse.remotes.lake_format import LakeTable
    from tests.places import Place

LAKES = ("delta", "iceberg")
DAY = timedelta(days=1)


@pytest.fixture(params=LAKES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Create an empty lake, and remove it afterwards."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.remove()


def event(at: datetime | None, who: str = "ann", title: str = "") -> str:
    """Write an event of the feed."""
    when = at.isoformat() if at else "soon"
    return json.dumps(
        {"to_address": who, "event_type": "open", "dt_occurred": when, "campaign_title": title}
    )


@contextmanager
def table_of(place: Place, name: str) -> Iterator[LakeTable]:
    """Open one of the five as the replica does."""
    with open_warehouse(place.url, dry_run=True) as warehouse:
        lake = warehouse._engine._remote._lake  # type: ignore[attr-defined]  # Of lakes.
        with lake.explaining("a test"):
            table = lake.open("ometria", name)
            assert table is not None
            yield table


# --- rows first, state after -------------------------------------------------------------------


LADDER = (
    Rung("before remote rows"),
    Rung("after remote rows", commits=True),  # The next run has no row to write.
    Rung("before remote state", commits=True),
    Rung("after remote state", commits=True),
)


HISTORY_LADDER = (
    *LADDER,
    Rung("before remote rows", nth=2, commits=True),
    Rung("after remote rows", nth=2, commits=True),
)
"""Kills between the rows of a table and those of its history too."""


@pytest.mark.slow
def test_kills_between_rows_and_state_double_nothing(lake: Place, tmp_path: Path) -> None:
    """The next run finds rows without their state or history, and leaves them as they are."""
    with World(tmp_path, place=lake, profiles=130, email_events=60, settings=HISTORY) as world:
        world.run()
        world.check()
        for table, ladder in (("profiles", HISTORY_LADDER), ("email_events", LADDER)):
            live(world)
            climb(world, [replace(rung, table=table, alone=True) for rung in ladder])


def test_an_answer_that_is_lost_doubles_nothing(lake: Place) -> None:
    """A store may commit and then report a conflict: for a full read, and for its state."""
    with opened(lake) as warehouse:
        remote: Any = warehouse._engine._remote  # type: ignore[attr-defined]  # Of lakes.
        remote._lake = Forgetful(remote._lake)
        profiles = ['{"id": "a"}', '{"id": "b"}']
        load = Load(
            PROFILES, profiles, watermark=NOON, whole=DeleteDetection(remove=False, max_share=1.0)
        )
        load.into(warehouse)

    assert [row["profile_id"] for row in rows(lake, "profiles")] in (["a", "b"], ["b", "a"])
    assert sorted(mark["kind"] for mark in state(lake, "watermarks")) == ["full_read", "watermark"]


def test_a_removal_whose_answer_is_lost_is_counted(lake: Place) -> None:
    """The removal is repeated, and not the batch: its counts and its record are those of one."""
    remove = DeleteDetection(remove=True, max_share=1.0)
    with opened(lake) as warehouse:
        Load(PROFILES, ['{"id": "a"}', '{"id": "b"}']).into(warehouse)
        remote: Any = warehouse._engine._remote  # type: ignore[attr-defined]  # Of lakes.
        remote._lake = Forgetful(remote._lake, "overwrite", after=1)
        again = Load(PROFILES, ['{"id": "a", "name": "Ann"}'], at=NOON + HOUR, whole=remove)
        loaded = again.into(warehouse)

    assert (loaded.updated, loaded.unchanged, loaded.removed) == (1, 0, 1)
    assert [row["profile_id"] for row in rows(lake, "profiles")] == ["a"]
    assert [row["record_id"] for row in state(lake, "deleted_upstream")] == ["b"]


class Forgetful:
    """A lake that loses one answer for each table: to the method *losing*, *after* some calls."""

    def __init__(self, lake: Any, losing: str = "append", after: int = 0) -> None:
        self._lake, self._losing, self._after = lake, losing, after
        self._calls: Counter[tuple[str, str]] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def open(self, schema: str, name: str) -> Any:
        """Open a table that does so."""
        table = self._lake.open(schema, name)
        return table and ForgetfulTable(table, self._losing, lambda: self._is_lost(schema, name))

    def _is_lost(self, *table: str) -> bool:
        key = (table[0], table[1])
        self._calls[key] += 1
        return self._calls[key] == self._after + 1


class ForgetfulTable:
    """One of its tables."""

    def __init__(self, table: Any, losing: str, is_lost: Callable[[], bool]) -> None:
        self._table, self._losing, self._is_lost = table, losing, is_lost

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._table, name)
        return self._losing_answer(method) if name == self._losing else method

    def _losing_answer(self, method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            method(*arguments)
            if self._is_lost():
                raise CommitConflict("The answer was lost.")

        return call


# --- which part is written anew ----------------------------------------------------------------


def test_only_the_days_of_a_batch_are_written_anew(lake: Place) -> None:
    """An event that comes again changes the file of its day, and no other."""
    with opened(lake) as warehouse:
        for days in range(3):
            Load(EMAIL_EVENTS, [event(NOON + days * DAY, who) for who in "abc"]).into(warehouse)
        before = set(lake.files("email_events"))  # type: ignore[attr-defined]  # Of lakes.
        loaded = Load(EMAIL_EVENTS, [event(NOON + DAY, "b", "Sale")], at=NOON + HOUR).into(
            warehouse
        )
    after = set(lake.files("email_events"))  # type: ignore[attr-defined]  # Of lakes.

    assert loaded == Loaded(merged=1)
    assert (len(before), len(before & after), len(after)) == (3, 2, 3)
    assert [row["campaign_title"] for row in rows(lake, "email_events")].count("Sale") == 1
    assert len(rows(lake, "email_events")) == 9


ODD = ("o'neil", "a\\'b", "--", '"', "%_", "é\u202e", "NULL", "x" * 300)


def test_a_changed_profile_changes_its_file_alone(lake: Place) -> None:
    """Whatever its id is, and profiles that come unchanged change none."""
    with opened(lake) as warehouse:
        for batch in (ODD, ("bob", "cat")):
            Load(PROFILES, [json.dumps({"id": name}) for name in batch]).into(warehouse)
        before = set(lake.files("profiles"))  # type: ignore[attr-defined]  # Of lakes.
        same = Load(PROFILES, [json.dumps({"id": name}) for name in (*ODD, "bob")], at=NOON + HOUR)
        assert same.into(warehouse) == Loaded(unchanged=len(ODD) + 1)
        assert set(lake.files("profiles")) == before  # type: ignore[attr-defined]  # Of lakes.
        changed = [json.dumps({"id": name, "name": "new"}) for name in (*ODD[1:], "dan")]
        loaded = Load(PROFILES, changed, at=NOON + HOUR).into(warehouse)
    after = set(lake.files("profiles"))  # type: ignore[attr-defined]  # Of lakes.

    assert loaded == Loaded(inserted=1, updated=len(ODD) - 1)
    assert len(before & after) == 1
    names = {row["profile_id"]: row["customer_name"] for row in rows(lake, "profiles")}
    old = dict.fromkeys((ODD[0], "bob", "cat"))
    assert names == old | dict.fromkeys((*ODD[1:], "dan"), "new")


@pytest.mark.slow
def test_more_changed_rows_than_a_filter_lists_are_written(lake: Place) -> None:
    """At the limit of the filter, and one row beyond it."""
    with opened(lake) as warehouse:
        for count in (MOST_KEYS, MOST_KEYS + 1):
            for name in ("old", str(count)):
                changed = [json.dumps({"id": str(n), "name": name}) for n in range(count)]
                Load(PROFILES, changed).into(warehouse)
            names = [row["customer_name"] for row in rows(lake, "profiles")]
            assert names == [str(count)] * count


def test_the_edges_of_a_stretch_belong_to_it(lake: Place) -> None:
    """Rows a microsecond apart are kept apart, at a batch's first and last moment and outside."""
    tick = timedelta(microseconds=1)
    moments = [NOON + number * tick for number in range(5)]
    with opened(lake) as warehouse:
        Load(EMAIL_EVENTS, [event(moment) for moment in moments]).into(warehouse)
        loaded = Load(EMAIL_EVENTS, [event(moment, title="again") for moment in moments[1:4]]).into(
            warehouse
        )
    found = {row["event_at"]: row["campaign_title"] for row in rows(lake, "email_events")}

    assert loaded.merged == 3
    assert [found[moment] or "" for moment in moments] == ["", "again", "again", "again", ""]


def test_a_stretch_takes_no_row_of_another_source(lake: Place) -> None:
    """Neither of one whose name holds a quote, nor without a time, nor of the same time."""
    with opened(lake, "uk", "o'neil") as warehouse:
        for source_id in ("uk", "o'neil"):
            Load(EMAIL_EVENTS, [event(NOON), event(None)], source_id).into(warehouse)
        changed = [event(NOON, title="Sale"), event(None, title="Sale")]
        again = Load(EMAIL_EVENTS, changed, "o'neil", NOON + HOUR).into(warehouse)

    assert again == Loaded(merged=2)
    loaded_at = [(row["__source_id"], row["__synced_at"]) for row in rows(lake, "email_events")]
    assert sorted(loaded_at) == [("o'neil", NOON + HOUR)] * 2 + [("uk", NOON)] * 2


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 9)), max_size=80))
def test_spans_are_joined_where_they_are_closest(drawn: list[tuple[int, int]]) -> None:
    """Few are left, in order and apart, and each moment of the many is in one of them."""
    starts = sorted({start * 10: length for start, length in drawn}.items())
    bounds = [(NOON + start * HOUR, NOON + (start + length) * HOUR) for start, length in starts]

    found = join_spans([Span(*bound) for bound in bounds], MOST_SPANS)
    spans = [(span.first, span.last) for span in found]

    assert len(spans) == min(len(bounds), MOST_SPANS)
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    assert all(any(s <= first and last <= e for s, e in spans) for first, last in bounds)
    gaps = [b[0] - a[1] for a, b in pairwise(bounds)]
    kept = [b[0] - a[1] for a, b in pairwise(spans)]
    assert sorted(kept) == sorted(gaps)[len(gaps) - len(kept) :]


def test_a_batch_may_replace_tens_of_thousands_of_rows(lake: Place) -> None:
    """In any order: more than delta-rs 1.6 can merge, which ended the process at 50,000."""
    records = [
        json.dumps({"id": str(number), "name": "x" * (number % 7)}) for number in range(60_000)
    ]
    with opened(lake) as warehouse:
        Load(PROFILES, records).into(warehouse)
        changed = [record.replace('"name": "', '"name": "y') for record in records[::-1]]
        again = Load(PROFILES, changed, at=NOON + HOUR).into(warehouse)

    assert again == Loaded(updated=60_000)
    assert {row["__synced_at"] for row in rows(lake, "profiles")} == {NOON + HOUR}
    assert len(rows(lake, "profiles")) == 60_000


def test_a_sweep_takes_out_many_rows_at_once(lake: Place) -> None:
    """Thousands of rows that are gone are removed, and no other."""
    everyone = [json.dumps({"id": str(number)}) for number in range(5_000)]
    with opened(lake) as warehouse:
        Load(PROFILES, everyone).into(warehouse)
        swept = Load(
            PROFILES, everyone[:1_000], whole=DeleteDetection(remove=True, max_share=1.0)
        ).into(warehouse)

    assert swept.removed == 4_000
    assert {row["profile_id"] for row in rows(lake, "profiles")} == {str(n) for n in range(1_000)}


# --- who comes in between ----------------------------------------------------------------------


def test_a_writer_that_was_overtaken_writes_nothing(lake: Place) -> None:
    """A writer that read a table before another commit can neither append nor replace."""
    with opened(lake) as warehouse:
        Load(EMAIL_EVENTS, [event(NOON)]).into(warehouse)
        with table_of(lake, "email_events") as late, table_of(lake, "email_events") as later:
            Load(EMAIL_EVENTS, [event(NOON + HOUR)]).into(warehouse)
            whatever = late.rows(ALL).read_all()
            with pytest.raises(Busy, match="wrote to"), table_of(lake, "email_events"):
                late.append(whatever.to_reader())
            with pytest.raises(Busy, match="wrote to"), table_of(lake, "email_events"):
                later.overwrite(ALL, whatever.to_reader())

    assert len(rows(lake, "email_events")) == 2


def test_accounts_that_load_at_once_lose_nothing(lake: Place) -> None:
    """A batch that another account's overtook is compared again and written: none is doubled."""
    sources, batches = ("uk", "us"), 4
    with opened(lake, *sources):
        pass

    def load_all(source_id: str) -> list[Loaded]:
        with opened(lake, *sources) as warehouse:
            warehouse.leases.acquire(a_lease(source_id), NOON)
            return [
                Load(
                    EMAIL_EVENTS, [event(NOON, str(n)), event(NOON + n * HOUR, "all")], source_id,
                    NOON + n * HOUR, watermark=NOON + n * HOUR, lease=a_lease(source_id),
                ).into(warehouse)
                for _ in range(2) for n in range(batches)
            ]  # fmt: skip

    with ThreadPoolExecutor(len(sources)) as pool:
        counted = list(pool.map(load_all, sources))

    for source_id, loaded in zip(sources, counted, strict=True):
        assert (sum(each.inserted for each in loaded), loaded[-1].unchanged) == (2 * batches, 2)
        assert len(rows(lake, "email_events", source_id)) == 2 * batches
        assert (
            table_state_of(lake, "email_events", source_id).watermark == NOON + (batches - 1) * HOUR
        )


# --- in a bucket -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_lake_in_a_bucket_is_as_one_in_a_folder(bucket: str) -> None:
    """Rows are added, replaced and removed, state is kept, and leases are seen."""
    place = BucketPlace(bucket, "some/lake")
    everyone = [json.dumps({"id": str(number)}) for number in range(3_000)]
    with opened(place) as warehouse:
        warehouse.leases.acquire(a_lease(), NOON)
        Load(PROFILES, everyone, watermark=NOON).into(warehouse)
        again = Load(PROFILES, everyone[:2_000], at=NOON + HOUR).into(warehouse)
        Load(EMAIL_EVENTS, [event(NOON), event(None)], file=("f.csv", NOON)).into(warehouse)
        with opened(place) as other, pytest.raises(Busy):
            other.leases.acquire(a_lease(run_id="another"), NOON)
        sweep = DeleteDetection(remove=True, max_share=1.0)
        swept = Load(PROFILES, everyone[:1_000], whole=sweep).into(warehouse)

    assert (again.unchanged, swept.removed) == (2_000, 2_000)
    assert {row["profile_id"] for row in rows(place, "profiles")} == {str(n) for n in range(1_000)}
    assert len(rows(place, "email_events")) == 2
    assert table_state_of(place, "profiles").watermark == NOON
    assert table_state_of(place, "email_events").files == 1


@pytest.mark.slow
def test_two_writers_of_a_bucket_overtake_each_other(bucket: str) -> None:
    """Of two commits on one version the store takes one: it is asked to write only what is new."""
    place = BucketPlace(bucket, "lake")
    with opened(place) as warehouse:
        Load(EMAIL_EVENTS, [event(NOON)]).into(warehouse)
        with table_of(place, "email_events") as late:
            Load(EMAIL_EVENTS, [event(NOON + HOUR)]).into(warehouse)
            with pytest.raises(Busy, match="wrote to"), table_of(place, "email_events"):
                late.append(late.rows(ALL))


def test_a_bucket_that_is_not_there_is_told_of(bucket: str) -> None:
    """With what to do, and without what the store answered."""
    with pytest.raises(WarehouseError, match="no such bucket"), opened(BucketPlace("nope", "lake")):
        pass


def test_a_store_that_does_not_answer_can_be_tried_later(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the run with exit code 75, after a few tries."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="does not answer"), opened(BucketPlace(bucket, "lake")):
        pass


@pytest.mark.parametrize("kind", LAKES)
def test_only_what_passes_by_itself_can_be_tried_later(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is one however often a scheduler tries again, and names no answer's text."""
    with answering() as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setitem(delta.OPTIONS, "max_retries", "0")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        url = {"delta": "delta+s3://bucket/lake", "iceberg": f"iceberg+{address}"}[kind]
        later = {}
        for status in (301, 400, 401, 403, 404, 501, 503):
            server.status = status
            with pytest.raises(WarehouseError) as failed, open_warehouse(url) as warehouse:
                warehouse.prepare(Owner("account", "uk"), NOON)
            assert "SECRET" not in str(failed.value)
            later[status] = failed.value.exit_code == 75
    assert [status for status, may_pass in later.items() if may_pass] == [503]


class _Answering(ThreadingHTTPServer):
    status = 200


@contextmanager
def answering() -> Iterator[_Answering]:
    """Serve a page that is neither a store's nor a catalog's, with a status to be set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = b"<html>SECRET</html>"
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Write none."""

    with _Answering(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=[0.01]).start()
        yield server
        server.shutdown()


# --- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "delta:///",
        "delta://folder",
        "delta+s3:///lake",
        "iceberg:///x",
        "iceberg+sqlite:///catalog.db",
        "iceberg+sqlite://catalog.db?warehouse=file:///lake",
    ],
)
def test_an_address_that_names_no_lake_is_refused(url: str) -> None:
    """Before anything is made."""
    with pytest.raises(ConfigError, match=r"warehouse\.url"):
        open_warehouse(url)


@pytest.mark.parametrize(("scheme", "package"), [("delta", "deltalake"), ("iceberg", "pyiceberg")])
def test_a_package_that_is_missing_is_named(scheme: str, package: str, tmp_path: Path) -> None:
    """With the command that installs it."""
    code = (
        f"import sys; sys.modules['{package}'] = None\n"
        "from ometria_replica import ConfigError\n"
        "from ometria_replica.warehouse import open_warehouse\n"
        f"try: open_warehouse('{scheme}:///{tmp_path}/lake')\n"
        "except ConfigError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert f"pip install 'ometria-replica[{scheme}]'" in told.stdout


@pytest.mark.slow
def test_a_catalog_can_be_named_in_pyicebergs_own_settings(tmp_path: Path) -> None:
    """As `iceberg://NAME`, with whatever else the catalog needs kept where pyiceberg keeps it."""
    code = (
        "from ometria_replica.tables import LISTS\n"
        "from ometria_replica.warehouse import open_warehouse\n"
        "from ometria_replica.batch import Owner\n"
        "from pyiceberg.catalog import load_catalog\n"
        "from tests.warehouses.loads import NOON\n"
        "with open_warehouse('iceberg://shop') as warehouse:\n"
        "    warehouse.prepare(Owner('1042', 'uk'), NOON)\n"
        "print(load_catalog('shop').list_tables('ometria'))\n"
    )
    settings = {
        "PYICEBERG_CATALOG__SHOP__URI": f"sqlite:///{tmp_path}/catalog.db",
        "PYICEBERG_CATALOG__SHOP__WAREHOUSE": f"file://{tmp_path}",
    }
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={**os.environ, **settings, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert all(f"('ometria', '{table.name}')" in told.stdout for table in TABLES)


def test_a_file_in_the_place_of_the_folder_is_told_of(tmp_path: Path) -> None:
    """By `check`, which writes nothing, as by a sync."""
    (tmp_path / "lake").write_text("not a folder")
    place = DeltaPlace(tmp_path / "lake")
    with (
        open_warehouse(place.url, dry_run=True) as warehouse,
        pytest.raises(WarehouseError, match="cannot be written"),
    ):
        warehouse.check_access()
    with pytest.raises(WarehouseError, match="cannot be read or written"), opened(place):
        pass


def test_a_catalog_of_iceberg_is_in_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the driver that the page names, whichever one SQLAlchemy prefers. It is maintained too."""
    database = postgres().new_database()
    monkeypatch.setenv("PGHOST", str(postgres().folder))
    url = f"iceberg+postgresql://postgres@/{database}?warehouse=file://{tmp_path}"
    for name, expected in (("Ann", Loaded(inserted=1)), ("Anna", Loaded(updated=1))):
        with open_warehouse(url) as warehouse:
            warehouse.prepare(Owner("account of uk", "uk"), NOON)
            record = json.dumps({"id": "a", "name": name})
            assert Load(PROFILES, [record], watermark=NOON).into(warehouse) == expected
    with open_warehouse(url, dry_run=True) as warehouse:
        assert warehouse.state.table_state("uk", "profiles").watermark == NOON
    config = Config((), WarehouseSettings(url=url))
    found = [
        maintain(config, "profiles", retention=timedelta(), force=True).removed.count
        for _ in range(2)
    ]
    assert found[0] > found[1] == 0
    with open_warehouse(url, dry_run=True) as warehouse:
        assert warehouse.count(PROFILES, ALL) == 1
    postgres().drop(database)
