"""
Checks of addresses: of the API, the feed, the warehouse, and a webhook.

Each takes a raw value and returns the clean one, or raises Invalid.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from ometria_replica.config.checks import Invalid, check_text


def check_http_url(value: object) -> str:
    text = check_text(value)
    if not _is_http(text) or re.search(r"[\s@?#\\]", text):
        raise Invalid(
            "must be a URL such as https://host/path, without user, password, query or fragment"
        )
    return text.rstrip("/")


def check_api_url(value: object) -> str:
    return _encrypted(check_http_url(value), "the API key")


def check_webhook(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if not _is_http(text) or not re.fullmatch(r"[!-~]+", text) or re.search(r"[@#\\]", text):
        raise Invalid(
            "must be a URL such as https://host/path, without user, password, fragment or spaces"
        )
    return _encrypted(text, "the address")


def _is_http(text: str) -> bool:
    try:
        url = urlsplit(text)
        return bool(url.scheme in {"http", "https"} and url.hostname and url.port != 0)
    except ValueError:
        return False


def _encrypted(text: str, what: str) -> str:
    """Return the URL *text*, unless it would send *what* elsewhere in the clear."""
    url = urlsplit(text)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        raise Invalid(
            f"must be https: over http, {what} would be sent unencrypted"
            " (http is allowed for localhost)"
        )
    return text


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_feed_url(value: object) -> str:
    text = check_text(value)
    scheme, separator, rest = text.partition("://")
    bucket = rest.partition("/")[0]
    allowed = "must be s3://bucket/prefix, file:///folder or the path of a folder"
    if not separator:
        if re.match(r"(s3|file|https?):", text):
            raise Invalid(allowed)
    elif scheme == "s3":
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
            raise Invalid(f"{allowed}; the name of the bucket is missing or not valid")
    elif scheme != "file" or bucket not in {"", "localhost"} or not rest.strip("/"):
        raise Invalid(allowed)
    return text


def check_warehouse_url(value: object) -> str:
    text = check_text(value)
    allowed = "must be a URL such as duckdb:///warehouse.duckdb, or a path ending in .duckdb or .db"
    scheme, separator, rest = text.partition("://")
    if re.match(r"md:[A-Za-z_]", text):
        return text
    if not separator:
        if not text.endswith((".duckdb", ".db")):
            raise Invalid(allowed)
        return f"duckdb:///{text}"
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or not rest:
        raise Invalid(allowed)
    if scheme == "duckdb" and not re.match(r"/.", rest):
        raise Invalid("needs three slashes and a path: duckdb:///warehouse.duckdb")
    if scheme in {"postgresql", "postgres"}:
        _refuse_unreadable_hosts(rest)
        return text
    try:
        _ = urlsplit(text).port
    except ValueError:
        raise Invalid(_ENCODE) from None
    return text


_ENCODE = "is not a valid URL: percent-encode / ? # @ : in the password"


def _refuse_unreadable_hosts(rest: str) -> None:
    """
    Raise Invalid unless libpq reads *rest* of a URL as meant: its hosts are a list.

    The password ends at the first @, so that one within it moves the rest into the host.
    """
    user = re.match(r"[^/@]*@", rest)
    place = rest[user.end() :] if user else rest
    if "@" in place.partition("?")[0]:
        raise Invalid(
            "has more than one @: write an @ of the user or the password as %40"
            if user
            else _ENCODE
        )
    hosts = re.split(r"[/?]", place, maxsplit=1)[0]
    if not all(re.fullmatch(r"(\[[^\[\]]*\]|[^\[\]:]*)(:\d*)?", host) for host in hosts.split(",")):
        raise Invalid(_ENCODE)
