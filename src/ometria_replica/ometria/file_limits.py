"""
Limits of an export file: the length of a line, columns, surplus cells, what Parquet expands to.

Without them a small file can take all memory, or hold up the others for hours. A file beyond a
limit is unreadable, and the rest of the export is read.
"""

from __future__ import annotations

import re
from itertools import repeat
from typing import TYPE_CHECKING, Any

from ometria_replica.ometria.decompress import UnfitError, chunks_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ometria_replica.records import Dialect

SURPLUS_BYTES = 64_000_000
"""
Of the lines with surplus cells, each as often as it has one: DuckDB keeps the line for each.

400 lines of 10 kB with 5,000 surplus cells, 4 MB in all, would make 20 GB.
"""

MOST_COLUMNS = 1_000  # DuckDB takes some 150 kB for each, and 550 MB by default for everything.
KEPT_OF_A_LINE = 10_000  # Characters, by DuckDB, for each surplus cell.
FEW_CELLS = 100  # Surplus cells that an unquoted delimiter in a text may make.
BATCH_BYTES = 32_000_000  # Of Parquet, decoded at once.


def check_lines(path: Path, most_bytes: int) -> None:
    """Raise UnfitError if a line is longer than *most_bytes*, which is more than a chunk."""
    length = 0
    for chunk in chunks_of(path):
        ends = [place for end in (b"\n", b"\r") if (place := chunk.find(end)) >= 0]
        length += min(ends, default=len(chunk))
        if length > most_bytes:
            raise UnfitError(f"has a line of more than {most_bytes:,} bytes (max_record_bytes)")
        if ends:
            length = len(chunk) - 1 - max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))


def check_cells(path: Path, dialect: Dialect) -> int:
    """
    Return the number of lines of a CSV file, with the empty ones.

    Raises UnfitError if it has too many columns, or lines with far more cells.
    """
    if len(dialect.columns) > MOST_COLUMNS:
        raise UnfitError(
            f"has {len(dialect.columns):,} columns, and more than {MOST_COLUMNS:,} are not read"
        )
    delimiter, expected = dialect.delimiter.encode(), len(dialect.columns) - 1
    quote = re.escape(dialect.quote.encode())
    in_quotes = re.compile(quote + b"[^" + quote + b"]*" + quote) if quote else None
    size = number = 0
    for text in _whole_lines(path):
        lines = text.split(b"\n")
        number += len(lines) - 1
        if max(map(bytes.count, lines, repeat(delimiter))) <= expected + FEW_CELLS:
            continue
        for line in lines:
            surplus = line.count(delimiter) - expected
            if surplus > FEW_CELLS and in_quotes:
                surplus = in_quotes.sub(b"", line).count(delimiter) - expected
            if surplus > FEW_CELLS:
                size += surplus * min(len(line), KEPT_OF_A_LINE)
        if size > SURPLUS_BYTES:
            raise UnfitError("has lines with far more cells than its header")
    return number


def _whole_lines(path: Path) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks_of(path):
        lines, end, tail = chunk.rpartition(b"\n")
        if end:
            yield rest + lines + end
            rest = tail
        else:
            rest += tail
    if rest:
        yield rest + b"\n"


def check_parquet(path: Path, most_bytes: int, most_record_bytes: int) -> None:
    """
    Raise UnfitError if a Parquet file expands to more than *most_bytes*, or a record of it.

    The footer has the size of each column without compression, but a text that is repeated is
    written once: so the texts are counted too, in batches, without being repeated in memory.
    """
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms, and only Parquet needs it.
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            texts = [f.name for f in file.schema_arrow if _is_text(f.type)]
        _refuse_larger(size, most_bytes)
        if not texts:
            return
        widest = max((g.total_byte_size // max(1, g.num_rows) for g in groups), default=1)
        rows = max(1, min(65_536, BATCH_BYTES // max(1, widest)))
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            size = 0
            for batch in file.iter_batches(rows, columns=texts, use_threads=False):
                lengths = _lengths(batch)
                size += sum(lengths)
                _refuse_larger(size, most_bytes)
                if max(lengths, default=0) > most_record_bytes:
                    raise UnfitError(
                        f"has a record of more than {most_record_bytes:,} bytes (max_record_bytes)"
                    )
    except (pa.ArrowException, OSError, ValueError):  # ValueError: a name that is no UTF-8.
        raise UnfitError("is truncated or damaged: it is not complete Parquet") from None


def _is_text(kind: Any) -> bool:
    import pyarrow.types as pt  # noqa: PLC0415 -- As above.

    return any(
        check(kind)
        for check in (pt.is_string, pt.is_large_string, pt.is_binary, pt.is_large_binary)
    )


def _lengths(batch: Any) -> list[int]:
    """Return the bytes of each row's texts, from the dictionaries of a batch."""
    import pyarrow.compute as pc  # noqa: PLC0415 -- As above.

    total = [0] * len(batch)
    for column in batch.columns:
        by_code = pc.binary_length(column.dictionary)
        found = by_code.take(column.indices).fill_null(0).to_pylist()
        total = list(map(int.__add__, total, found))
    return total


def _refuse_larger(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise UnfitError(f"expands to more than {most_bytes:,} bytes (max_file_bytes)")
