from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, localcontext
from itertools import permutations
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ometria_replica.mapping import Staging
from ometria_replica.more_tables import COLLECTIONS, ORDERS
from ometria_replica.tables import EMAIL_EVENTS, LISTS, MEMBER_LISTS, PROFILES, UNSUBSCRIBES
from tests.spec import oracle
from tests.spec.page import page_tables
from tests.unit.staged import NOON, finish, page, stage, stage_records

if TYPE_CHECKING:
    from ometria_replica.schema import Table
    from tests.unit.staged import Outcome

PAGES = {table.name: table for table in page_tables()}

TIMES = {
    # The forms of the documentation and of the feed, facts 8.13; without a zone it is UTC.
    "2014-11-01T15:34:35+00:00": datetime(2014, 11, 1, 15, 34, 35, tzinfo=UTC),
    "2017-05-17 22:08:07+00": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-02-04 10:18:12.833949+00": datetime(2017, 2, 4, 10, 18, 12, 833949, tzinfo=UTC),
    "2017-05-17": datetime(2017, 5, 17, tzinfo=UTC),
    "2017-05-17T22:08:07Z": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17T22:08:07": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17 22:08:07": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17 22:08": datetime(2017, 5, 17, 22, 8, tzinfo=UTC),
    "2017-05-17T22:08:07.5Z": datetime(2017, 5, 17, 22, 8, 7, 500000, tzinfo=UTC),
    "2017-05-17T22:08:07.123456789Z": datetime(2017, 5, 17, 22, 8, 7, 123456, tzinfo=UTC),
    "2017-05-17 22:08:07 +00:00": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17 23:08:07 +0100": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17t22:08:07z": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17 22:08:07 GMT": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17 22:08:07 UTC": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17T23:08:07+01:00": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-18T03:38:07+0530": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2017-05-17 12:38:07-09:30": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "2016-02-29T23:59:59+00:00": datetime(2016, 2, 29, 23, 59, 59, tzinfo=UTC),
    "1495058887": datetime(2017, 5, 17, 22, 8, 7, tzinfo=UTC),
    "1495058887.25": datetime(2017, 5, 17, 22, 8, 7, 250000, tzinfo=UTC),
    "1495058887123": datetime(2017, 5, 17, 22, 8, 7, 123000, tzinfo=UTC),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "9999-12-31T23:59:59.999999Z": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
}
NO_TIMES = [
    *("infinity", "-infinity", "+infinity", "Infinity", " infinity", "epoch", "now", "today"),
    *("tomorrow", "17/05/2017", "05/17/2017", "17.05.2017", "May 17 2017", "2017-W20-3"),
    *("2017-02-30", "2017-02-29", "2017-13-01", "2017-00-10", "2017-05-00", "2017", "2017-05"),
    *("2017-05-17T25:00:00Z", "2017-05-17T22:60:00Z", "2017-05-17T22:08:07,5", "22:08:07"),
    *("2017-05-17 22:08:07 BST", "2017-05-17 22:08:07 IST", "2017-05-17 22:08:07 EST"),
    *("2017-05-17 22:08:07 NZ", "2017-05-17 22:08:07 Etc/GMT+5", "2017-05-17 22:08:07 GMT+5"),
    *("2017-05-17 22:08:07 Europe/London", "2017-05-17 22:08:07 A"),
    *("2017-05-17 (BC)", "0000-01-01", "10000-01-01", "294247-01-10", "0", "1", "-1", "1e9"),
    *("149505888", "149505888712", "99999999999999", "NaN", "null", "NULL", "None", "?", " "),
    *("2017-05-17\u0000", "\u0662\u0660\u0661\u0667-\u0660\u0665-\u0661\u0667", "'); DROP TABLE"),
]
DATES = {
    "1984-04-22": date(1984, 4, 22),
    "1984-04-22T00:00:00": date(1984, 4, 22),
    "1984-04-22 23:30:00+00": date(1984, 4, 22),
    "1984-04-22T23:30:00-05:00": date(
        1984, 4, 22
    ),  # A birthday has no zone; the day is as written.
    "2000-02-29": date(2000, 2, 29),
    "0001-01-01": date(1, 1, 1),
    "9999-12-31": date(9999, 12, 31),
}
NO_DATES = [
    *(
        "22/04/1984",
        "04/22/1984",
        "1984-02-30",
        "1900-02-29",
        "0000-00-00",
        "0000-01-01",
        "1984",
        "epoch",
    ),
    *("infinity", "-infinity", "today", "1984-04-22x", " ", "unknown", "-"),
]
NUMBERS = {
    "0": "0", "-0": "0", "1.10": "1.1", "  12.5 ": "12.5", "+7": "7", ".5": "0.5", "5.": "5",
    "1e3": "1000", "1.5E+2": "150", "-2.50e-3": "-0.0025", "10e-10": "0.000000001",
    "1.000000000000000000000": "1", "0e-99": "0", "007": "7",
    "99999999999999999999999999999.999999999": "99999999999999999999999999999.999999999",
    "-99999999999999999999999999999": "-99999999999999999999999999999", "1e28": "1e28",
}  # fmt: skip
NO_NUMBERS = [
    *(
        "1,234.50",
        "1_000",
        "1 000",
        "0x10",
        "NaN",
        "Infinity",
        "-inf",
        "true",
        "e5",
        "1e",
        ".",
        "-",
    ),
    *("1e-10", "0.0000000001", "1.1234567891", "100000000000000000000000000000", "1e29", "1e999"),
    *("99999999999999999999999999999.9999999991", "12 EUR", "\u0661", "1.2.3", "--1", "1e1.5", " "),
]
WHOLE_NUMBERS = {
    "0": 0, "12": 12, "-3": -3, "+3": 3, "12.0": 12, "1e3": 1000, " 7 ": 7, "10e-1": 1,
    "9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63),
}  # fmt: skip
NO_WHOLE_NUMBERS = [
    *("1.5", "1e-1", "9223372036854775808", "-9223372036854775809", "1e19", "1,000", "1_000"),
    *("true", "NaN", "0.999999999999", "", "x"),
]


