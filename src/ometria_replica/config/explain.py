"""Shows each setting with its value and its origin, and no secret."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from ometria_replica.config.feed_settings import FeedSettings
from ometria_replica.config.schema import RUN_SETTINGS
from ometria_replica.config.secrets import Secret, masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ometria_replica.config.account_settings import AccountSettings
    from ometria_replica.config.schema import Config
    from ometria_replica.config.warehouse_settings import WarehouseSettings

DEFAULT: Final = "default"


def explain(config: Config) -> list[tuple[str, str, str]]:
    """
    List the dotted key, shown value and origin of each setting, in the order of the page.

    A secret is shown as ``set`` or ``not set``, and a password inside a URL as ``***``.
    """
    return [
        *(
            (name, _shown(getattr(config, name)), config.origins.get(name, DEFAULT))
            for name in RUN_SETTINGS
        ),
        *_explained(config.warehouse, "warehouse", config.origins),
        *(
            line
            for index, account in enumerate(config.accounts)
            for line in _explained(account, f"accounts[{index}]", config.origins)
        ),
    ]


def _explained(
    settings: WarehouseSettings | AccountSettings | FeedSettings,
    key: str,
    origins: Mapping[str, str],
) -> Iterator[tuple[str, str, str]]:
    for each in dataclasses.fields(settings):
        value, dotted = getattr(settings, each.name), f"{key}.{each.name}"
        if isinstance(value, FeedSettings):
            yield from _explained(value, dotted, origins)
        else:
            origin = value.origin if isinstance(value, Secret) else origins.get(dotted, DEFAULT)
            left_to_aws = value is None and origin != DEFAULT
            yield dotted, "left to AWS" if left_to_aws else _shown(value), origin


def _shown(value: object) -> str:
    match value:
        case None:
            return "not set"
        case Secret():
            return "set"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case _:
            text = masked(str(value))
            return text if text.isprintable() and text else ascii(text)
