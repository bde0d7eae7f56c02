"""
Rewrites an export file as plain text: not compressed, UTF-8, no byte order mark.

The format is detected from the file's bytes, never from its name. The file is decompressed
completely before its first row is read, so that a truncated file adds no rows; DuckDB also
reads a plain file on all cores. Parquet stays as it is.
"""

from __future__ import annotations

import codecs
import errno
import re
import zipfile
from typing import TYPE_CHECKING, BinaryIO

from ometria_replica import scratch_files
from ometria_replica.records import Packing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

CHUNK = 1 << 20  # Bytes held at a time, whatever the file's size.
LAYERS = 3  # A zip of a gzip exists; no export is nested deeper.

PARQUET = b"PAR1"
GZIP = b"\x1f\x8b"
_UNKNOWN = (
    (b"BZh", "is compressed with bzip2"),
    (b"\xfd7zXZ\x00", "is compressed with xz"),
    (b"\x04\x22\x4d\x18", "is compressed with lz4"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive"),
    (b"Rar!", "is a RAR archive"),
    (b"Obj\x01", "is Avro"),
    (b"ORC", "is ORC"),
    (b"PARE", "is Parquet with an encrypted footer"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook"),
    (b"%PDF", "is a PDF"),
)
_MARKS = (  # UTF-32's begins with UTF-16's, so it goes first.
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WESTERN = "western"
_JUNK = bytes(byte for byte in range(1, 32) if byte not in b"\t\n\v\f\r\x1a\x1b\x1c\x1d\x1e\x1f")


class UnfitError(Exception):
    """A file that cannot be read. The message gives the reason and quotes no content."""


def decompress(
    path: Path,
    *,
    compression: str | None = None,
    encoding: str | None = None,
    max_bytes: int,
) -> Packing:
    """
    Rewrite *path* as plain text, unless it is, and return how it was written.

    *compression* and *encoding* come from the settings; None means detection.
    Raises :class:`UnfitError`.
    """
    compressions = _expand(path, compression, max_bytes)
    start = head(path)
    if start.startswith(PARQUET):
        return Packing(compressions)
    _refuse_what_is_no_text(start)
    return Packing(compressions, _to_utf8(path, start, encoding))


def head(path: Path, size: int = 4096) -> bytes:
    """Read the first *size* bytes."""
    with path.open("rb") as file:
        return file.read(size)


def rewrite(path: Path, chunks: Iterable[bytes]) -> None:
    """Replace the content of *path* by *chunks*, which may be read from *path*."""
    fresh = scratch_files.create(path.with_name(path.name + ".new"))
    try:
        with fresh.open("wb") as file:
            file.writelines(chunks)
        scratch_files.replace(path, fresh)
    finally:
        scratch_files.discard(fresh)


# --- Compression -------------------------------------------------------------------------------


def _expand(path: Path, compression: str | None, max_bytes: int) -> tuple[str, ...]:
    """Remove the layers of compression, and name them; with *compression* set, that one."""
    removed: tuple[str, ...] = ()
    if compression == "none":
        return removed
    for _ in range(1 if compression else LAYERS):
        found = _compression(head(path))
        if compression and compression != found:
            raise UnfitError(f"is not {compression}, as the setting compression says")
        if found is None:
            return removed
        rewrite(path, _limited(_EXPAND[found](path), max_bytes))
        removed = (*removed, found)
    if compression is None and _compression(head(path)):
        raise UnfitError(f"is compressed more than {LAYERS} times over")
    return removed


def _compression(start: bytes) -> str | None:
    if start.startswith(GZIP):
        return "gzip"
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return None


def _gunzip(path: Path) -> Iterator[bytes]:
    """
    Decompress gzip with all its members, without the interpreter lock, and verify its checksum.

    Not isal's own igzip: it reports a short tail of other data as a truncated file.
    """
    from isal import isal_zlib  # noqa: PLC0415 -- 2 ms. It takes 0.4 of the time of zlib.

    expander = isal_zlib.decompressobj(wbits=31)
    pending = b""
    with path.open("rb") as file:
        try:
            while data := pending or file.read(CHUNK):
                if expander.eof:
                    if not data.strip(b"\0"):
                        pending = b""
                        continue  # Some writers pad the end with zeros; gzip allows that.
                    if not GZIP.startswith(data[:2]):
                        raise UnfitError("is damaged: other data follows its gzip data")
                    expander = isal_zlib.decompressobj(wbits=31)
                yield expander.decompress(data, CHUNK)
                pending = expander.unconsumed_tail or expander.unused_data
            yield expander.flush()
        except isal_zlib.error:  # type: ignore[misc]  # It is a class; their stub says instance.
            raise UnfitError("is damaged: its gzip data cannot be decompressed") from None
    if not expander.eof:
        raise UnfitError("is truncated: its gzip data ends too early")


def _unzstd(path: Path) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415 -- 80 ms; Python has zstd from 3.14 on.

    try:
        with pa.OSFile(str(path), "rb") as file, pa.CompressedInputStream(file, "zstd") as stream:
            while data := stream.read(CHUNK):
                yield data
    except OSError as error:
        if error.errno is not None:
            raise  # The disk failed, not the file.
        raise UnfitError("is truncated or damaged: its zstd data cannot be decompressed") from None


def _unzip(path: Path) -> Iterator[bytes]:
    """Decompress the one file in a zip. The file log has one entry for each file of the feed."""
    damaged = UnfitError("is truncated or damaged: its zip data cannot be decompressed")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_only_member(archive)) as member:
            while data := member.read(CHUNK):
                yield data
    except UnfitError:
        raise
    except NotImplementedError:
        raise UnfitError("is a zip with a compression that is not supported") from None
    except RuntimeError:
        raise UnfitError("is a zip with a password") from None
    except OSError as error:
        if error.errno not in {None, errno.EINVAL}:
            raise  # The disk failed, not the file: a place that cannot be is EINVAL.
        raise damaged from None
    except Exception:  # noqa: BLE001 -- Of names, sizes and four decompressors, each its own.
        raise damaged from None


def _only_member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if any(member.filename == "[Content_Types].xml" for member in members):
        raise UnfitError("is an Excel workbook; export it as CSV")
    if len(members) != 1:
        raise UnfitError(f"is a zip of {len(members)} files; one file is expected in each")
    return members[0]


_EXPAND: dict[str, Callable[[Path], Iterator[bytes]]] = {
    "gzip": _gunzip,
    "zstd": _unzstd,
    "zip": _unzip,
}


def _limited(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > max_bytes:
            raise UnfitError(f"expands to more than {max_bytes:,} bytes (max_file_bytes)")
        yield chunk


# --- Text --------------------------------------------------------------------------------------


def _refuse_what_is_no_text(start: bytes) -> None:
    for magic, reason in _UNKNOWN:
        if start.startswith(magic):
            raise UnfitError(f"{reason}, which is not supported")
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if re.match(rb"<(!doctype|html|head|body|\?xml|!--|[a-z]+[ >/])", text, re.IGNORECASE):
        raise UnfitError("is an HTML or XML page, not data; perhaps an error message was saved")


def _to_utf8(path: Path, start: bytes, encoding: str | None) -> str:
    """Rewrite a text as UTF-8, unless it is, and return its encoding."""
    mark, marked = next(((m, name) for m, name in _MARKS if start.startswith(m)), (b"", None))
    found = marked or _unmarked_utf16(start)
    if found in {None, "utf-8"}:
        if _is_binary(start):
            raise UnfitError("is binary data of no known format")
        found = _codec(encoding) if encoding and marked is None else _utf8_or_western(path)
    if found != "utf-8":
        rewrite(path, _decoded(path, found or "utf-8", len(mark)))
    elif mark:
        rewrite(path, chunks_of(path, len(mark)))
    return found or "utf-8"


def _is_binary(start: bytes) -> bool:
    """Whether it has many control characters that text never has, or some and is not UTF-8."""
    junk = len(start) - len(start.translate(None, _JUNK + b"\0"))
    return junk * 3 > len(start) or (junk * 100 > len(start) and not _is_utf8(start))


def _is_utf8(start: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")("strict").decode(start)
    except UnicodeDecodeError:
        return False
    return True


def _unmarked_utf16(start: bytes) -> str | None:
    """Detect UTF-16 without a mark: in Western text, every other byte is zero."""
    half = len(start) // 2
    low, high = start[1::2].count(0), start[0::2].count(0)
    if low * 2 > half and high * 20 < half:
        return "utf-16-le"
    if high * 2 > half and low * 20 < half:
        return "utf-16-be"
    return None


def _codec(encoding: str) -> str:
    name = codecs.lookup(encoding).name  # The settings accept only existing encodings.
    return {"utf-8-sig": "utf-8", "cp1252": _WESTERN, "iso8859-1": _WESTERN}.get(name, name)


def _utf8_or_western(path: Path) -> str:
    """
    Distinguish UTF-8 from Western encodings by the whole file: an ``é`` may come late.

    A file that is UTF-8 except for a few damaged characters stays UTF-8. The mapping rejects
    the damaged lines; reading the file as Western would garble all other lines.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        for chunk in chunks_of(path):
            if not chunk.isascii() or decoder.getstate()[0]:
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _by_count(path)
    return "utf-8"


def _by_count(path: Path) -> str:
    good = bad = 0
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    for chunk in chunks_of(path):
        text = decoder.decode(chunk)
        strays = len(re.findall("[\udc80-\udcff]", text))
        bad += strays
        good += len(re.findall(r"[^\x00-\x7f]", text)) - strays
    # One character of each: two bytes that are UTF-8 by chance are rarer than a damaged one.
    return "utf-8" if good >= bad else _WESTERN


def _decoded(path: Path, encoding: str, skip: int) -> Iterator[bytes]:
    """
    Convert text from *encoding* to UTF-8.

    Latin-1 is read as Windows-1252, as in browsers; the five bytes that Windows-1252 leaves
    undefined are Latin-1's control characters.
    """
    western = encoding == _WESTERN
    decoder = codecs.getincrementaldecoder("latin-1" if western else encoding)("strict")
    try:
        for chunk in chunks_of(path, skip):
            text = decoder.decode(chunk)
            yield (text.translate(_WINDOWS_1252) if western else text).encode()
        decoder.decode(b"", final=True)
    except UnicodeError:
        raise UnfitError(f"contains text that is not {encoding}, or is truncated") from None


_WINDOWS_1252 = {
    byte: text for byte in range(0x80, 0xA0) if (text := bytes([byte]).decode("cp1252", "ignore"))
}


def chunks_of(path: Path, skip: int = 0) -> Iterator[bytes]:
    """Read the file in chunks, after the first *skip* bytes."""
    with path.open("rb") as file:
        file.seek(skip)
        yield from _read(file)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk
