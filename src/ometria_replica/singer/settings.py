"""The settings of the tap: those of an account, as JSON Schema, with the checks of ours."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ometria_replica import privacy, retention
from ometria_replica.catalog import CATALOG
from ometria_replica.config import AccountSettings, FeedSettings, WarehouseSettings
from ometria_replica.config.setting import renamed_or_near, settings_of
from ometria_replica.errors import ConfigError
from ometria_replica.extraction.config import Origin, settings_from
from ometria_replica.ometria.account_source import setting_missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ometria_replica.config import Limits
    from ometria_replica.config.setting import Setting

Schema = dict[str, Any]
"""A JSON Schema."""

NAME = "tap-ometria"
PREFIX = "TAP_OMETRIA_"
DESCRIPTION = (
    "Singer tap for Ometria: the rows that ometria-replica would load, from API and S3 export."
)
CAPABILITIES = (
    "catalog",
    "state",
    "discover",
    "activate-version",
    "about",
    "stream-maps",
    "schema-flattening",
    "structured-logging",
)
"""As the SDK and Meltano name them."""

FEED_URL = "feed_url"
ACTIVATE_VERSION = "emit_activate_version_messages"

ELSEWHERE = {
    "tables": "Select streams in the catalog instead",
    "deletes": f"Set {ACTIVATE_VERSION} instead",
    "max_deleted_share": "The tap does not know how many rows the target has",
    "history": "Keep versions of rows at the target",
    "follow_erasures": "The tap has no list of erased people",
    "keep_records": "The streams have the columns of the tables, and no raw records",
}
"""Settings of an account that a tap cannot have, and the reason or what to do."""

OF_THE_SDK = frozenset(
    {
        "stream_maps",
        "stream_map_config",
        "faker_config",
        "flattening_enabled",
        "flattening_max_depth",
        "flattening_separator",
        "flattening_max_key_length",
    }
)
"""Settings that the SDK reads."""

_LIMITS = ("memory_limit", "threads", "temp_directory")
_TYPES: Mapping[str, Schema] = {
    "number": {"type": "number"},
    "whole number": {"type": "integer"},
    "`true` or `false`": {"type": "boolean"},
    "boolean": {"type": "boolean"},
    "list of text": {"type": "array", "items": {"type": "string"}},
    "table of text": {"type": "object", "additionalProperties": {"type": "string"}},
    "secret": {"type": "string", "secret": True, "writeOnly": True},
}

ORIGIN = Origin(
    NAME,
    NAME,
    f"set api_key or {FEED_URL} in the config, or {PREFIX}API_KEY or {PREFIX}FEED_URL with"
    " --config ENV",
    is_literal=False,
)


def config_schema() -> Schema:
    """Return the JSON Schema of the config; `--about` shows it."""
    properties = {
        **_properties(AccountSettings, except_for=ELSEWHERE),
        FEED_URL: _property(
            settings_of(FeedSettings)["url"], "Without it, the stream email_events has no records."
        ),
        "feed": {
            "type": "object",
            "title": "Feed",
            "description": "The other settings of the feed. Access settings that are missing come"
            " from the AWS credential chain, and file format settings are detected.",
            "properties": _properties(FeedSettings, except_for=("url",)),
            "additionalProperties": False,
        },
        **_properties(WarehouseSettings, only=_LIMITS),
        ACTIVATE_VERSION: {
            "type": "boolean",
            "title": "Emit activate version messages",
            "description": "After a full read of a table whose records can be deleted in Ometria,"
            " have the target remove the rows that were not in it. Only for a target whose tables"
            " hold a single account.",
            "default": False,
        },
    }
    return {"type": "object", "properties": properties}


def settings_of_config(config: Mapping[str, Any]) -> tuple[AccountSettings, Limits]:
    """
    Build the account of a tap's *config*, and the limits of the DuckDB in which it stages rows.

    Raises ConfigError with all problems; no message repeats a value.
    """
    config = _parsed(config, config_schema()["properties"])
    problems = list(_misplaced(config))
    own = {*OF_THE_SDK, *ELSEWHERE, *_LIMITS, FEED_URL, ACTIVATE_VERSION}
    given = {name: value for name, value in config.items() if name not in own}
    if not isinstance(config.get(ACTIVATE_VERSION, False), bool):
        problems.append(f"{NAME}.{ACTIVATE_VERSION}: must be true or false.")
    feed = given.get("feed")
    if feed is not None and not isinstance(feed, dict):
        problems.append(f"{NAME}.feed: must be an object.")
        feed = None
    url = config.get(FEED_URL)
    given["feed"] = {**(feed or {}), **({"url": url} if url is not None else {})} or None
    limits = {name: config.get(name) for name in _LIMITS}
    try:
        account, found = settings_from(given, limits, ORIGIN)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems := [*problems, *_impossible(account)]:
        raise ConfigError(problems)
    return account, found


def config_of_environment(environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Read the config from the variables ``TAP_OMETRIA_*``, as texts."""
    variables = {name: f"{PREFIX}{name.upper()}" for name in config_schema()["properties"]}
    return {name: environ[each] for name, each in variables.items() if each in environ}


def _parsed(config: Mapping[str, Any], properties: Mapping[str, Schema]) -> dict[str, Any]:
    """
    Read texts for settings of another type as JSON; what is no JSON is left to the checks.

    Variables hold texts, and Meltano cannot write fractions otherwise.
    """
    parsed = dict(config)
    for name, schema in properties.items():
        value = parsed.get(name)
        if isinstance(value, str) and schema["type"] != "string":
            with suppress(ValueError):
                parsed[name] = json.loads(value)
        if isinstance(parsed.get(name), dict) and "properties" in schema:
            parsed[name] = _parsed(parsed[name], schema["properties"])
    return parsed


def _misplaced(config: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"{NAME}.{name}: is not a setting of the tap. {reason}."
        for name, reason in ELSEWHERE.items()
        if config.get(name) is not None
    )


def _impossible(account: AccountSettings) -> Iterator[str]:
    every = CATALOG.every
    found = [*retention.problems(every, account), *privacy.problems(every, account)]
    yield from (f"{NAME}: {problem}" for problem in found)
    for name in account.require:
        if name not in every.names:
            yield f"{NAME}.require: there is no table '{name}'{renamed_or_near(name, every.names)}."
        elif missing := setting_missing(account, every.table(name)):
            yield f"{NAME}.require: {name} cannot be read: {missing}."


def _properties(
    kind: type, *, only: Iterable[str] | None = None, except_for: Iterable[str] = ()
) -> dict[str, Schema]:
    defaults = {each.name: each.default for each in dataclasses.fields(kind)}
    return {
        name: _property(setting, default=defaults[name])
        for name, setting in settings_of(kind).items()
        if name not in except_for and (only is None or name in only)
    }


def _property(setting: Setting, more: str = "", default: object = None) -> Schema:
    """Describe a setting; a default is there if it is one of JSON."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", setting.meaning)
    schema = dict(_TYPES.get(setting.type, {"type": "string"}))
    if choices := re.findall(r"`([^`]+)`", setting.type):
        schema = schema if setting.type in _TYPES else {"type": "string", "enum": choices}
    schema["description"] = f"{text} {more}".strip()
    if isinstance(default, str | bool | int | float) and default != "":
        schema["default"] = default
    return schema
