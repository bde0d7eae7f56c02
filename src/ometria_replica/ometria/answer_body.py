"""
The body of an answer: decompressed here, so that no more is held than a limit allows.

The HTTP library decompresses each piece as a whole, however large it becomes: 10 MB of gzip can
hold 10 GB.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

ACCEPTED_ENCODINGS = "gzip"  # Sent as Accept-Encoding: other encodings are not read here.

VALUE_BYTES = 32  # A parsed value takes some 100 bytes in memory, however short its text is.
PIECE_BYTES = 256 * 1024  # Of decompressed data that is held besides the body.
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # The format is detected: some servers mistake their names.


class UnreadableBody(Exception):  # The client decides whether it is an error.
    """The body is not compressed as its header says, or was cut."""


def read_body(response: httpx2.Response, most_bytes: int) -> bytes:
    """
    Read the body until its end, or until it is longer than *most_bytes*.

    Raises UnreadableBody, and the errors of the HTTP library.
    """
    encodings = response.headers.get("content-encoding", "").lower().split(",")
    named = [name for encoding in encodings if (name := encoding.strip()) not in {"", "identity"}]
    pieces: Callable[[Iterator[bytes]], Iterator[bytes]] = _as_sent
    if named:
        if named not in (["gzip"], ["x-gzip"], ["deflate"]):
            raise UnreadableBody("it is compressed in a way that was not requested")
        pieces = _decompressed
    body = bytearray()
    for piece in pieces(response.iter_raw()):
        body += piece
        if len(body) > most_bytes:
            break
    return bytes(body)


def counted_size(body: bytes) -> int:
    """
    Return the size of *body* in bytes, in which each JSON value counts as 32 at least.

    Parsed records take 6 times the bytes of their text; an array of one-digit numbers takes 60
    to 160 times. Values are counted by their commas and brackets, also those within texts.
    """
    return max(len(body), VALUE_BYTES * sum(map(body.count, (b",", b"[", b"{"))))


def _as_sent(chunks: Iterator[bytes]) -> Iterator[bytes]:
    return chunks


def _decompressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress *chunks* in pieces of a limited size. A file of gzip may have several members."""
    member = zlib.decompressobj(GZIP_OR_ZLIB)
    is_begun = False
    for chunk in chunks:
        data = chunk
        while data:
            if member.eof:
                member, is_begun = zlib.decompressobj(GZIP_OR_ZLIB), False
            try:
                piece = member.decompress(data, PIECE_BYTES)
            except zlib.error as error:
                raise UnreadableBody("it arrived damaged") from error
            is_begun = True
            data = member.unused_data if member.eof else member.unconsumed_tail
            yield piece
    if is_begun and not member.eof:
        piece = member.flush(PIECE_BYTES)
        yield piece
        if not member.eof:
            raise UnreadableBody("it arrived cut")
