"""Builds AccountSettings from the settings of another program, with the checks of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ometria_replica.config import AccountSettings, FeedSettings, WarehouseSettings
from ometria_replica.config.providers import Reader, Value
from ometria_replica.config.setting import settings_of
from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.config import Limits
    from ometria_replica.config.providers import Provider
    from ometria_replica.config.setting import Setting


@dataclass(frozen=True)
class Origin:
    """
    Where settings come from: *program* found them, in what messages call *section*.

    *how_to_set* says how to give an account a key or a feed. The program has followed its own
    references if values are *literal*; else ``env:NAME`` and ``file:/path`` are followed here, in
    *environ*.
    """

    program: str
    section: str
    how_to_set: str
    is_literal: bool = True
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def settings_from(
    given: Mapping[str, Any], warehouse: Mapping[str, Any], origin: Origin
) -> tuple[AccountSettings, Limits]:
    """
    Build an account from *given*, by the names of the settings; None means the default.

    *warehouse* gives the settings of the DuckDB in which rows are staged, in the same way.

    Raises ConfigError with all problems.
    """
    reader, section = Reader(origin.environ), origin.section
    feed = given.get("feed")
    values = _values(reader, AccountSettings, {**given, "feed": None}, section, origin)
    if feed:
        values["feed"] = _feed(reader, feed, origin)
    if not feed and given.get("api_key") is None:
        reader.problem(section, f"has neither an API key nor a feed; {origin.how_to_set}")
    limits = _values(reader, WarehouseSettings, warehouse, section, origin)
    if reader.problems:
        raise ConfigError(reader.problems)
    return AccountSettings(**values), WarehouseSettings(**limits).limits


def _feed(reader: Reader, given: Mapping[str, Any], origin: Origin) -> FeedSettings:
    section = f"{origin.section}.feed"
    values = _values(reader, FeedSettings, given, section, origin)
    if given.get("url") is None:
        reader.problem(f"{origin.section}.feed_url", f"is missing beside {section}")
    return FeedSettings(**{"url": "", **values})


def _values(
    reader: Reader, kind: type, given: Mapping[str, Any], section: str, origin: Origin
) -> dict[str, Any]:
    reader.refuse_unknown(
        [name for name, value in given.items() if value is not None], section, settings_of(kind)
    )
    return reader.values(kind, section, [_provider(given, section, origin)])


def _provider(given: Mapping[str, Any], section: str, origin: Origin) -> Provider:
    """Provide the values that the program found, as they are."""

    def find(name: str, _: Setting) -> Value | None:
        if given.get(name) is None:
            return None
        place = f"{section}.{name}"
        return Value(given[name], origin.program, place, is_literal=origin.is_literal)

    return find
