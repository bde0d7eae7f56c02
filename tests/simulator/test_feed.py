"""The export: ordinary readers can read every dialect, and every kind of damage occurs."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import zstandard
from pyarrow import parquet

from ometria_simulator import Account, Dialect, Feed, S3Access, StorageError, s3_server
from ometria_simulator.moments import write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_simulator import S3Server

Rows = list[dict[str, str | None]]

COMPRESSIONS = (None, "gzip", "zstd", "zip")
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def unpack(data: bytes, compression: str | None) -> bytes:
    if compression == "gzip":
        return gzip.decompress(data)
    if compression == "zstd":
        return zstandard.ZstdDecompressor().decompress(data)
    if compression == "zip":
        archive = zipfile.ZipFile(io.BytesIO(data))
        return archive.read(archive.namelist()[0])
    return data


def read_csv(data: bytes, dialect: Dialect) -> Rows:
    """Read with Python's csv module; an unquoted null marker is null, everything else is text."""
    text = data.decode(dialect.encoding)
    lines = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quoting=csv.QUOTE_NONE if dialect.quoting == "none" else csv.QUOTE_MINIMAL,
        escapechar="\\" if dialect.quoting == "none" else None,
    )
    header = next(lines) if dialect.header else list(dialect.columns)
    return [dict(zip(header, line, strict=True)) for line in lines]


def texts(rows: list[dict[str, str | None]], null: str) -> Rows:
    return [{name: null if cell is None else cell for name, cell in row.items()} for row in rows]


def delivered(feed: Feed) -> Rows:
    return [record.cells for record in feed.delivered]


CSV_DIALECTS = [
    Dialect(delimiter=delimiter, quoting=quoting, line_ending=ending)  # type: ignore[arg-type]
    for delimiter, quoting, ending in itertools.product(
        (",", ";", "\t", "|"), ("minimal", "all"), ("\n", "\r\n", "\r")
    )
] + [
    Dialect(quoting="none", delimiter="\t", null_marker="NULL"),
    Dialect(null_marker="\\N", header=False),
    Dialect(encoding="utf-8-sig"),
    Dialect(encoding="utf-16"),
    Dialect(encoding="latin-1", line_ending="\r\n"),
    Dialect(columns=("dt_occurred", "to_address", "event_type")),
    *(Dialect(compression=compression) for compression in COMPRESSIONS),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("dialect", CSV_DIALECTS, ids=repr)
def test_csv_can_be_read_back(shop: Account, tmp_path: Path, dialect: Dialect) -> None:
    """Python's csv module returns exactly the delivered cells, in every dialect."""
    feed = Feed(shop, tmp_path, dialect)
    [name] = feed.export()

    rows = read_csv(unpack((tmp_path / name).read_bytes(), dialect.compression), dialect)

    assert len(rows) >= 800
    assert rows == texts(delivered(feed), dialect.null_marker)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("omit_nulls", [False, True])
def test_json_lines_can_be_read_back(
    shop: Account, tmp_path: Path, compression: str | None, *, omit_nulls: bool
) -> None:
    """Each line is one object with the delivered cells; nulls are null, or optionally absent."""
    dialect = Dialect(format="jsonl", compression=compression, omit_nulls=omit_nulls)  # type: ignore[arg-type]
    feed = Feed(shop, tmp_path, dialect)
    [name] = feed.export()

    text = unpack((tmp_path / name).read_bytes(), compression).decode()
    rows = [json.loads(line) for line in text.split("\n")[:-1]]

    expected = delivered(feed)
    if omit_nulls:
        expected = [{k: cell for k, cell in row.items() if cell is not None} for row in expected]
    assert rows == expected


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_parquet_can_be_read_back(shop: Account, tmp_path: Path, compression: str | None) -> None:
    """Parquet contains the delivered cells as text columns, with nulls."""
    feed = Feed(shop, tmp_path, Dialect(format="parquet", compression=compression))  # type: ignore[arg-type]
    [name] = feed.export()

    assert parquet.read_table(tmp_path / name).to_pylist() == delivered(feed)


def test_a_null_and_an_empty_text_differ(account: Account, tmp_path: Path) -> None:
    """CSV quotes an empty text and not a null, so that a reader can distinguish them."""
    account.add_event("", "send", event_id=None)
    feed = Feed(account, tmp_path, Dialect(columns=("event_id", "to_address"), header=False))
    [name] = feed.export()

    assert (tmp_path / name).read_bytes() == b',""\n'


def test_latin_1_replaces_other_characters(account: Account, tmp_path: Path) -> None:
    """Characters outside latin-1 become question marks, in the file and in the oracle."""
    account.add_event("a@example.com", "send", campaign_title="Été 🎂")
    dialect = Dialect(encoding="latin-1", columns=("campaign_title",), header=False)
    feed = Feed(account, tmp_path, dialect)
    [name] = feed.export()

    assert (tmp_path / name).read_bytes() == b"\xc9t\xe9 ?\n"
    assert feed.delivered[0].cells == {"campaign_title": "Été ?"}


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("iso", "2017-02-04T10:18:12+00:00"),
        ("iso_z", "2017-02-04T10:18:12Z"),
        ("iso_micro", "2017-02-04T10:18:12.833949+00:00"),
        ("postgres", "2017-02-04 10:18:12+00"),
        ("postgres_micro", "2017-02-04 10:18:12.833949+00"),
        ("naive", "2017-02-04 10:18:12"),
        ("date", "2017-02-04"),
        ("epoch", "1486203492"),
        ("epoch_ms", "1486203492833"),
    ],
)
def test_times_have_many_forms(form: str, text: str) -> None:
    """One time in every form; sources document the first four."""
    moment = datetime(2017, 2, 4, 10, 18, 12, 833_949, tzinfo=UTC)

    assert write(moment, form) == text  # type: ignore[arg-type]