def profile(**fields: object) -> str:
    return json.dumps({"id": "p-1", **fields})


@pytest.mark.parametrize(
    ("table", "field", "column", "good", "bad"),
    [
        (
            ORDERS, "tax", "tax",
            {text: Decimal(number) for text, number in NUMBERS.items()}, NO_NUMBERS,
        ),
        (COLLECTIONS, "count", "contact_count", WHOLE_NUMBERS, NO_WHOLE_NUMBERS),
    ],
)  # fmt: skip
def test_a_number_is_exact_or_rejected(
    table: Table, field: str, column: str, good: dict[str, Any], bad: list[str]
) -> None:
    """As a JSON number and as a text: it is never rounded, and never read as another number."""
    key = table.identity[0][0]
    texts = [*good, *bad]
    records = [json.dumps({key: f"{n}", field: text}) for n, text in enumerate(texts)]
    records += [
        f'{{"{key}": "{n}", "{field}": {text}}}'
        for n, text in enumerate(texts, len(texts))
        if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", text, re.ASCII)
    ]

    staged = stage_records(table, *records)

    raw = {row[key if key != "id" else "order_id"]: row[column] for row in staged.rows}
    found = {texts[int(n)]: value for n, value in raw.items() if int(n) < len(texts)}
    assert found == good | dict.fromkeys(bad)
    numbers = [json.loads(each, parse_float=str, parse_int=str) for each in records[len(texts) :]]
    assert len(numbers) > len(good) // 2
    assert {each[field]: raw[each[key]] for each in numbers} == {
        each[field]: good.get(each[field]) for each in numbers
    }
    assert {reject["raw"] for reject in staged.rejects} == {text for text in bad if text}


@settings(deadline=None)
@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**31),
                max_value=10**31),
    st.integers(-12, 12),
)  # fmt: skip
def test_any_number_is_exact_or_rejected(number: Decimal, exponent: int) -> None:
    """Whatever its digits and its exponent."""
    text = f"{number:f}e{exponent}"
    with localcontext(prec=100):
        value = number.scaleb(exponent)
        fits = abs(value) < 10**29 and value == value.quantize(Decimal("1e-9"))

    found = stage_records(ORDERS, json.dumps({"id": "1", "tax": text})).row["tax"]

    is_long = len(number.as_tuple().digits) > 38  # DuckDB reads no more.
    assert found == value if fits and not (is_long and found is None) else found is None


