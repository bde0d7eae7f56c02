"""The settings so far, as the content of the settings file and of the environment file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ometria_replica.config import AccountSettings, FeedSettings, WarehouseSettings
from ometria_replica.config.checks import Invalid
from ometria_replica.config.load import config_of, references
from ometria_replica.config.schema import VARIABLES
from ometria_replica.config.setting import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ometria_replica.config import Config
    from ometria_replica.config.setting import Setting


@dataclass(frozen=True)
class Draft:
    """
    The sections *account*, with its *feed*, and *warehouse*, by setting; without those not set.

    *secrets* are the variables to which they refer. *before* is the content of the file to which
    the account is added; it is empty for a new file.
    """

    account: Mapping[str, Any] = field(default_factory=dict)
    feed: Mapping[str, Any] = field(default_factory=dict)
    warehouse: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    before: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_added(self) -> bool:
        """Whether the account is added to those of a file."""
        return bool(self.before)

    def with_account(self, **values: object) -> Draft:
        """Set settings of the account; None removes one."""
        return replace(self, account=_joined(self.account, values))

    def with_feed(self, **values: object) -> Draft:
        """Set settings of the feed; None removes one."""
        return replace(self, feed=_joined(self.feed, values))

    def with_warehouse(self, **values: object) -> Draft:
        """Set settings of the warehouse; None removes one."""
        return replace(self, warehouse=_joined(self.warehouse, values))

    def with_secret(self, variable: str, value: str | None) -> Draft:
        """Set the value of a variable; None removes it."""
        return replace(self, secrets=_joined(self.secrets, {variable: value}))

    def variable(self, name: str) -> str:
        """
        Name the variable of a secret: that of the only account, or one with the account's name.

        Of an account whose name has no letter or digit of ASCII, the number among the accounts.
        """
        if not self.is_added:
            return name
        own = re.sub("[^A-Z0-9]+", "_", str(self.account["account_id"]).upper()).strip("_")
        return f"{name}_{own or len(self.before.get('accounts', ())) + 1}"

    def document(self) -> dict[str, Any]:
        """Return the content of the settings file."""
        account = {**self.account, **({"feed": dict(self.feed)} if self.feed else {})}
        if self.is_added:
            return {**self.before, "accounts": [*self.before.get("accounts", ()), account]}
        return {"warehouse": dict(self.warehouse), "accounts": [account]}

    def config(self, environ: Mapping[str, str], path: Path) -> Config:
        """
        Read the settings as a sync will once the environment file is loaded.

        Raises ConfigError for those that cannot be used, of accounts that were there too.
        """
        document, hidden = self.document(), self.overriding(environ)
        known = {*VARIABLES, *references(document)}  # Of others, `check` warns: once is enough.
        variables = {
            name: value
            for name, value in environ.items()
            if name not in hidden and (name in known or not name.startswith("OMETRIA_"))
        }
        return config_of(document, {**variables, **self.secrets}, path)

    def overriding(self, environ: Mapping[str, str]) -> list[str]:
        """Name the variables of *environ* that give a setting of the new file another value."""
        if self.is_added:
            return []
        sections = (
            (AccountSettings, self.account),
            (FeedSettings, self.feed),
            (WarehouseSettings, self.warehouse),
        )
        return [
            known.env
            for kind, values in sections
            for name, known in settings_of(kind).items()
            if known.env
            and known.env in environ
            and name in values
            and known.env not in self.secrets
            and not _is_same(known, environ[known.env], values[name])
        ]


def _is_same(known: Setting, one: object, other: object) -> bool:
    try:
        return known.check(one) == known.check(other)
    except Invalid:
        return False


def _joined(values: Mapping[str, Any], more: Mapping[str, object]) -> Mapping[str, Any]:
    joined = {**values, **more}
    return {name: value for name, value in joined.items() if value is not None}
