"""The format of an export file. No source documents it, so everything is configurable."""

from __future__ import annotations

import gzip
import io
import json
import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_simulator.moments import TimestampForm

Cells = dict[str, "str | None"]

COLUMNS: Final = (
    "event_id",
    "uuid",
    "to_address",
    "event_type",
    "dt_occurred",
    "bounce_class",
    "reason",
    "device_type",
    "geo_country",
    "geo_region",
    "geo_timezone",
    "target_url",
    "campaign_title",
    "campaign_type",
)
"""The columns of the specification page, in its order."""

OLD_COLUMNS: Final = ("geo_city", "delay_class")
"""Columns of a customer's table of 2017, which the export may still have."""

_EXTENSIONS = {None: "", "gzip": ".gz", "zstd": ".zst", "zip": ".zip"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    One format of files.

    ``columns`` are the columns in their order. ``name`` is a template with ``{moment}`` (a
    datetime), ``{number}`` (of the file, from 1) and ``{extension}``; it can contain folders
    and need not match the contents.
    """

    format: Literal["csv", "jsonl", "parquet"] = "csv"
    compression: Literal["gzip", "zstd", "zip"] | None = None
    columns: tuple[str, ...] = (*COLUMNS, *OLD_COLUMNS)
    header: bool = True
    delimiter: str = ","
    quoting: Literal["minimal", "all", "none"] = "minimal"
    """``none`` escapes special characters by a backslash and turns line breaks into spaces."""
    line_ending: Literal["\n", "\r\n", "\r"] = "\n"
    null_marker: str = ""
    """Text of a null in CSV, without quotes; JSON Lines and Parquet have their own nulls."""
    omit_nulls: bool = False
    """True to omit nulls from JSON Lines."""
    encoding: Literal["utf-8", "utf-8-sig", "utf-16", "latin-1"] = "utf-8"
    """``utf-8-sig`` starts with a byte order mark; latin-1 replaces other characters by ``?``."""
    timestamp_form: TimestampForm = "iso"
    name: str = "email_events_{moment:%Y%m%dT%H%M%S}_{number:04d}{extension}"

    @property
    def extension(self) -> str:
        """The file extension that matches the format and the compression."""
        return f".{self.format}{_EXTENSIONS[self.compression]}"

    def as_written(self, cells: Cells) -> Cells:
        """Return the configured columns with the exact text that the file contains."""
        return {name: self._text(cells[name]) for name in self.columns}

    def encode(self, rows: Sequence[Cells]) -> bytes:
        """Return the bytes of a file with *rows*, which :meth:`as_written` returned."""
        match self.format:
            case "csv":
                data = self._csv(rows).encode(self.encoding)
            case "jsonl":
                data = self._json_lines(rows).encode(self.encoding)
            case "parquet":
                return self._parquet(rows)
        return compress(data, self.compression, f"email_events.{self.format}")

    def _text(self, cell: str | None) -> str | None:
        if cell is None or self.format == "parquet":
            return cell
        if (
            self.format == "csv" and self.quoting == "none"
        ):  # An unquoted cell cannot contain a line break.
            cell = " ".join(cell.splitlines())
        return cell.encode(self.encoding, "replace").decode(self.encoding)

    def _csv(self, rows: Sequence[Cells]) -> str:
        escaped = re.compile(f'[{re.escape(self.delimiter)}"\\\\]')
        special = re.compile(f'[{re.escape(self.delimiter)}"\r\n]')
        end = self.line_ending

        def field(cell: str | None) -> str:
            """Quote texts that equal the null marker, as database exports do."""
            if cell is None:
                return self.null_marker
            if self.quoting == "none":
                return escaped.sub(r"\\\g<0>", cell)
            if self.quoting == "all" or cell == self.null_marker or special.search(cell):
                return '"' + cell.replace('"', '""') + '"'
            return cell

        lines = [self.delimiter.join(map(field, row.values())) + end for row in rows]
        if self.header:
            lines.insert(0, self.delimiter.join(map(field, self.columns)) + end)
        return "".join(lines)

    def _json_lines(self, rows: Sequence[Cells]) -> str:
        shown = (
            {name: cell for name, cell in row.items() if cell is not None}
            if self.omit_nulls
            else row
            for row in rows
        )
        lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in shown)
        return "".join(f"{line}{self.line_ending}" for line in lines)

    def _parquet(self, rows: Sequence[Cells]) -> bytes:
        import pyarrow as pa  # noqa: PLC0415 -- heavy, and only this format needs it
        from pyarrow import parquet  # noqa: PLC0415

        table = pa.table(
            {name: pa.array([row[name] for row in rows], pa.string()) for name in self.columns}
        )
        sink = io.BytesIO()
        # Parquet compresses internally; the simulator never puts it into a zip.
        inner: Literal["gzip", "zstd", "snappy"] = "snappy"
        if self.compression == "gzip" or self.compression == "zstd":  # noqa: PLR1714 -- mypy narrows only so
            inner = self.compression
        parquet.write_table(table, sink, compression=inner)
        return sink.getvalue()


def compress(data: bytes, compression: str | None, inner_name: str) -> bytes:
    """Compress *data* deterministically."""
    match compression:
        case "gzip":
            return gzip.compress(data, compresslevel=6, mtime=0)
        case "zstd":
            import zstandard  # noqa: PLC0415 -- an extra that few need

            return zstandard.ZstdCompressor().compress(data)
        case "zip":
            archive = io.BytesIO()
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
                file.writestr(zipfile.ZipInfo(inner_name), data, zipfile.ZIP_DEFLATED)
            return archive.getvalue()
    return data
