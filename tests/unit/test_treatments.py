"""Excluded and hashed columns in the mapping: what is made of a record, and what is not."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from hashlib import md5
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ometria_replica import privacy
from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, Config, Secret, WarehouseSettings
from ometria_replica.doctor.run import check
from ometria_replica.errors import ConfigError
from ometria_replica.mapping import Staging
from ometria_replica.pseudonyms import Pseudonyms
from ometria_replica.records import Dialect, FeedObject, StagedFile
from ometria_replica.replication import sync
from ometria_replica.tables import (
    EMAIL_EVENTS,
    LISTS,
    MEMBER_LISTS,
    PROFILES,
    TABLES,
    UNSUBSCRIBES,
)
from tests.unit.staged import NOON, Outcome, file_of, finish, stage_file, stage_records

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ometria_replica.schema import Table

KEY = "a secret of sixteen characters"
BOB = "Bob.Brown@Example.com"


def account(**settings: Any) -> AccountSettings:
    """Give the settings of an account with a secret."""
    given = {"hash_key": Secret(KEY, "the test"), **settings}
    return AccountSettings(account_id="1042", source_id="uk", **given)


def treated(table: Table, **settings: Any) -> Table:
    """Give a table the treatments of an account's settings."""
    return privacy.treated(table, account(**settings))


def pseudonyms_of(
    connection: duckdb.DuckDBPyConnection,
    pseudonyms: Pseudonyms,
    texts: list[str],
    *,
    are_addresses: bool = False,
) -> list[str]:
    """Compute pseudonyms in DuckDB, as a load does."""
    found = connection.execute(
        f"SELECT {pseudonyms.sql('text', is_address=are_addresses)}"
        " FROM (SELECT unnest($texts::VARCHAR[]) AS text)",
        {**pseudonyms.parameters, "texts": texts},
    )
    return [each for (each,) in found.fetchall()]


def pseudonym(text: str, key: str = KEY, *, is_address: bool = False) -> str:
    """Compute a pseudonym by Python alone."""
    text = text.strip(" \t\n\v\f\r").lower() if is_address else text
    return hmac.new(key.encode(), text.encode(), "sha256").hexdigest()


# --- Pseudonyms --------------------------------------------------------------------------------


FROZEN = {
    "bob@example.com": "3dc9ef4cf7d7d89023105628a904e8da4b8e06ed0705c6c507c36bf632e7fcfa",
    "Zoë": "6d58fa6369c149c4ca1fe293bc95e3e4b0c4c1195cd0302db12031d06b64c424",
}
"""Rows hold such pseudonyms: with others, no later row would join them."""


def test_pseudonyms_are_frozen() -> None:
    """Also against the second vector of RFC 4231."""
    with duckdb.connect() as connection:
        assert pseudonyms_of(connection, Pseudonyms(KEY.encode()), [*FROZEN]) == [*FROZEN.values()]
        (found,) = pseudonyms_of(connection, Pseudonyms(b"Jefe"), ["what do ya want for nothing?"])
    assert found == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


@pytest.mark.parametrize("key", [KEY, "ключ из букв", "k" * 64, "k" * 65, "k" * 300])
def test_a_pseudonym_is_the_hmac_of_the_text(key: str) -> None:
    """For texts in any script, with white space and NUL, and for keys of any length."""
    texts = ["bob", "Bob ", " ", "Zoë Ölmann", "日本語", "🙂", "a\0b", "\0", "'\"\\", "x" * 5000]
    with duckdb.connect() as connection:
        found = pseudonyms_of(connection, Pseudonyms(key.encode()), texts)
        assert found == [pseudonym(text, key) for text in texts]


def test_an_address_is_hashed_without_regard_to_case_and_space_around_it() -> None:
    """Unless the account wants addresses as they came."""
    texts = [BOB, "bob.brown@example.com", "\t BOB.BROWN@EXAMPLE.COM\r\n", "zoë@example.com"]
    with duckdb.connect() as connection:
        alike = pseudonyms_of(connection, Pseudonyms(KEY.encode()), texts, are_addresses=True)
        apart = pseudonyms_of(
            connection, Pseudonyms(KEY.encode(), normalises=False), texts, are_addresses=True
        )
    assert alike == [pseudonym(text, is_address=True) for text in texts]
    assert len(set(alike)) == 2
    assert apart == [pseudonym(text) for text in texts]


