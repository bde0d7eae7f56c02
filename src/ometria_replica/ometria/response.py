"""The answer to one request: parsed into records, or explained without personal data."""

from __future__ import annotations

import io
import json
import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ometria_replica import records
from ometria_replica.errors import AccessDenied, NotFound, UnexpectedResponse
from ometria_replica.ometria.decompress import UnfitError
from ometria_replica.ometria.json_values import json_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2

# Parameters that may appear in logs and errors: times and offsets, but neither an e-mail
# address nor a profile's id, which opens that person's preference centre.
SHOWN_PARAMETERS = ("mode", "updateSince", "since", "before", "offset")

# Content types that an error may repeat: those of APIs, of error pages and of proxies.
KNOWN_TYPES = frozenset({
    "application/json", "application/problem+json", "application/xml", "application/octet-stream",
    "application/gzip", "application/zip", "application/pdf", "application/xhtml+xml",
    "application/x-www-form-urlencoded", "multipart/form-data", "text/html", "text/plain",
    "text/xml", "text/csv", "text/json", "image/gif", "image/jpeg", "image/png",
})  # fmt: skip

NOT_UTF_8 = "bytes that are not UTF-8 were replaced by U+FFFD"
TOO_DEEP = "a record is nested too deeply to be parsed, and was set aside"

# Beyond these, a header's date is an error, and arithmetic with it may overflow.
PLAUSIBLE_YEARS = range(1990, 2200)


@dataclass(frozen=True)
class Answer:
    """
    The answer to one request.

    *records* are the elements of an array, or the one object if *single*. An element
    that is not an object, or is nested too deeply to be parsed, becomes ``{"_": element}``,
    which no table can identify, so that the mapping rejects it. *requested_at* is our own time
    (UTC) just before sending; *served_at* is Ometria's, None if the answer has no date.
    *remarks* say what of the answer was changed.
    """

    records: list[records.Record]
    requested_at: datetime
    served_at: datetime | None
    origin: str
    single: bool = False
    remarks: tuple[str, ...] = ()


class BadRequest(UnexpectedResponse):
    """The server rejects the request (400, 422), perhaps because of a parameter."""


