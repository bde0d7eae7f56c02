"""The tap: its settings, its streams and their state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from singer_sdk import Tap
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers.capabilities import PluginCapabilities, TapCapabilities
from typing_extensions import override

from ometria_replica.catalog import CATALOG
from ometria_replica.errors import ConfigError
from ometria_replica.singer.bookmarks import state_in
from ometria_replica.singer.records import REJECTS
from ometria_replica.singer.settings import (
    CAPABILITIES,
    NAME,
    config_of_environment,
    config_schema,
    settings_of_config,
)
from ometria_replica.singer.streams import RejectsStream, TableStream
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Limits

TABLES = tuple(
    # A target merges rows by key, so what an array no longer has would stay.
    table
    for table in CATALOG.every.in_reading_order
    if not isinstance(table.read, Inside)
)


_KNOWN = {str(each.value): each for each in (*PluginCapabilities, *TapCapabilities)}


class OmetriaTap(Tap):
    """Singer tap for Ometria: the rows that ometria-replica would load, from API and S3 export."""

    name = NAME
    package_name = "ometria-replica"
    config_jsonschema: ClassVar[dict[str, Any]] = config_schema()
    capabilities: ClassVar[list[Any]] = [_KNOWN[name] for name in CAPABILITIES]
    account: AccountSettings
    limits: Limits

    @property
    @override
    def streams(self) -> dict[str, Any]:
        """The streams in the order of reading, after the one of rejects."""
        found = super().streams
        return {name: found[name] for name in (REJECTS, *(table.name for table in TABLES))}

    @property
    def rejects(self) -> RejectsStream:
        """The stream of rejects."""
        return cast("RejectsStream", self.streams[REJECTS])

    @property
    def tables_selected(self) -> Catalog:
        """The catalog of the tables that the run reads."""
        names = tuple(table.name for table in TABLES if self.streams[table.name].selected)
        return CATALOG.of([replace(self.account, tables=names)])

    @override
    def discover_streams(self) -> list[Any]:
        return [RejectsStream(self), *(TableStream(self, table) for table in TABLES)]

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        """Merge *state*; raise ConfigError for one that cannot be continued."""
        super().load_state(state)
        known = self.state.get("bookmarks", {})
        problems: list[str] = []
        for name in (table.name for table in TABLES if known.get(table.name)):
            try:
                state_in(name, known[name], self.account)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Check the config as our settings are: no message repeats a value."""
        self.append_builtin_config(self.config_jsonschema)
        try:
            self.account, self.limits = settings_of_config(self.config)
        except ConfigError as error:
            if raise_errors:
                raise
            return list(error.problems)
        return []

    @override
    def _setup_signal_handlers(self) -> None:
        """Leave signals to the program: the SDK would end it with exit code 0."""

    @classproperty
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805 -- It is of the class.
        return config_of_environment()