def test_no_value_has_no_pseudonym() -> None:
    """Null and the empty text are not hashed; the vectors are frozen, as rows hold them."""
    row = stage_records(
        treated(PROFILES, hash=("*.email", "profiles.phone_number", "profiles.customer_id")),
        '{"id": "p1", "email": "Bob@Example.com ", "phone_number": "", "customer_id": null}',
    ).row
    assert row["email"] == FROZEN["bob@example.com"]
    assert row["phone_number"] in ("", None)
    assert row["customer_id"] is None


# --- Both inputs, and all tables ----------------------------------------------------------------

EVENT = {
    "to_address": BOB,
    "event_type": "click",
    "dt_occurred": "2026-03-01 10:00:00",
    "uuid": "u1",
    "reason": f"550 <{BOB}> unknown",
    "target_url": f"https://shop.example/?a=1&e={BOB}",
    "campaign_title": "Spring",
}
CSV = Dialect("csv", columns=tuple(EVENT), names=tuple(EVENT))


def csv_of(*records: Mapping[str, object]) -> bytes:
    """Write records as CSV."""
    lines = [",".join(EVENT), *(",".join(f'"{each[name]}"' for name in EVENT) for each in records)]
    return "\n".join([*lines, ""]).encode()


def events(folder: Path, table: Table, form: str) -> Outcome:
    """Stage an event in a *form* of the input."""
    content = json.dumps(EVENT)
    if form == "page":
        return stage_records(table, content)
    if form == "jsonl":
        file = file_of(folder, f"{content}\n".encode(), Dialect("json"))
        return stage_file(table, file)
    if form == "parquet":
        file = file_of(folder, b"", Dialect("parquet", columns=tuple(EVENT)))
        pq.write_table(pa.table({name: [value] for name, value in EVENT.items()}), file.path)
        return stage_file(table, file)
    file = file_of(folder, csv_of(EVENT), CSV)
    if form == "csv":
        return stage_file(table, file)
    with duckdb.connect() as connection:
        staging = Staging(connection, table, "1042", "uk")
        if form == "files":
            other = file_of(folder, csv_of({**EVENT, "uuid": "u2"}), CSV, "others")
            staging.add_files([(other, NOON.replace(hour=1)), (file, NOON)])
        else:
            elsewhere = Staging(connection, table, "1042", "uk")
            elsewhere.add_file(file, NOON)
            rows, lines = folder / "rows", folder / "lines"
            counts, unknown = elsewhere.save(rows, lines)
            staging = Staging(connection, table, "1042", "uk")
            origin = FeedObject("events", "etag", 1, NOON)
            staging.add_staged(StagedFile(origin, rows, None, counts, unknown), NOON)
        return finish(staging)


@pytest.mark.parametrize("form", ["page", "csv", "jsonl", "parquet", "files", "staged"])
def test_each_input_gives_the_same_row(form: str, tmp_path: Path) -> None:
    """The pseudonym, the key that is made of it, and texts without the address."""
    found = events(tmp_path, treated(EMAIL_EVENTS, hash=("*.email",)), form)

    who = pseudonym(BOB, is_address=True)
    key = md5(f"uk{who}click2026-03-01 10:00:00".encode()).hexdigest()
    row = found.row
    assert row["email"] == who
    assert row["__sync_key"] == row["email_event_id"] == key
    assert row["bounce_reason"] == "550 <[address]> unknown"
    assert row["target_url"] == "https://shop.example/?a=1&"
    assert row["campaign_title"] == "Spring"
    assert "rown" not in str(found)


THEIRS = {
    "profile_id": "profile",
    "customer_id": "customer",
    "email": "address",
    **dict.fromkeys(("name", "date_of_birth", "phone_number", "address", "address1"), None),
}
"""Last words of the names of columns of people, each with the id that it is, None for no id."""