def test_each_export_has_the_news_and_a_small_overlap(shop: Account, tmp_path: Path) -> None:
    """The second file starts with the last records of the first, followed by the new ones."""
    feed = Feed(shop, tmp_path, redelivered=3, duplicate_share=0)
    feed.export()
    shop.advance(timedelta(days=4))
    [second] = feed.export()

    records = [record.cells for record in feed.delivered if record.file == second]
    expected = [feed.dialect.as_written(event.cells("iso")) for event in shop.events]
    assert records == expected[800 - 3 :]
    assert feed.export() == []


def test_a_share_of_records_is_duplicated(shop: Account, tmp_path: Path) -> None:
    """A duplicate equals the record before it byte for byte."""
    feed = Feed(shop, tmp_path, duplicate_share=0.1)
    feed.export()

    twice = sum(one.cells == two.cells for one, two in itertools.pairwise(feed.delivered))
    assert len(feed.delivered) == 800 + twice
    assert 40 < twice < 130


def test_a_history_has_many_files_in_order_of_time(shop: Account, tmp_path: Path) -> None:
    """Weekly files have their simulated times, and contain no event before it is available."""
    feed = Feed(shop, tmp_path, redelivered=0, duplicate_share=0)
    names = feed.export_history()

    assert 20 < len(names) < 35
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    moments = [(tmp_path / name).stat().st_mtime for name in names]
    assert moments == sorted(moments)
    assert moments[-1] <= NOW.timestamp()
    assert len(feed.delivered) == 800
    by_file = {record.file: record.modified_at.timestamp() for record in feed.delivered}
    assert [by_file[name] for name in names] == moments


def test_files_have_no_more_rows_than_the_limit(shop: Account, tmp_path: Path) -> None:
    """A large export has several numbered files."""
    feed = Feed(shop, tmp_path, rows_per_file=300)
    names = feed.export()

    assert len(names) == 3
    sizes = Counter(record.file for record in feed.delivered)
    assert [sizes[name] for name in names[:2]] == [300, 300]
    assert [r.position for r in feed.delivered if r.file == names[1]][:2] == [1, 2]


