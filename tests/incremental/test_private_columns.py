"""
Whatever is excluded or hashed is found nowhere: not in a warehouse, a file, a log or a report.

Each planted value contains a mark that nothing else contains. At each step of a run, all that a
kill would leave on the disk is searched for it, in each way in which it could be written.

A value that stands in another field than those of the settings cannot be told apart from what
belongs there: it is planted in no such field, except in the texts that may quote an address.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import os
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from errno import ELOOP
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica import failpoints, privacy
from ometria_replica.config import AccountSettings, Config, FeedSettings, Secret, WarehouseSettings
from ometria_replica.errors import ReplicaError
from ometria_replica.replication import sync
from ometria_replica.schema import Md5
from ometria_replica.tables import TABLES
from tests.e2e.program import invoke
from tests.incremental.shops import NOON
from tests.ometria.listener import Asked, Reply, json_reply, listening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ometria_replica.schema import Column, Table

MARK = "kqzvj"
BIRTHDAY = "1903-04-17"
HAPPENED = "2026-02-20T10:00:00+00:00"
KEY = "kqzvj-is-in-the-secret-too"
LETTERS = MARK.encode()
WRITTEN = (
    LETTERS,
    MARK.encode("utf-16-le"),
    MARK.encode("utf-16-be"),
    BIRTHDAY.encode(),
)
"""How the mark can be written, in lower case. Percent-encoding and JSON leave it as it is."""

ENCODED = tuple(
    base64.b64encode(b"x" * shift + LETTERS + b"xxx")[-(-shift * 4 // 3) : (shift + 5) * 4 // 3]
    for shift in range(3)
)
"""What Base64 makes of the mark, wherever it begins."""

FIELDS = {table.name: table for table in TABLES}
WHOLE = AccountSettings(hash_key=Secret(KEY, "the test"))
ALLOWED = tuple(
    (table, column, treatment)
    for table in TABLES
    for column in table.columns
    for treatment, account in (
        ("exclude", replace(WHOLE, exclude=(f"{table.name}.{column.name}",))),
        ("hash", replace(WHOLE, hash=(f"{table.name}.{column.name}",))),
    )
    if not list(privacy.problems(TABLES, account))
)
"""Each column, and each treatment that it can have."""


def holds_mark(content: bytes) -> bool:
    """Whether a planted value is in *content*, however it is written."""
    lower = content.lower()
    return any(each in lower for each in WRITTEN) or any(each in content for each in ENCODED)


@pytest.mark.parametrize(
    "written",
    [
        f"{MARK.upper()}.7@x.example".encode(),
        f"Zoë {MARK}".encode("utf-16"),
        *(base64.b64encode(b"y" * shift + f"{MARK}@x.example".encode()) for shift in range(3)),
    ],
)
def test_the_search_finds_a_value_however_it_is_written(written: bytes) -> None:
    """Otherwise the tests below would pass whatever there was."""
    assert holds_mark(b"before" + written + b"after")
    assert not holds_mark(b"before and after")


# --- What is planted ---------------------------------------------------------------------------


def planted(table: Table, column: Column, number: int) -> Any:
    """Give a value for a column that is treated, in one of several odd forms."""
    if column.type == "date":
        return (BIRTHDAY, f"{MARK} day", f"{BIRTHDAY} {MARK}")[number % 3]
    place = f"{table.name[:2]}{number}"
    forms: tuple[Any, ...] = (
        f"{MARK}.{place}+tag@{MARK}-{number}.example",
        f"  {MARK.upper()}{number}@{MARK.upper()}.EXAMPLE\t",
        f'Zoë "{MARK}" O\'Neil, {number}; \\ |',
        f"{MARK}\0{number}",
        f'"{MARK} {number}"@{MARK}.example',
        f"{MARK}{number}@exämple-{MARK}.example",
        f"{MARK}{number}\n{MARK}",
        {MARK: [f"{MARK}{number}"]},
        [f"{MARK}{number}", 1.10],
    )
    last = 7 if column.person else len(forms)
    return forms[number % last]


def record_of(
    table: Table, columns: Sequence[Column], number: int, *, plain: bool
) -> dict[str, Any]:
    """Make a record of *table* with values planted in *columns*."""
    treated = {column.name for column in columns}
    record: dict[str, Any] = {}
    address: str | None = None
    for column in table.columns:
        if isinstance(column.source, Md5):
            continue
        value: Any = {"boolean": True, "date": "1999-01-02"}.get(column.type, f"v{number}")
        if column.type == "timestamptz":
            value = HAPPENED
        if column.name in treated:
            value = planted(table, column, number)
            if plain and not isinstance(value, str):
                value = json.dumps(value)
            if column.person == "address":
                address = value
        parent, _, name = column.source.rpartition("::")
        (record.setdefault(parent, {}) if parent else record)[name] = value
    if address is not None:
        for column in table.columns:
            if column.quotes and column.name not in treated:
                record[str(column.source)] = quoting(address, number)
    return record


def quoting(address: str, number: int) -> str:
    """Write a text that quotes an address."""
    other = f"{MARK}{number}@{MARK}.example"
    return (
        f"550 <{address}> unknown, not {other}",
        f"https://a.example/x?a=1&e={other}&b=2#top",
        f"https://a.example/?E={other.replace('@', '%40').upper()}",
        f"https://a.example/u/{other.replace('@', '%2540')}/x?f={other.replace('@', '%40')};g=1",
        f"mailto:{other}?cc={other}",
    )[number % 5]


def odd_records(table: Table, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give records without an identity, with unknown names, and with values for names."""
    identity = {name for group in table.identity for name in group}
    # Without its address, a record does not show that a text quotes an odd one.
    identity |= {
        str(c.source) for c in table.columns if str(record.get(str(c.source)))[:3] == "550"
    }
    without = {name: value for name, value in record.items() if name not in identity}
    extra = {f"Unknown {MARK}": 1, MARK: MARK, f"{MARK}@{MARK}.example": [MARK], "tags": [MARK]}
    return [without, {**record, **extra}, {**without, **extra}, {MARK: {MARK: MARK}}]


