"""
The loggers of the HTTP library, which log whole URLs below the level of warnings.

URLs contain profile ids and email addresses, and those of webhooks are secrets.
"""

from __future__ import annotations

import logging

_NAMES = ("httpx2", *(f"httpcore2.{part}" for part in (
    "connection", "http11", "http2", "proxy", "socks",
)))  # fmt: skip


def silence_http_loggers() -> None:
    """Let warnings through only. An application may reset levels; a filter stays."""
    for name in _NAMES:
        logging.getLogger(name).addFilter(_only_warnings)


def _only_warnings(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