class Setback(Exception):  # Not yet an error: the next attempt may succeed.
    """
    An attempt failed in a way that may pass.

    *again_in* is the server's Retry-After, in seconds. *busy* marks a 429, *unreachable* a
    failure to connect, *damaged* an incomplete body.
    """

    def __init__(
        self, reason: str, *, again_in: float | None = None, busy: bool = False,
        unreachable: bool = False, damaged: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(reason)
        self.reason = reason
        self.again_in = again_in
        self.busy = busy
        self.unreachable = unreachable
        self.damaged = damaged


def certificate_problem(error: BaseException) -> str | None:
    """Say why a server's certificate is not trusted; None if *error* has another cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message.rstrip(".")
        cause = cause.__cause__ or cause.__context__
    return None


def origin_of(path: str, query: Mapping[str, str]) -> str:
    """Describe a request without a person's id or address; a list's id is shown."""
    first, *others = path.strip("/").split("/")
    shown = others if first == "lists" else ["{id}" for _ in others]
    parameters = [f"{name}={query[name]}" for name in SHOWN_PARAMETERS if name in query]
    return " ".join(["GET", "/" + "/".join([first, *shown]), *parameters])


def check_status(response: httpx2.Response, body: bytes, origin: str, now: datetime) -> None:
    """
    Return if an answer is a success, whose body holds records.

    Raises Setback if the request may be sent again, else AccessDenied, NotFound, BadRequest or
    UnexpectedResponse. *now* is the time to which a ``Retry-After`` with a date is compared.
    """
    status = response.status_code
    if status == 200:
        return
    if status in {401, 403}:
        raise AccessDenied(
            f"Ometria refused the API key for {origin} ({status})."
            " Check the key's permissions, then run `ometria-replica check`."
        )
    if status == 404:
        raise NotFound(
            f"Ometria has nothing at {origin} (404). If it should, check api_url,"
            " then run `ometria-replica check`."
        )
    if status in {408, 425, 429} or status >= 500:
        again_in = retry_after(response.headers.get("retry-after"), now)
        raise Setback(f"answered {status}", again_in=again_in, busy=status == 429)
    if 300 <= status < 400:
        raise UnexpectedResponse(
            f"Ometria's answer to {origin} is a redirect ({status}). It is not followed,"
            " because the API key would travel with it. Check api_url."
        )
    error = BadRequest if status in {400, 422} else UnexpectedResponse
    raise error(
        f"Ometria's answer to {origin} has the status {status}, which is not documented"
        f" ({described(response, body)}). Run `ometria-replica check`."
    )


def read_answer(
    response: httpx2.Response,
    body: bytes,
    origin: str,
    requested_at: datetime,
    served_at: datetime | None,
    *,
    keeps_texts: bool = False,
) -> Answer:
    """
    Parse a successful answer; with *keeps_texts*, each record has its text.

    Raises Setback if it is incomplete, or UnexpectedResponse.
    """
    text, remarks = _decoded(body)
    try:
        try:
            parsed = records.parse(text)
        except RecursionError:
            parsed, remarks = _parsed_one_by_one(text), (*remarks, TOO_DEEP)
        if keeps_texts:
            parsed = _with_texts(parsed, text)
    except ValueError as error:
        if not body.strip() or body.lstrip()[:1] in {b"[", b"{"}:
            reason = f"the answer is incomplete ({described(response, body)})"
            raise Setback(reason, damaged=True) from error
        raise _not_documented(response, body, origin) from error
    if isinstance(parsed, dict):
        return Answer([parsed], requested_at, served_at, origin, single=True, remarks=remarks)
    if isinstance(parsed, list):
        found = [_as_record(element) for element in parsed]
        return Answer(found, requested_at, served_at, origin, remarks=remarks)
    raise _not_documented(response, body, origin)


def _decoded(body: bytes) -> tuple[str, tuple[str, ...]]:
    encoding = json.detect_encoding(body)  # As `json.loads` reads bytes.
    try:
        return body.decode(encoding, "surrogatepass"), ()
    except UnicodeDecodeError:
        return body.decode(encoding, "replace"), (NOT_UTF_8,)


def _parsed_one_by_one(text: str) -> Any:
    """Parse each element of an array; one that is nested too deeply stays as its text."""
    elements = json_values(io.StringIO(text))
    try:
        parsed = [_parsed_or_text(element) for element in elements]
    except UnfitError as error:
        raise ValueError from error
    return parsed if text.lstrip().startswith("[") else _as_record(parsed[0])


def _with_texts(parsed: Any, text: str) -> Any:
    """Give the records of an answer their texts, which are in the same order."""
    if not isinstance(parsed, dict | list):
        return parsed
    elements = parsed if isinstance(parsed, list) else [parsed]
    try:
        texts = list(json_values(io.StringIO(text)))
    except UnfitError:  # One is longer than a record may be: it is written anew.
        return parsed
    found = [
        records.TextRecord(element, records.storable_json(own))
        if isinstance(element, dict)
        else element
        for element, own in zip(elements, texts, strict=True)
    ]
    return found if isinstance(parsed, list) else found[0]


def _parsed_or_text(text: str) -> Any:
    try:
        return records.parse(text)
    except RecursionError:
        return records.JsonText(text)


def _as_record(element: Any) -> records.Record:
    return element if isinstance(element, dict) else {"_": element}


def _not_documented(response: httpx2.Response, body: bytes, origin: str) -> UnexpectedResponse:
    return UnexpectedResponse(
        f"Ometria's answer to {origin} is not as documented: {described(response, body)},"
        " instead of JSON records. Check api_url, then run `ometria-replica check`."
    )


def described(response: httpx2.Response, body: bytes) -> str:
    """Describe an answer by status, type, size and kind, never by its content."""
    content_type = _known_type(response.headers.get("content-type", ""))
    return f"{response.status_code}, {content_type}, {len(body)} bytes of {_kind(body)}"


def _known_type(header: str) -> str:
    """Name a content type. A server's own text could hold anything, so it is not repeated."""
    content_type = header.partition(";")[0].strip().lower()
    if not content_type:
        return "no content type"
    return content_type if content_type in KNOWN_TYPES else "an unusual content type"


def _kind(body: bytes) -> str:
    match body.lstrip()[:1]:
        case b"":
            return "nothing"
        case b"<":
            return "HTML or XML"
        case b"[" | b"{":
            return "JSON"
        case first if first.isascii() and first.decode().isprintable():
            return "text"
        case _:
            return "something binary"


def retry_after(text: str | None, now: datetime) -> float | None:
    """Read ``Retry-After``: seconds, or a date, which is compared to the server's own clock."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.strip()):
        return float(text)
    date = read_date(text)
    return max(0.0, (date - now).total_seconds()) if date else None


def read_date(text: str | None) -> datetime | None:
    """Read the date of an HTTP header; None if there is none, or one that no clock shows."""
    try:
        date = parsedate_to_datetime(text or "")
        date = date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.year in PLAUSIBLE_YEARS else None


def utc_minute(now: datetime, seconds: float) -> str:
    """Return the time that is *seconds* after *now* for people: to the next minute, in UTC."""
    try:
        minute = (now + timedelta(seconds=seconds + 59)).astimezone(UTC)
    except OverflowError:
        return "the year 9999"
    return f"{minute:%Y-%m-%d %H:%M} UTC"