def csv_line(cells: Sequence[Any], *, quoted: bool = True) -> str:
    """Write a line of CSV."""
    texts = ["" if cell is None else str(cell).replace('"', '""') for cell in cells]
    return ",".join(f'"{text}"' if quoted else text for text in texts)


def columns_of(table: Table, names: Sequence[str]) -> list[Column]:
    """Give the columns of the fields with these names."""
    by_field = {column.source: column for column in table.columns}
    return [by_field[name] for name in names]


def feed_files(
    table: Table, records: Sequence[Mapping[str, Any]], treated: str
) -> dict[str, bytes]:
    """
    Write files of each form, whole, torn, and such that cannot be read.

    Lines are torn at the field *treated*.
    """
    names = [name for name in table.fields if "::" not in name]
    identity = {name for group in table.identity for name in group}
    rows = [[record.get(name) for name in names] for record in records]
    lines = [",".join(names), *map(csv_line, rows)]
    first, at = rows[0], names.index(treated)
    first = [  # On a torn line, an odd address that a text quotes is that of no record.
        None if each.quotes and each.source != treated else cell
        for each, cell in zip(columns_of(table, names), first, strict=True)
    ]
    before, after = csv_line([*first[:at], ""]).removesuffix('""'), csv_line(first[at + 1 :])
    whole = "\n".join([*lines, ""]).encode()
    jsonl = "".join(f"{json.dumps(record)}\n" for record in records).encode()
    torn = [
        *lines,
        csv_line(first[:3]),
        csv_line([*first, MARK, MARK]),
        f'{before}"{MARK} is not closed,{after}',
        csv_line(first),
        f'{before}"{MARK}" after,{after}',
        csv_line([*first[:-1], "x" * 12_000, MARK]),
    ]
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr(f"{MARK}.csv", whole)
    two = io.BytesIO()
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a.csv", whole)
        archive.writestr("b.csv", whole)
    columns = {
        name: [None if row[at] is None else str(row[at]) for row in rows]
        for at, name in enumerate(names)
    }
    parquet = io.BytesIO()
    pq.write_table(pa.table({**columns, MARK: [MARK] * len(rows)}), parquet)
    other = [*reversed(names)]
    return {
        "1.csv": whole,
        "2.csv": whole.replace(b'"v', b'"w'),
        "3.csv.gz": gzip.compress("\n".join([*torn, ""]).encode()),
        "4.jsonl": jsonl + f'{{"to_address": "{MARK}\n[1, "{MARK}"]\n"{MARK}"\n'.encode(),
        "5.zip": zipped.getvalue(),
        "6.parquet": parquet.getvalue(),
        "joined.csv": whole + (",".join(other) + "\n" + csv_line(first[::-1]) + "\n").encode(),
        "names.csv": "\n".join(
            [
                ",".join([*names, f"{MARK}@x", MARK]),
                csv_line([*first, MARK, MARK]),
                csv_line([*(None if name in identity else "v" for name in names), MARK, MARK]),
                "",
            ]
        ).encode(),
        "twice.csv": "\n".join([",".join([*names, treated]), csv_line([*first, MARK])]).encode(),
        "page.csv": f"<html>{MARK}</html>".encode(),
        "cut.gz": gzip.compress(whole)[:-20],
        "damaged.parquet": parquet.getvalue()[:-9] + MARK.encode() + b"PAR1",
        "two.zip": two.getvalue(),
        "no header.csv": "\n".join([csv_line(first), csv_line(first)]).encode(),
        "binary": MARK.encode() + bytes(range(1, 9)) * 40,
        "latin.csv": whole.decode().encode("latin-1", "replace"),
        "wide.csv": "\n".join([lines[0], *map(csv_line, rows)]).encode("utf-16"),
    }