def test_names_can_have_folders_and_a_false_extension(shop: Account, tmp_path: Path) -> None:
    """A template names folders by day, and gives gzip another extension."""
    dialect = Dialect(compression="gzip", name="dt={moment:%Y-%m-%d}/part-{number}.csv")
    [name] = Feed(shop, tmp_path, dialect).export()

    assert name == "dt=2026-03-02/part-1.csv"
    assert (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b"


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    """Two feeds of equal accounts write the same bytes with the same names and times."""

    def files(folder: Path) -> dict[str, tuple[bytes, float]]:
        account = Account.create(5, profiles=50, lists=0, email_events=200)
        feed = Feed(account, folder, Dialect(compression="zip"), rows_per_file=40)
        feed.export_history()
        account.advance(timedelta(days=9))
        feed.export()
        return {p.name: (p.read_bytes(), p.stat().st_mtime) for p in folder.iterdir()}

    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_rewritten_file_is_newer_and_different(shop: Account, tmp_path: Path) -> None:
    """After a rewrite, ``delivered`` has the old and the new records, ``present`` the new."""
    feed = Feed(shop, tmp_path, duplicate_share=0)
    [name] = feed.export()
    before = (tmp_path / name).stat().st_mtime

    feed.rewrite(name, lambda row: {**row, "reason": "changed"})

    assert (tmp_path / name).stat().st_mtime > before
    assert len(feed.delivered) == 1600
    assert {record.cells["reason"] for record in feed.present} == {"changed"}
    assert {record.version for record in feed.present} == {2}
    rows = read_csv((tmp_path / name).read_bytes(), feed.dialect)
    assert rows == texts([record.cells for record in feed.present], "")


def test_the_same_file_can_be_written_again(shop: Account, tmp_path: Path) -> None:
    """Writing it again changes the time and no byte."""
    feed = Feed(shop, tmp_path)
    [name] = feed.export()
    path = tmp_path / name
    before = path.read_bytes(), path.stat().st_mtime

    feed.write_again(name)

    assert path.read_bytes() == before[0]
    assert path.stat().st_mtime > before[1]


def test_a_file_can_be_partial(shop: Account, tmp_path: Path) -> None:
    """A partial file is cut, delivers no records, and can be completed."""
    feed = Feed(shop, tmp_path)
    name = feed.export_partial()
    part = (tmp_path / name).read_bytes()
    assert feed.delivered == []

    feed.complete(name)

    whole = (tmp_path / name).read_bytes()
    assert whole.startswith(part)
    assert len(part) < len(whole)
    assert len(feed.present) >= 800


def test_a_poisoned_file_can_be_completed(shop: Account, tmp_path: Path) -> None:
    """Truncated gzip, an HTML page and junk replace an export until it is completed."""
    feed = Feed(shop, tmp_path)
    bad = feed.export_truncated_gzip()
    with pytest.raises(EOFError):
        gzip.decompress((tmp_path / bad).read_bytes())
    shop.advance(timedelta(days=2))
    page = feed.export_html()
    assert (tmp_path / page).read_bytes().startswith(b"<!DOCTYPE html>")
    shop.advance(timedelta(days=2))
    junk = feed.export_junk()
    with pytest.raises(UnicodeDecodeError):
        (tmp_path / junk).read_bytes().decode()
    assert feed.delivered == []

    for name in (bad, page, junk):
        feed.complete(name)

    ids = {record.cells["uuid"] for record in feed.present}
    assert ids == {event.uuid for event in shop.events}


def test_poisoning_or_deleting_a_file_removes_its_records(shop: Account, tmp_path: Path) -> None:
    """``present`` has no records of a file that was overwritten or deleted."""
    feed = Feed(shop, tmp_path, rows_per_file=400, duplicate_share=0)
    first, second = feed.export()
    assert {record.file for record in feed.present} == {first, second}

    feed.poison(first, b"junk")
    feed.delete(second)

    assert feed.present == []
    assert [path.name for path in tmp_path.iterdir()] == [first]


def test_a_file_can_be_empty(account: Account, tmp_path: Path) -> None:
    """An export without records has a header only, or no bytes."""
    feed = Feed(account, tmp_path, Dialect(columns=("uuid",)))
    bare = Feed(account, tmp_path / "bare", Dialect(columns=("uuid",), header=False))

    assert feed.read(feed.export_empty()) == b"uuid\n"
    assert bare.read(bare.export_empty()) == b""


# S3


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """Run an S3 server on the loopback address."""
    with s3_server("exports") as running:
        yield running


def test_a_feed_can_write_to_a_bucket(s3: S3Server, shop: Account) -> None:
    """A bucket gets the same bytes as a folder."""
    feed = Feed(shop, s3.url, Dialect(compression="gzip"), s3.access)
    [name] = feed.export()

    item = s3.client().get_object(Bucket="exports", Key=name)
    rows = read_csv(gzip.decompress(item["Body"].read()), feed.dialect)
    assert rows == texts(delivered(feed), "")
    assert item["LastModified"] == feed.delivered[0].modified_at
    feed.delete(name)
    assert "Contents" not in s3.client().list_objects_v2(Bucket="exports")


def test_one_bucket_can_serve_many_customers(s3: S3Server) -> None:
    """Each customer's files have a prefix of their own in the shared bucket."""
    s3.create_bucket("operator")
    for customer in ("acme", "zenith"):
        account = Account()
        account.add_event(f"someone@{customer}.example", "send")
        Feed(account, f"s3://operator/{customer}/ometria", s3=s3.access).export()

    keys = [item["Key"] for item in s3.client().list_objects_v2(Bucket="operator")["Contents"]]

    assert [re.sub(r"_\d.*", "", key) for key in keys] == [
        "acme/ometria/email_events",
        "zenith/ometria/email_events",
    ]


def test_a_missing_bucket_is_an_error(s3: S3Server, account: Account) -> None:
    """The error names the bucket and a remedy."""
    with pytest.raises(StorageError, match=r"Cannot access the bucket 'nowhere' .* Create it"):
        Feed(account, "s3://nowhere/x", s3=s3.access)


def test_an_unreachable_server_is_an_error(account: Account) -> None:
    """An S3 address without a server is a StorageError, not an error of the library."""
    access = S3Access("http://127.0.0.1:9", "key", "secret", "eu-west-1")
    with pytest.raises(StorageError, match="Cannot access"):
        Feed(account, "s3://exports", s3=access)


def test_an_unknown_kind_of_target_is_refused(account: Account) -> None:
    """Only folders, file:// and s3:// are targets."""
    with pytest.raises(StorageError, match=r"'ftp://there/x'.*s3://bucket/prefix"):
        Feed(account, "ftp://there/x")
