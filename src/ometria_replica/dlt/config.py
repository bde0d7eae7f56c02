"""Account settings from dlt's configuration."""

from __future__ import annotations

from ometria_replica.extraction.config import Origin

SECTION = "sources.ometria"
"""Where dlt looks: ``SOURCES__OMETRIA__API_KEY``, or ``[sources.ometria]`` in its files."""

ORIGIN = Origin(
    "dlt",
    SECTION,
    "give api_key or feed_url to ometria(), or set SOURCES__OMETRIA__API_KEY or"
    " SOURCES__OMETRIA__FEED_URL",
    environ={},  # dlt has followed its own references.
)
