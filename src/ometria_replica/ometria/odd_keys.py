"""
Keys of a bucket that the driver cannot name: with ``//``, control characters or no UTF-8.

The driver ends a listing at such a key. It can still sign an address, though, to which the key
and the query of a listing are added here. Only ``.`` and ``..`` as a part of a key remain: no
address keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes
from xml.etree import ElementTree as ET

from ometria_replica.ometria.file_names import from_text, is_escaped, to_text
from ometria_replica.records import FeedObject

if TYPE_CHECKING:
    from httpx2 import Response

VALID = timedelta(hours=1)  # Of a signed address.
SECONDS = 30.0  # Until an answer begins, and between its parts.
DOTS = "its name has '.' or '..' between slashes, and no address can hold that"

Sign = Callable[[str], str]
"""Signs the path of a key, and a query, both percent-encoded, as an address of the bucket."""


class RequestError(Exception):
    """An answer that is an error, in the words of the driver; or no answer."""


def is_odd(name: str) -> bool:
    """Whether the driver would name another key, or none."""
    return has_dots(name) or "" in name.split("/") or bool(re.search(r"[\x00-\x1f\x7f]", name))


def has_dots(name: str) -> bool:
    """Whether no address can hold the name."""
    return not {".", ".."}.isdisjoint(name.split("/"))


@dataclass
class OddKeys:
    """
    The keys below *prefix*, which ends with a slash or is empty.

    *all_are_odd* says that the driver cannot even name the prefix.
    """

    prefix: str
    sign: Sign
    all_are_odd: bool = False

    def list(self, after: str | None) -> Iterator[FeedObject]:
        """Yield all objects after the name *after*, the last that is known; None for all."""
        start: str | None
        query = f"list-type=2&encoding-type=url&prefix={quote(self.prefix, safe='')}"
        start = f"start-after={quote(self._key(after), safe='')}" if after else ""
        while start is not None:
            with self._answer(f"?{query}&{start}".rstrip("&")) as answer:
                page = _parsed(answer.read())
            is_encoded = page.findtext("{*}EncodingType") == "url"
            for found in page.iterfind("{*}Contents"):
                yield self._object(found, _key_of(found, is_encoded=is_encoded))
            token = page.findtext("{*}NextContinuationToken")
            start = f"continuation-token={quote(token, safe='')}" if token else None

    def has(self, name: str) -> bool:
        """Whether the driver cannot name it."""
        return self.all_are_odd or is_escaped(name) or is_odd(name)

    def pieces(self, origin: FeedObject) -> Iterator[bytes]:
        """Yield the object; the answer must be of the version that was listed."""
        headers = {"If-Match": origin.etag} if origin.etag else {}
        with self._answer(f"{quote(self._key(origin.name))}?x-id=GetObject", headers) as answer:
            yield from answer.iter_raw()

    def _key(self, name: str) -> bytes:
        return self.prefix.encode() + from_text(name)

    @contextmanager
    def _answer(self, path: str, headers: dict[str, str] | None = None) -> Iterator[Response]:
        import httpx2  # noqa: PLC0415 -- Few buckets have such a key.

        try:
            with httpx2.stream("GET", self.sign(path), headers=headers, timeout=SECONDS) as answer:
                if answer.status_code != 200:
                    said = answer.read()[:4096].decode(errors="replace")
                    raise RequestError(f"status code: {answer.status_code} {said}")
                yield answer
        except httpx2.TransportError as error:
            raise RequestError(type(error).__name__) from None

    def _object(self, found: ET.Element, key: bytes) -> FeedObject:
        name = to_text(key.removeprefix(self.prefix.encode()))
        at = datetime.fromisoformat(found.findtext("{*}LastModified", ""))
        size = int(found.findtext("{*}Size", "0"))
        return FeedObject(name, found.findtext("{*}ETag", ""), size, at)


def _key_of(found: ET.Element, *, is_encoded: bool) -> bytes:
    text = found.findtext("{*}Key", "")
    return unquote_to_bytes(text.replace("+", " ")) if is_encoded else text.encode()


def _parsed(body: bytes) -> ET.Element:
    try:
        return ET.fromstring(body)  # noqa: S314 -- Of the store that holds the data.
    except ET.ParseError:
        raise RequestError("status code: 200, with a listing that is no XML") from None
