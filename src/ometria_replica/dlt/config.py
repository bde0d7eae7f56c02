"""Builds AccountSettings from dlt's configuration, with the same checks as ``ometria.toml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ometria_replica.config import AccountSettings, FeedSettings, WarehouseSettings
from ometria_replica.config.providers import Reader, Value
from ometria_replica.config.schema import settings_of
from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.config import Limits
    from ometria_replica.config.providers import Provider
    from ometria_replica.config.schema import Setting

SECTION = "sources.ometria"
"""Where dlt looks: ``SOURCES__OMETRIA__API_KEY``, or ``[sources.ometria]`` in its files."""


def settings_from(
    given: Mapping[str, Any], warehouse: Mapping[str, Any]
) -> tuple[AccountSettings, Limits]:
    """
    Build an account from *given*, by the names of the settings; None means the default.

    *warehouse* gives the settings of DuckDB, which the source uses too, in the same way.

    Raises ConfigError with all problems.
    """
    reader = Reader({})  # dlt has followed its own references.
    feed = given.get("feed")
    values = _values(reader, AccountSettings, {**given, "feed": None}, SECTION)
    if feed:
        values["feed"] = _feed(reader, feed)
    if not feed and given.get("api_key") is None:
        reader.problem(
            SECTION,
            "has neither an API key nor a feed; give api_key or feed_url to ometria(),"
            " or set SOURCES__OMETRIA__API_KEY or SOURCES__OMETRIA__FEED_URL",
        )
    limits = _values(reader, WarehouseSettings, warehouse, SECTION)
    if reader.problems:
        raise ConfigError(reader.problems)
    return AccountSettings(**values), WarehouseSettings(**limits).limits


def _feed(reader: Reader, given: Mapping[str, Any]) -> FeedSettings:
    values = _values(reader, FeedSettings, given, f"{SECTION}.feed")
    if given.get("url") is None:
        reader.problem(f"{SECTION}.feed_url", f"is missing beside {SECTION}.feed")
    return FeedSettings(**{"url": "", **values})


def _values(reader: Reader, kind: type, given: Mapping[str, Any], section: str) -> dict[str, Any]:
    reader.refuse_unknown(
        [name for name, value in given.items() if value is not None], section, settings_of(kind)
    )
    return reader.values(kind, section, [_from_dlt(given, section)])


def _from_dlt(given: Mapping[str, Any], section: str) -> Provider:
    """Provide the values that dlt found, as they are."""

    def find(name: str, _: Setting) -> Value | None:
        if given.get(name) is None:
            return None
        return Value(given[name], "dlt", f"{section}.{name}", is_literal=True)

    return find