@pytest.mark.parametrize("table", CATALOG.every.tables, ids=lambda table: table.name)
def test_a_column_whose_name_tells_of_people_is_declared_as_theirs(table: Table) -> None:
    """Without ``person`` or ``personal`` an erasure would not find its rows, nor mask its text."""
    for column in table.columns:
        for words, person in THEIRS.items():
            if f"_{column.name}".endswith(f"_{words}"):
                assert column.person == person, column.name
                assert column.is_personal, column.name


def test_one_value_has_one_pseudonym_in_all_tables() -> None:
    """So tables still join, by address and by profile."""
    tables = [treated(t, hash=("*.email", "*.profile_id")) for t in TABLES]
    profiles, changes, _, events_, unsubscribes = tables
    profile = stage_records(profiles, json.dumps({"id": "p1", "email": BOB})).row
    change = stage_records(
        changes, '{"id": "7", "profile_id": "p1", "timestamp": "2026-03-01", "event": "list_enter"}'
    ).row
    event = stage_records(events_, json.dumps(EVENT)).row
    left = stage_records(
        unsubscribes,
        json.dumps({"profile_id": "p1", "email_address": f" {BOB.upper()}", "timestamp": "2026"}),
    ).row

    assert profile["profile_id"] == change["profile_id"] == left["profile_id"] == pseudonym("p1")
    assert profile["email"] == event["email"] == left["email"]
    assert change["list_id"] == "7"
    assert left["__sync_key"] == md5(f"uk{pseudonym('p1')}2026".encode()).hexdigest()


@pytest.mark.parametrize("wide", [False, True])
def test_an_excluded_part_of_the_key_is_null_and_still_tells_rows_apart(wide: bool) -> None:
    """The key is made of its pseudonym."""
    table = EMAIL_EVENTS.with_wide_keys() if wide else EMAIL_EVENTS
    excluding = treated(table, exclude=("*.email",))
    hashing = treated(table, hash=("*.email",))
    other = {**EVENT, "to_address": "eve@example.com"}
    records = [json.dumps(EVENT), json.dumps(other)]

    found, hashed = (stage_records(each, *records) for each in (excluding, hashing))

    assert [row["email"] for row in found.rows] == [None, None]
    keys = [row["__sync_key"] for row in found.rows]
    assert keys == [row["__sync_key"] for row in hashed.rows]
    assert len(set(keys)) == 2
    if not wide:
        plain = stage_records(table, *records).rows
        assert {row["__sync_key"] for row in plain}.isdisjoint(keys)


URLS = (
    ("https://a.example/x?e=bob@example.com&b=2", "https://a.example/x?&b=2"),
    ("https://a.example/x?b=2&e=bob%40example.com", "https://a.example/x?b=2&"),
    ("https://a.example/x?e=bob%2540example.com#top", "https://a.example/x?#top"),
    ("https://a.example/?E=BOB%40EXAMPLE.COM;c=3", "https://a.example/?;c=3"),
    ("https://a.example/?e=bob@example.com&f=eve@example.com", "https://a.example/?&"),
    ("https://a.example/?e=bob@example.com,eve@example.com&g=1", "https://a.example/?&g=1"),
    ("https://a.example/#e=bob@example.com", "https://a.example/#e=[address]"),
    ("https://a.example/u/bob@example.com/x", "https://a.example/u/[address]/x"),
    ("https://a.example/u/bob%40example.com", "https://a.example/u/[address]"),
    ("mailto:bob+tag@example.com?subject=Hi", "mailto:[address]?subject=Hi"),
    ("https://bob@example.com/", "https://[address]/"),
    ("https://a.example/?q=1#frag", "https://a.example/?q=1#frag"),
    ("HTTPS://A.EXAMPLE/?Q=caf%C3%A9", "HTTPS://A.EXAMPLE/?Q=caf%C3%A9"),
)


