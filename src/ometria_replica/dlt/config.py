"""Builds AccountSettings from dlt's configuration, with the same checks as ``ometria.toml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ometria_replica.errors import ConfigError
from ometria_replica.settings import (
    AccountSettings,
    FeedSettings,
    Invalid,
    Secret,
    did_you_mean,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SECTION = "sources.ometria"
"""Section in dlt's configuration: ``SOURCES__OMETRIA__API_KEY``, ``[sources.ometria]``."""


def account_of(given: Mapping[str, Any]) -> AccountSettings:
    """
    Build an account from *given*, which has the names of the settings; None means the default.

    Raises ConfigError with all problems at once.
    """
    problems: list[str] = []
    feed = given.get("feed")
    values = _checked(
        AccountSettings,
        {name: value for name, value in given.items() if name != "feed"},
        SECTION,
        problems,
    )
    if feed:
        values["feed"] = _feed(feed, problems)
    if not feed and given.get("api_key") is None:
        problems.append(
            f"{SECTION}: has neither an API key nor a feed; pass api_key or feed_url to ometria(),"
            " or set SOURCES__OMETRIA__API_KEY or SOURCES__OMETRIA__FEED_URL."
        )
    if problems:
        raise ConfigError(problems)
    return AccountSettings(**values)


def _feed(given: Mapping[str, Any], problems: list[str]) -> FeedSettings:
    values = _checked(FeedSettings, given, f"{SECTION}.feed", problems)
    if given.get("url") is None:
        problems.append(f"{SECTION}.feed_url: is missing beside {SECTION}.feed.")
    return FeedSettings(**{"url": "", **values})


def _checked(
    kind: type, given: Mapping[str, Any], section: str, problems: list[str]
) -> dict[str, Any]:
    known, values = settings_of(kind), {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in known:
            problems.append(f"{section}.{name}: is not a setting{did_you_mean(name, known)}.")
            continue
        try:
            clean = known[name].check(value)
        except Invalid as wrong:
            problems.append(f"{section}.{name}: {wrong}.")
            continue
        values[name] = Secret(str(clean), "dlt") if known[name].type == "secret" else clean
    return values