# --- Values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "record", "column"),
    [
        (PROFILES, '{"id": N, "dates": {"account_created": T}}', "account_created_date"),
        (PROFILES, '{"id": N, "update_since": T}', "updated_at"),
        (LISTS, '{"id": N, "timestamp_created": T}', "created_at"),
        (UNSUBSCRIBES, '{"profile_id": N, "timestamp": T}', "event_at"),
        (EMAIL_EVENTS, '{"to_address": N, "dt_occurred": T}', "event_at"),
        (MEMBER_LISTS, '{"id": N, "profile_id": "1", "timestamp": T}', "event_at"),
    ],
)
def test_every_known_form_of_time_becomes_its_instant(
    table: Table, record: str, column: str
) -> None:
    """A time in any known form, in any column, converts to its instant."""
    records = [
        record.replace("N", str(number)).replace("T", json.dumps(text))
        for number, text in enumerate(TIMES)
    ]

    staged = stage_records(table, *records)

    found = [row[column] for row in staged.rows]
    assert dict(zip(TIMES, found, strict=True)) == TIMES
    assert staged.rejects == []


def test_a_bad_time_becomes_null_and_a_reject() -> None:
    """The row has null; the reject has table, key, column, raw text, reason and position."""
    records = [
        json.dumps({"profile_id": f"p-{number}", "timestamp": text})
        for number, text in enumerate(NO_TIMES)
    ]

    staged = stage_records(UNSUBSCRIBES, *records)

    assert [row["profile_id"] for row in staged.rows] == [f"p-{n}" for n in range(len(NO_TIMES))]
    assert {row["event_at"] for row in staged.rows} == {None}
    assert without_id(staged.rejects) == [
        {
            "source_id": "uk",
            "table_name": "unsubscribes",
            "sync_key": staged.rows[number]["__sync_key"],
            "column_name": "event_at",
            "raw": text,
            "reason": "not a time",
            "origin": "GET /somewhere offset=0",
            "position": number + 1,
        }
        for number, text in enumerate(NO_TIMES)
    ]
    assert staged.counts.values_rejected == len(NO_TIMES)
    assert staged.counts.records_rejected == 0


def test_a_date_keeps_its_day_as_written() -> None:
    """A date, or the date part of a time, converts; zones do not change a birthday."""
    staged = stage_records(
        PROFILES, *[json.dumps({"id": text, "date_of_birth": text}) for text in DATES]
    )

    assert {row["profile_id"]: row["date_of_birth"] for row in staged.rows} == DATES
    assert staged.rejects == []


def test_a_bad_date_becomes_null_and_a_reject() -> None:
    """The row has null, and the reject has the raw text."""
    staged = stage_records(
        PROFILES, *[json.dumps({"id": text, "date_of_birth": text}) for text in NO_DATES]
    )

    assert {row["profile_id"]: row["date_of_birth"] for row in staged.rows} == dict.fromkeys(
        NO_DATES
    )
    assert {(r["column_name"], r["raw"], r["reason"]) for r in staged.rejects} == {
        ("date_of_birth", text, "not a date") for text in NO_DATES
    }
    assert len(staged.rejects) == len(NO_DATES)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), ("true", True), ("False", False), (1, True), ("0", False)],
)
def test_a_boolean_can_be_a_boolean_a_text_or_a_number(value: object, expected: bool) -> None:
    """``seen`` and ``is_email_valid`` convert from every JSON form of a boolean."""
    staged = stage_records(PROFILES, profile(seen=value, is_email_valid=value))

    assert (staged.row["seen"], staged.row["is_email_valid"]) == (expected, expected)
    assert staged.rejects == []


@pytest.mark.parametrize("value", ["maybe", 2, [], {"a": 1}, "truetrue"])
def test_a_bad_boolean_becomes_a_reject(value: object) -> None:
    """The row has null, and the reject has the raw text."""
    staged = stage_records(PROFILES, profile(seen=value))

    assert staged.row["seen"] is None
    assert [(r["column_name"], r["reason"]) for r in staged.rejects] == [("seen", "not a boolean")]


@pytest.mark.parametrize("column", ["date_of_birth", "seen", "is_email_valid", "update_since"])
@pytest.mark.parametrize("value", ["", None])
def test_an_empty_text_is_null_and_no_reject(column: str, value: str | None) -> None:
    """In a column that converts, an empty text is null and not a reject."""
    staged = stage_records(PROFILES, profile(**{column: value}))

    name = {"update_since": "updated_at"}.get(column, column)
    assert staged.row[name] is None
    assert staged.rejects == []