# --- The run -----------------------------------------------------------------------------------


@dataclass
class Story:
    """An account with settings, its records, and its files."""

    exclude: tuple[str, ...]
    hash: tuple[str, ...]
    first: int = 0
    wide_keys: bool = False
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = {*self.exclude, *self.hash}
        for table in TABLES:
            columns = [c for c in table.columns if f"{table.name}.{c.name}" in named]
            plain = table.name == "email_events"
            records = [
                record_of(table, columns, self.first + number, plain=plain) for number in range(3)
            ]
            odd = odd_records(table, records[0]) if columns else []
            self.tables[table.name] = records + ([] if plain and not columns else odd)

    def answer(self, asked: Asked) -> Reply:
        """Answer as Ometria would; of one list the changes fail, with a person in the answer."""
        match asked.path.removeprefix("/v2/").split("/"):
            case ["lists"]:
                return json_reply(
                    [
                        {**record, "id": f"{n}"}
                        for n, record in enumerate(
                            record for record in self.tables["lists"] if "id" in record
                        )
                    ]
                )
            case ["lists", "1", _]:
                return Reply(json.dumps({"error": MARK}).encode(), status=403)
            case ["lists", _, _]:
                found = self.tables["member_lists"]
            case ["unsubscribes"] if not asked.query["since"] < HAPPENED < asked.query["before"]:
                found = []
            case [name]:
                found = self.tables[name]
        return json_reply(found[asked.offset : asked.offset + asked.limit])

    def account(self, url: str, folder: Path) -> AccountSettings:
        """Give the settings."""
        return AccountSettings(
            account_id="1042",
            source_id="uk",
            api_key=Secret("an-invented-key", "the test"),
            api_url=url,
            requests_per_second=1000,
            wide_keys=self.wide_keys,
            exclude=self.exclude,
            hash=self.hash,
            hash_key=Secret(KEY, "the test"),
            feed=FeedSettings(url=str(folder), settle_seconds=0),
        )


@contextmanager
def watching(look: Any) -> Iterator[io.StringIO]:
    """Call *look* at each step of the program, and take what it logs at any level."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    failpoints.listen(look)
    try:
        yield log
    finally:
        failpoints._listeners.remove(look)
        root.removeHandler(handler)
        root.setLevel(level)


@contextmanager
def open_umask() -> Iterator[None]:
    """Let all read new files, unless the program says otherwise."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@dataclass
class Watch:
    """
    Searches what a kill would leave below *folders*; *found* names it, and the step.

    *open* names what others than its owner may read.
    """

    folders: tuple[Path, ...]
    found: dict[str, str] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def look(self, step: str) -> None:
        """Search the names of all files, and the contents of those that have changed."""
        if step.endswith(" request"):
            return
        for path in (path for folder in self.folders for path in folder.rglob("*")):
            content = self._changed(path)
            if holds_mark(content) or MARK in path.name.lower():
                self.found.setdefault(path.name, step)
            if _is_open(path):
                self.open.add(path.name)

    def _changed(self, path: Path) -> bytes:
        try:
            now = path.lstat()
            if not S_ISREG(now.st_mode) or self._seen.get(path) == (now.st_mtime_ns, now.st_size):
                return b""
            self._seen[path] = (now.st_mtime_ns, now.st_size)
            # Another thread may put a link here meanwhile; after a kill it leads nowhere.
            with open(path, "rb", opener=_without_links) as file:
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            if error.errno != ELOOP:
                raise
            return b""