def test_a_url_loses_parameters_with_an_address() -> None:
    """However it is written; other parts of it are what they were."""
    table = treated(EMAIL_EVENTS, exclude=("email_events.email",))
    urls = [{**EVENT, "target_url": url, "event_type": f"{n}"} for n, (url, _) in enumerate(URLS)]
    found = stage_records(table, *map(json.dumps, urls)).rows
    assert [row["target_url"] for row in found] == [left for _, left in URLS]


REASONS = (
    (BOB, f"550 5.1.1 <{BOB}>: user unknown", "550 5.1.1 <[address]>: user unknown"),
    (BOB, "smtp; eve@example.com rejects", "smtp; [address] rejects"),
    (BOB, "rejected: 'zoë.ö@exämple.com'", "rejected: '[address]'"),
    (' "Bob Brown"@example.com', 'no "bob brown"@EXAMPLE.com here', "no [address] here"),
    ("bob brown", "mailbox of Bob Brown, bob%20brown", "mailbox of [address], [address]"),
    ("bo", "about", "about"),
    (BOB, None, None),
    (BOB, "mailbox full", "mailbox full"),
)
"""An address, a text that quotes one, and what is left of it."""


def test_a_reason_loses_addresses() -> None:
    """Those that look like one, and the record's own however it looks."""
    left = [expected for *_, expected in REASONS]
    events_ = [
        {**EVENT, "to_address": address, "reason": reason, "event_type": f"{n}"}
        for n, (address, reason, _) in enumerate(REASONS)
    ]
    found = stage_records(
        treated(EMAIL_EVENTS, hash=("email_events.email",)), *map(json.dumps, events_)
    )
    assert [row["bounce_reason"] for row in found.rows] == left

    unsubscribes = [
        {"profile_id": f"{n}", "timestamp": "2026", "email_address": address, "reason_text": text}
        for n, (address, text, _) in enumerate(REASONS)
    ]
    found = stage_records(
        treated(UNSUBSCRIBES, hash=("unsubscribes.email",)), *map(json.dumps, unsubscribes)
    )
    assert [row["unsubscribe_reason_text"] for row in found.rows] == left


def test_texts_stay_where_no_address_is_hidden() -> None:
    """The setting for another column changes nothing in them."""
    table = treated(EMAIL_EVENTS, exclude=("email_events.geo_region",))
    row = stage_records(table, json.dumps(EVENT)).row
    assert row["bounce_reason"] == EVENT["reason"]
    assert row["target_url"] == EVENT["target_url"]


# --- Rejects -----------------------------------------------------------------------------------


def test_rejects_keep_no_value_of_a_treated_column(tmp_path: Path) -> None:
    """Not of a value that does not convert, a record without an identity, or a torn line."""
    profile = {"id": "p1", "date_of_birth": "Bob's birthday", "seen": "maybe", "email": BOB}
    table = treated(PROFILES, exclude=("profiles.date_of_birth",), hash=("*.email",))
    nobody = {"email": BOB, "firstname": "Robert", "date_of_birth": "1980-04-05", "extra": BOB}
    found = stage_records(table, json.dumps(profile), json.dumps(nobody))

    (value,) = (each for each in found.rejects if each["column_name"])
    (record,) = (each for each in found.rejects if not each["column_name"])
    assert (value["column_name"], value["raw"]) == ("seen", "maybe")
    assert json.loads(record["raw"])["firstname"] == "Robert"
    assert json.loads(record["raw"])["email"] == pseudonym(BOB, is_address=True)
    assert "date_of_birth" not in {each["column_name"] for each in found.rejects}

    torn = csv_of(EVENT) + f'"{BOB}",too,few\n"{BOB},torn\n'.encode() + csv_of(EVENT)[70:]
    events_ = stage_file(treated(EMAIL_EVENTS, hash=("*.email",)), file_of(tmp_path, torn, CSV))
    assert len(events_.rejects) >= 2
    assert {each["raw"] for each in events_.rejects} == {None}
    assert all("its text is not kept" in each["reason"] for each in events_.rejects)
    for text in ("rown", "birthday", "1980"):
        assert text not in str(found) + str(events_)