def test_a_text_column_keeps_an_empty_text() -> None:
    """Text is unchanged: an empty text is not null, and spaces and case are kept."""
    staged = stage_records(PROFILES, profile(email="", name="  Ann\tLEE ", lastname=None))

    assert staged.row["email"] == ""
    assert staged.row["customer_name"] == "  Ann\tLEE "
    assert staged.row["last_name"] is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", "true"),
        ("false", "false"),
        ("null", None),
        ('"EXPLICITLY_OPTEDIN"',) * 2,
        ("1", "1"),
    ],
)
def test_marketing_optin_is_its_original_text(value: str, expected: str | None) -> None:
    """``marketing_optin`` accepts a boolean, a null and the text of an enum."""
    staged = stage_records(PROFILES, f'{{"id":"p-1","marketing_optin":{value}}}')

    assert staged.row["marketing_optin"] == (expected and expected.strip('"'))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('["vip", "a,b"]', '["vip","a,b"]'),
        ('"vip, b"', "vip, b"),
        ('{"b": 1.10, "a": [null, true]}', '{"b":1.10,"a":[null,true]}'),
        ("12.50", "12.50"),
        ("[]", "[]"),
        ('["\u00e9\u20ac"]', '["\u00e9\u20ac"]'),
        ("null", None),
    ],
)
def test_shopify_tags_of_any_shape_are_kept(value: str, expected: str | None) -> None:
    """An array or object is its JSON text with the original numbers; a text is unchanged."""
    staged = stage_records(PROFILES, f'{{"id":"p-1","properties":{{"shopify_tags":{value}}}}}')

    assert staged.row["shopify_tags"] == expected


@pytest.mark.parametrize("value", ["null", "[]", '["zip"]', '"zip"', "1", "true", "{}", None])
def test_properties_of_any_shape_load(value: str | None) -> None:
    """If ``properties`` or ``dates`` is absent or not an object, its columns are null."""
    member = "" if value is None else f',"properties":{value},"dates":{value}'

    staged = stage_records(PROFILES, f'{{"id":"p-1"{member}}}')

    assert staged.row["profile_id"] == "p-1"
    assert {staged.row[name] for name in ("zipcode", "city", "state", "shopify_tags")} == {None}
    assert {staged.row[name] for name in ("account_created_date", "marketing_optin_date")} == {None}
    assert staged.rejects == []


def test_a_nul_is_removed_and_counted() -> None:
    """Text columns lose U+0000, each text counts once, and the key keeps it."""
    staged = stage_records(
        PROFILES,
        profile(email="a\0n\0n@example.com", name="\0", properties={"city": "L\0eeds"}),
        json.dumps({"id": "p-2", "email": "none"}),
    )

    first = staged.rows[0]
    assert (first["email"], first["customer_name"], first["city"]) == (
        "ann@example.com",
        "",
        "Leeds",
    )
    assert staged.counts.nuls_removed == 3


# --- Records -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "record", "reason"),
    [
        (PROFILES, '{"email": "ann@example.com", "n": 1.10}', "no id"),
        (PROFILES, '{"id": null}', "no id"),
        (PROFILES, '{"id": ""}', "no id"),
        (PROFILES, "{}", "no id"),
        (PROFILES, '{"_": [1, "two"]}', "no id"),
        (LISTS, '{"title": "VIP"}', "no id"),
        (MEMBER_LISTS, '{"id": "1", "event": "list_enter"}', "no id, or no profile_id"),
        (MEMBER_LISTS, '{"profile_id": "p-1", "timestamp": "x"}', "no id, or no profile_id"),
        (UNSUBSCRIBES, '{"email_address": "ann@example.com"}', "no profile_id and no timestamp"),
        (EMAIL_EVENTS, '{"event_type": "open"}', "no to_address and no dt_occurred"),
    ],
)
def test_a_record_without_an_identity_is_rejected_completely(
    table: Table, record: str, reason: str
) -> None:
    """The reject has its JSON with the original numbers, reason and position; no row is loaded."""
    staged = stage_records(table, record)

    assert staged.rows == []
    assert staged.counts.records == staged.counts.records_rejected == 1
    assert without_id(staged.rejects) == [
        {
            "source_id": "uk",
            "table_name": table.name,
            "sync_key": None,
            "column_name": None,
            "raw": oracle.raw_text(oracle.read_json(record)),
            "reason": reason,
            "origin": "GET /somewhere offset=0",
            "position": 1,
        }
    ]


def test_a_reject_names_its_page_and_its_position() -> None:
    """Positions count from 1 in each page, including rejected and loaded records."""
    staged = stage(
        PROFILES,
        page(profile(), profile(), origin="first"),
        page(origin="empty"),
        page("{}", profile(seen="?"), origin="second"),
        page("{}", origin="third"),
    )

    assert {(r["origin"], r["position"], r["reason"]) for r in staged.rejects} == {
        ("second", 1, "no id"),
        ("second", 2, "not a boolean"),
        ("third", 1, "no id"),
    }