def _is_open(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not S_ISLNK(mode) and bool(mode & 0o077)


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def tell(story: Story, folder: Path) -> None:
    """Sync, look at each step and at all that is shown, and find nothing of what is planted."""
    feed, kept, temporary = folder / "feed", folder / "kept", folder / "temporary"
    for each in (feed, kept, temporary):
        each.mkdir()
    events = FIELDS["email_events"]
    named = {name.partition(".")[2] for name in (*story.exclude, *story.hash) if "events." in name}
    if treated := [str(c.source) for c in events.columns if c.name in named]:
        files = feed_files(events, story.tables["email_events"], treated[0])
        for name, content in files.items():
            (feed / name).write_bytes(content)
    warehouse = kept / "w.duckdb"
    watch = Watch((kept, temporary))
    said: list[str] = []
    with (
        listening(story.answer) as listener,
        patch.dict("os.environ", {"XDG_CACHE_HOME": str(kept)}),
        open_umask(),
        watching(watch.look) as log,
    ):
        config = Config(
            accounts=(story.account(listener.url, feed),),
            warehouse=WarehouseSettings(
                url=f"duckdb:///{warehouse}", temp_directory=str(temporary), threads=1
            ),
        )
        try:
            report = sync(config, clock=lambda: NOON)
        except ReplicaError as error:
            said.append(str(error))
            if error.report is None:
                raise
            report = error.report
        said += [report.to_text(), json.dumps(report.to_json())]
        said.append(log.getvalue())
    look_at_rows(story, warehouse)
    at_end = Watch(watch.folders)
    at_end.look("the end")
    assert not watch.found | at_end.found
    assert not watch.open | at_end.open
    shown = {
        "OMETRIA_WAREHOUSE_URL": f"duckdb:///{warehouse}",
        "OMETRIA_API_KEY": "an-invented-key",
    }
    for command in (
        ["rejects", "list", "--raw", "--limit", "1000"],
        ["rejects", "list", "--json", "--raw", "--limit", "1000"],
        ["runs", "--json"],
        ["state", "show", "--json"],
        ["-v", "config"],
    ):
        result = invoke(*command, env=shown)
        assert result.exit_code == 0, (command, result.output)
        said.append(result.output)
    for text in said:
        assert not holds_mark(text.encode()), [
            line for line in text.splitlines() if holds_mark(line.encode())
        ]


def look_at_rows(story: Story, warehouse: Path) -> None:
    """Read all tables, since a column may be compressed in the file."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        names = connection.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
        ).fetchall()
        for schema, name in names:
            rows = connection.execute(f"FROM {schema}.{name}").fetchall()
            leaking = [row for row in rows if holds_mark(str(row).encode())]
            assert not leaking, (name, leaking[0], story.exclude, story.hash, story.first)
        loaded = {
            name: connection.execute(f"SELECT count(*) FROM ometria.{name}").fetchall()
            for name in FIELDS
        }
        for place in story.exclude:
            table, _, column = place.partition(".")
            ((values,),) = connection.execute(
                f"SELECT count({column}) FROM ometria.{table}"
            ).fetchall()
            assert values == 0, place
        for place in story.hash:
            table, _, column = place.partition(".")
            ((odd, values),) = connection.execute(
                f"SELECT count(*) FILTER (NOT regexp_full_match({column}, '[0-9a-f]{{64}}')),"
                f" count({column}) FROM ometria.{table} WHERE {column} <> ''"
            ).fetchall()
            assert odd == 0, place
            assert values or place in story.exclude or loaded[table] == [(0,)], place


def everything(shift: int) -> Story:
    """Give a story in which each column is treated that can be, but for texts that quote."""
    chosen: dict[str, str] = {}
    for number, (table, column, treatment) in enumerate(ALLOWED):
        place = f"{table.name}.{column.name}"
        if not column.quotes and (place not in chosen or (number + shift) % 2):
            chosen[place] = treatment
    return Story(
        exclude=tuple(place for place, treatment in chosen.items() if treatment == "exclude"),
        hash=tuple(place for place, treatment in chosen.items() if treatment == "hash"),
        first=shift,
    )


def test_what_is_hidden_is_found_nowhere(tmp_path: Path) -> None:
    """Each column that can be hidden is, and each kind of record and file has its value."""
    tell(everything(1), tmp_path)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_whatever_is_hidden_is_found_nowhere(data: st.DataObject) -> None:
    """For any choice of columns, and any of the planted values."""
    people = [each for each in ALLOWED if each[1].is_personal]
    some = data.draw(
        st.lists(st.sampled_from(people) | st.sampled_from(ALLOWED), min_size=1, max_size=12)
    )
    places: dict[str, set[str]] = {"exclude": set(), "hash": set()}
    for table, column, treatment in some:
        places[treatment].add(f"{table.name}.{column.name}")
    story = Story(
        exclude=tuple(sorted(places["exclude"])),
        hash=tuple(sorted(places["hash"])),
        first=data.draw(st.integers(0, 50)),
        wide_keys=data.draw(st.booleans()),
    )
    with tempfile.TemporaryDirectory() as folder:
        tell(story, Path(folder))