def test_undocumented_names_are_not_kept_beside_a_treated_column(tmp_path: Path) -> None:
    """A writer may have confused names and values: only that there are some is told."""
    record = json.dumps({**EVENT, BOB: 1, "Vogelsang": 2})
    file = file_of(tmp_path, f"{record}\n".encode(), Dialect("json"))
    treated_events = treated(EMAIL_EVENTS, hash=("*.email",))

    plain, hidden = stage_file(EMAIL_EVENTS, file), stage_file(treated_events, file)
    page = stage_records(treated_events, record)

    assert plain.counts.unknown_fields == {BOB, "Vogelsang"}
    assert hidden.counts.unknown_fields == page.counts.unknown_fields == {"names not kept"}
    assert stage_records(treated_events, json.dumps(EVENT)).counts.unknown_fields == frozenset()


# --- Settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"exclude": ("profiles.emial",)}, "exclude: there is no column 'profiles.emial'; did you"),
        ({"hash": ("people.email",)}, "hash: there is no column 'people.email'; did you mean"),
        ({"exclude": ("*.nothing",)}, "exclude: there is no column '*.nothing'"),
        ({"hash": ("*.seen",)}, "hash profiles.seen: only text can be hashed, and this is a bool"),
        ({"exclude": ("*.event_at",)}, "exclude member_lists.event_at: rows are found by this"),
        ({"hash": ("lists.list_id",)}, "hash lists.list_id: the id is no person's"),
        ({"exclude": ("member_lists.list_id",)}, "exclude member_lists.list_id: the id is no"),
        ({"exclude": ("profiles.profile_id",)}, "exclude profiles.profile_id: without this id"),
        ({"hash": ("email_events.email_event_id",)}, "hash email_events.email_event_id: it is"),
        (
            {"hash": ("profiles.email",), "hash_key": None},
            "hash profiles.email: the account needs hash_key, a secret such as",
        ),
        (
            {"exclude": ("email_events.email",), "hash_key": None},
            "exclude email_events.email: the account needs hash_key, a secret such as",
        ),
    ],
)
def test_what_cannot_be_done_is_a_problem(settings: dict[str, Any], problem: str) -> None:
    """It names the column and the reason, and no value."""
    found = list(privacy.problems(TABLES, account(**settings)))
    assert any(each.startswith(problem) for each in found), found
    assert KEY not in str(found)


def test_check_tells_a_problem_and_a_sync_refuses_it(tmp_path: Path) -> None:
    """Before anything is contacted or made; so does the source for dlt, in test_source.py."""
    wrong = account(api_key=Secret("an-invented-key", "the test"), hash=("*.seen", "*.email"))
    url = f"duckdb:///{tmp_path}/w.duckdb"
    config = Config(accounts=(wrong,), warehouse=WarehouseSettings(url=url))
    said = "hash profiles.seen: only text can be hashed"

    finding = next(each for each in check(config) if each.level != "pass")
    with pytest.raises(ConfigError, match=f"uk: {said}"):
        sync(config)

    assert (finding.code, finding.source_id) == ("settings.problem", "uk")
    assert isinstance(finding.error, ConfigError)
    assert said in str(finding.error)
    assert not list(tmp_path.iterdir())


def test_what_can_be_done_is_none() -> None:
    """A column that is named twice is excluded; one that is no key needs no secret."""
    assert not list(privacy.problems(TABLES, account(exclude=("*.email",), hash=("*.email",))))
    assert not list(
        privacy.problems(TABLES, account(exclude=("profiles.email", "*.gender"), hash_key=None))
    )
    both = treated(PROFILES, exclude=("*.email",), hash=("profiles.email",))
    assert [c.treatment for c in both.columns if c.name == "email"] == ["excluded"]
    assert not treated(LISTS, hash=("*.email",)).is_treated
    assert treated(MEMBER_LISTS, hash=("*.profile_id",)).is_treated
    assert KEY not in repr(both)
    assert replace(both, pseudonyms=None) != both