def test_the_same_reject_has_the_same_id_each_time() -> None:
    """A bad value gives the same reject at every read, so a re-read adds none."""
    first, again = (stage_records(PROFILES, "{}", profile(seen="?")) for _ in range(2))
    other = stage_records(PROFILES, profile(seen="??"))

    ids = [reject["reject_id"] for reject in first.rejects]
    assert ids == [reject["reject_id"] for reject in again.rejects]
    assert len(set(ids)) == 2
    assert other.rejects[0]["reject_id"] not in ids


def test_unknown_fields_are_reported() -> None:
    """The result names the undocumented fields only."""
    staged = stage_records(
        PROFILES,
        profile(**{"@type": "profile", "tags": [], "stats": {"aov": 1}, "loyalty_v2": 1}),
        profile(zodiac="leo", prefix=None),
    )

    assert staged.counts.unknown_fields == {"loyalty_v2", "zodiac"}


def test_a_quote_in_names_breaks_nothing() -> None:
    """Quotes in a source id, an address and an account id are ordinary text."""
    with duckdb.connect() as connection:
        staging = Staging(connection, PROFILES, "10'42\"", "it's; DROP TABLE staged")
        staging.add_pages([page(profile(email="o'hara\"@example.com"))], NOON)
        staged = finish(staging)

    assert staged.row["_account_id"] == "10'42\""
    assert staged.row["__source_id"] == "it's; DROP TABLE staged"
    assert staged.row["email"] == "o'hara\"@example.com"


def test_the_load_time_is_that_of_the_caller() -> None:
    """``__synced_at`` is the time that the caller passes, to the microsecond."""
    moment = datetime(2026, 3, 2, 12, 0, 0, 1, tzinfo=UTC)
    with duckdb.connect() as connection:
        staging = Staging(connection, PROFILES, "1042", "uk")
        staging.add_pages([page(profile())], moment)
        assert finish(staging).row["__synced_at"] == moment


# --- Order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_the_last_copy_of_a_key_is_kept(order: tuple[str, ...]) -> None:
    """The last of several copies in a batch is kept, across pages and within one."""
    copies = [profile(name=name) for name in order]
    split = stage(PROFILES, page(copies[0], copies[1]), page(copies[2]))
    together = stage_records(PROFILES, *copies)

    assert split.row["customer_name"] == together.row["customer_name"] == order[-1]
    assert (split.counts.records, split.counts.rows, split.counts.merged) == (3, 1, 0)


def test_distinct_events_of_one_key_are_counted() -> None:
    """A repeated event is not merged; another event with the same key is."""

    def change(event: str) -> str:
        return json.dumps({"id": "1", "profile_id": "p", "timestamp": "2026-03-01", "event": event})

    copies = stage_records(MEMBER_LISTS, *[change("list_enter")] * 3)
    merged = stage_records(MEMBER_LISTS, change("list_enter"), change("list_exit"))

    assert (copies.counts.rows, copies.counts.merged) == (1, 0)
    assert (merged.counts.rows, merged.counts.merged) == (1, 1)
    assert merged.row["event"] == "list_exit"


# --- Against the oracle ------------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["", " ", "\0", "a\0b", "null", '"', "'", "\\", "\n", "\r\n", "\u2028", "\ud83d", "\ufeff"]
)
numbers = st.sampled_from(["0", "-0.0", "1.10", "1e5", "12345678901234567890", "1E+2"]).map(
    oracle.AsWritten
)
scalars: st.SearchStrategy[Any] = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).flatmap(  # noqa: DTZ001 -- The zone is written after it.
    lambda moment: st.sampled_from(
        [
            f"{moment:%Y-%m-%dT%H:%M:%S}+00:00",
            f"{moment:%Y-%m-%d %H:%M:%S}+00",
            f"{moment:%Y-%m-%d %H:%M:%S.%f}+00",
            f"{moment:%Y-%m-%dT%H:%M:%S}Z",
            f"{moment:%Y-%m-%d %H:%M:%S}",
            f"{moment:%Y-%m-%dT%H:%M:%S}-09:30",
            f"{moment:%Y-%m-%d}",
        ]
    )
)
times = moments | st.sampled_from(
    [None, "", "2026-02-30", "17/05/2017", "infinity", "epoch", "soon", "1495058887"]
)
booleans: st.SearchStrategy[Any] = st.sampled_from([True, False, None, "", "true", "perhaps", []])
ids = st.sampled_from(["p-1", "p-2", "p-3", " p-1", "", None, oracle.AsWritten("1.10"), True])


