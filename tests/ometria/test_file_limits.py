"""A small file that would take all memory is unreadable, with the limit that it exceeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ometria_replica.config import FeedSettings
from ometria_replica.ometria.export import ExportFiles
from ometria_replica.records import FeedFile, Unreadable
from ometria_replica.tables import EMAIL_EVENTS

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "to_address,event_type,dt_occurred,campaign_title\n"
LINE = "a@example.com,open,2026-03-01T10:00:00Z,hello"
RECORD = '{"to_address": "a@example.com", "event_type": "open", "dt_occurred": "2026-03-01"'


def fetched(folder: Path, **limits: int) -> FeedFile | Unreadable:
    """Fetch the only file of a feed, as a sync does."""
    settings = FeedSettings(url=str(folder), **limits)  # type: ignore[arg-type]
    with ExportFiles(settings, EMAIL_EVENTS, settle_seconds=0) as export:
        (file,) = export.fetch(list(export.list()), folder.parent / "fetched")
    return file


def feed(tmp_path: Path, content: str | pa.Table, **options: Any) -> Path:
    """Write the only file of a feed."""
    folder = tmp_path / "feed"
    folder.mkdir()
    if isinstance(content, str):
        (folder / "events").write_text(content)
    else:
        pq.write_table(content, folder / "events", compression="zstd", **options)
    return folder


def events(titles: Any) -> pa.Table:
    """Make events with these titles."""
    texts = {name: [name] * len(titles) for name in ("to_address", "event_type", "dt_occurred")}
    return pa.table({**texts, "campaign_title": titles, "number": list(range(len(titles)))})


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"{HEADER}{LINE}\n{LINE}{'x' * 2_500_000}\n", id="CSV"),
        pytest.param(f"{HEADER}{LINE}\r{LINE}{'x' * 2_500_000}", id="CSV, other line ends, no end"),
        pytest.param(f'{RECORD}}}\n{RECORD}, "x": "{"x" * 2_500_000}"}}\n', id="JSON lines"),
        pytest.param(f'[{RECORD}}},{RECORD}, "x": "{"x" * 2_500_000}"}}]', id="a JSON array"),
    ],
)
def test_a_line_beyond_the_limit_makes_a_file_unreadable(tmp_path: Path, content: str) -> None:
    """A line is held in memory whole, so a file of one line of 4 GB would take more than that."""
    file = fetched(feed(tmp_path, content), max_record_bytes=2_000_000)
    assert isinstance(file, Unreadable)
    assert file.reason == "has a line of more than 2,000,000 bytes (max_record_bytes)"


def test_long_files_of_short_lines_are_read(tmp_path: Path) -> None:
    """The limit is that of a line, also where lines span the chunks that are read at once."""
    lines = f"{LINE}{'x' * 1_900_000}\n" * 3
    assert isinstance(fetched(feed(tmp_path, HEADER + lines), max_record_bytes=2_000_000), FeedFile)


@pytest.mark.parametrize("between", ["", "\n" * 4_000, "short\n" * 4_000])
def test_surplus_cells_make_a_file_unreadable(tmp_path: Path, between: str) -> None:
    """DuckDB keeps the line for each surplus cell: 20 GB for a file of 4 MB."""
    wide = f"{LINE}\n{LINE}{',y' * 5_000}\n{between}"
    file = fetched(feed(tmp_path, HEADER + wide * 10))
    assert isinstance(file, Unreadable)
    assert file.reason == "has lines with far more cells than its header"


@pytest.mark.parametrize(("columns", "is_read"), [(1_000, True), (1_001, False)])
def test_too_many_columns_make_a_file_unreadable(
    columns: int, is_read: bool, tmp_path: Path
) -> None:
    """DuckDB needs memory for each; without the limit, every run would end for lack of it."""
    others = columns - HEADER.count(",") - 1
    header = ",".join([HEADER.rstrip("\n"), *(f"other_{number}" for number in range(others))])
    file = fetched(feed(tmp_path, f"{header}\n{LINE}{',' * others}\n"))
    assert isinstance(file, FeedFile) == is_read
    if isinstance(file, Unreadable):
        assert file.reason == "has 1,001 columns, and more than 1,000 are not read"


def test_delimiters_in_quotes_are_no_cells(tmp_path: Path) -> None:
    """A title may hold thousands of commas, and few surplus cells reject their line only."""
    quoted = f'a@example.com,open,2026-03-01,"{"1,2" * 5_000}"\n' * 20
    assert isinstance(fetched(feed(tmp_path, HEADER + quoted + f"{LINE},,,\n")), FeedFile)


@pytest.mark.parametrize(
    ("titles", "options", "reason"),
    [
        pytest.param(
            pa.DictionaryArray.from_arrays(pa.array([0] * 2_000), pa.array(["x" * 1_000_000])),
            {"store_schema": False},
            "expands to more than 1,000,000,000 bytes (max_file_bytes)",
            id="a text that is written once and repeated",
        ),
        pytest.param(
            pa.array(["x" * 20_000_000]),
            {"use_dictionary": False},
            "has a record of more than 16,777,216 bytes (max_record_bytes)",
            id="one long text",
        ),
    ],
)
def test_parquet_that_expands_beyond_the_limit_is_unreadable(
    tmp_path: Path, titles: Any, options: dict[str, Any], reason: str
) -> None:
    """Its size on disk says little, and its footer does not count what is repeated."""
    folder = feed(tmp_path, events(titles), **options)
    assert (folder / "events").stat().st_size < 1_000_000
    file = fetched(folder, max_file_bytes=1_000_000_000)
    assert isinstance(file, Unreadable)
    assert file.reason == reason


def test_parquet_within_the_limits_is_read(tmp_path: Path) -> None:
    """Nulls, binary texts, numbers and several groups of rows do not matter."""
    titles = pa.array([b"one", None, b"\xc3\xa9"] * 100, pa.large_binary())
    assert isinstance(fetched(feed(tmp_path, events(titles), row_group_size=70)), FeedFile)


def test_parquet_with_a_name_that_is_no_text_is_unreadable(tmp_path: Path) -> None:
    """One damaged byte in its footer ends nothing but the file."""
    folder = feed(tmp_path, events(["a"]), store_schema=False)
    content = (folder / "events").read_bytes()
    (folder / "events").write_bytes(content.replace(b"campaign_title", b"campaign_titl\xff"))

    found = fetched(folder)

    assert isinstance(found, Unreadable)
    assert found.reason == "is truncated or damaged: it is not complete Parquet"
