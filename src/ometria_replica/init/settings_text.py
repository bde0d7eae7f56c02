"""
The text of the settings file: what was chosen, and as comments what people change most.

Comments, defaults and examples are those of the settings' declarations.
"""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

from ometria_replica.config import AccountSettings, Config, FeedSettings, WarehouseSettings
from ometria_replica.config.setting import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from ometria_replica.config.setting import Setting
    from ometria_replica.init.draft import Draft

WIDTH = 92
OFFERED: Mapping[type, tuple[str, ...]] = {
    Config: ("parallel_accounts", "metrics", "notify"),
    WarehouseSettings: ("memory_limit", "temp_directory"),
    AccountSettings: (
        "requests_per_second",
        "tables",
        "deletes",
        "detect_deletes_every_days",
        "require",
        "retain",
        "history",
        "keep_records",
    ),
    FeedSettings: ("region", "pattern", "settle_seconds"),
}
"""Settings that people change most: a new file shows them as comments if they are not set."""

_HEAD = """\
# Settings of ometria-replica, written by `ometria-replica init` on {day}.
#
# A line that begins with #name = is a setting that is not set: remove the # to set it.
# `ometria-replica config` shows every setting, its value and where the value comes from.
# A secret is never in this file: "env:NAME" is the environment variable NAME.
"""
_NO_FEED = "The self-serve export. Remove the # of these two lines to read it."


def new_file(draft: Draft, day: date) -> str:
    """Write a settings file with one account. *day* is today's."""
    return "\n".join(
        [
            _HEAD.format(day=day),
            *_settings(Config, {}),
            "[warehouse]",
            *_settings(WarehouseSettings, draft.warehouse),
            "[[accounts]]",
            *_settings(AccountSettings, draft.account),
            *(
                ["[accounts.feed]", *_settings(FeedSettings, draft.feed)]
                if draft.feed
                else [*_comment(_NO_FEED), "#[accounts.feed]", '#url = "s3://bucket/prefix"', ""]
            ),
        ]
    )


def added_account(before: str, draft: Draft, day: date) -> str:
    """Write the account behind the text of a settings file, which stays as it is."""
    lines = [
        *before.rstrip().splitlines(),
        "",
        f"# Added by `ometria-replica init` on {day}.",
        "[[accounts]]",
        *(_assigned(name, value) for name, value in draft.account.items()),
    ]
    if draft.feed:
        feed = (_assigned(name, value) for name, value in draft.feed.items())
        lines += ["", "[accounts.feed]", *feed]
    return "\n".join([*lines, ""])


def _settings(kind: type, values: Mapping[str, Any]) -> Iterator[str]:
    """Write what is set, and what is offered, in the order of the reference."""
    defaults = {each.name: each.default for each in dataclasses.fields(kind)}
    for name, known in settings_of(kind).items():
        if name in values:
            yield from _comment(known.meaning)
            yield _assigned(name, values[name])
            yield ""
        elif name in OFFERED[kind]:
            yield from _comment(known.meaning)
            yield f"#{name} = {_example(known, defaults[name])}"
            yield ""


def _example(known: Setting, default: object) -> str:
    """Return the example of a setting in TOML, or else its default."""
    return known.example or in_toml(default)


def _comment(meaning: str) -> list[str]:
    """Write a meaning without its links and marks, which are of Markdown."""
    plain = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", meaning).replace("`", "")
    return textwrap.wrap(
        plain, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _assigned(name: str, value: object) -> str:
    return f"{name} = {in_toml(value)}"


def in_toml(value: object) -> str:
    """Write a value in TOML, whose texts, numbers and lists are like those of JSON."""
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)