def record_of(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Generate records with any of the fields in any of their forms."""
    return st.fixed_dictionaries({}, optional=fields)


RECORDS = {
    "profiles": record_of(
        {
            "id": ids,
            "email": scalars,
            "marketing_optin": values,
            "date_of_birth": times,
            "seen": booleans,
            "is_email_valid": booleans,
            "update_since": times,
            "properties": values
            | record_of(
                {"zip": values, "city": texts, "shopify_tags": values, "province": scalars}
            ),
            "dates": values | record_of({"account_created": times, "marketing_optout": times}),
            "news": values,
        }
    ),
    "member_lists": record_of(
        {"id": ids, "profile_id": ids, "timestamp": times, "event": values, "email": scalars}
    ),
    "lists": record_of(
        {"id": ids, "title": values, "timestamp_created": times, "timestamp_stats_updated": times}
    ),
    "email_events": record_of(
        {"to_address": ids, "event_type": scalars, "dt_occurred": times, "reason": values}
    ),
    "unsubscribes": record_of(
        {"profile_id": ids, "timestamp": times, "mass_campaign_id": values, "reason_text": texts}
    ),
}


@pytest.mark.parametrize(
    "table", [PROFILES, MEMBER_LISTS, LISTS, EMAIL_EVENTS, UNSUBSCRIBES], ids=lambda t: t.name
)
@settings(deadline=None)
@given(data=st.data())
def test_any_records_map_as_the_page_says(table: Table, data: st.DataObject) -> None:
    """Rows, rejects and counts are those of the oracle for any JSON."""
    drawn = data.draw(st.lists(RECORDS[table.name], max_size=8))
    size = data.draw(st.integers(1, 4))
    written = [_written(record) for record in drawn]
    pages = [page(*written[start : start + size]) for start in range(0, len(written), size)]

    staged = stage(table, *pages, source_id="u'k")

    check(staged, PAGES[table.name].name, [oracle.read_json(text) for text in written])


def check(staged: Outcome, name: str, records: list[dict[str, Any]]) -> None:
    """Compare with the oracle's result for *records*."""
    promised = PAGES[name]
    known = [record for record in records if oracle.identified(promised, record)]
    newest = {oracle.md5(promised.key, record, "u'k"): record for record in known}
    expected = oracle.rows_by_key(promised, records, "1042", "u'k")
    found = {row["__sync_key"]: row for row in staged.rows}

    assert len(found) == len(staged.rows)
    assert {key: without(row, "__synced_at") for key, row in found.items()} == expected
    assert {row["__synced_at"] for row in staged.rows} <= {NOON}
    assert sorted(r["raw"] for r in staged.rejects if r["column_name"] is None) == sorted(
        oracle.raw_text(record) or "" for record in records if record not in known
    )
    assert sorted(
        (r["sync_key"], r["column_name"], r["raw"]) for r in staged.rejects if r["column_name"]
    ) == sorted(
        (key, column, raw)
        for key, record in newest.items()
        for column, raw in oracle.unconverted(promised, record)
    )
    assert staged.counts.records == len(records)
    assert staged.counts.records_rejected == len(records) - len(known)
    assert staged.counts.nuls_removed == sum(oracle.nul_texts(promised, r) for r in records)


@settings(deadline=None)
@given(
    moment=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 28)),  # noqa: DTZ001 -- As above.
    minutes=st.integers(-14 * 60, 14 * 60),
)
def test_any_instant_survives_any_offset(moment: datetime, minutes: int) -> None:
    """A time has the same instant with any offset."""
    sign, offset = "-" if minutes < 0 else "+", abs(minutes)
    written = f"{moment.isoformat()}{sign}{offset // 60:02d}:{offset % 60:02d}"

    staged = stage_records(UNSUBSCRIBES, json.dumps({"profile_id": "p", "timestamp": written}))

    expected = moment.replace(tzinfo=UTC) - timedelta(minutes=minutes)
    assert staged.row["event_at"] == expected


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {column: value for column, value in row.items() if column != name}


def without_id(rejects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    in_order = sorted(rejects, key=lambda reject: reject["position"])
    return [without(reject, "reject_id") for reject in in_order]


def _written(value: Any) -> str:
    """Write JSON with the given text of numbers and standard escapes."""
    match value:
        case oracle.AsWritten():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{_written(k)}: {_written(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_written, value)) + "]"
    return json.dumps(value)
