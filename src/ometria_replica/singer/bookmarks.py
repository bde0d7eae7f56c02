"""The state of a stream in Singer's state: its bookmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ometria_replica.errors import ConfigError
from ometria_replica.extraction.state import file_log_in, table_state_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.config import AccountSettings
    from ometria_replica.extraction.state import State

FORMAT = 1
"""The version of a bookmark. Another release may write another one."""

READ_AGAIN = "Start without the state of this stream to read everything again"


def bookmark(state: State, account: AccountSettings) -> dict[str, Any]:
    """Make the bookmark of a *state*, which names the account and the keys of its rows."""
    return {"format": FORMAT, **_owner(account), **state}


def state_in(name: str, found: Mapping[str, Any], account: AccountSettings) -> State:
    """
    Read the state of a bookmark *found* for the stream *name*; an empty one for a full read.

    Raises ConfigError for a bookmark that another release, another tap or another account wrote.
    """
    if not found:
        return {}
    if found.get("format") != FORMAT:
        raise ConfigError(
            f"The state of the stream {name} was not written by this version of tap-ometria (its"
            f" format is not {FORMAT}). Use the version that wrote it. {READ_AGAIN}."
        )
    owner = _owner(account)
    if other := [key for key, value in owner.items() if found.get(key) != value]:
        raise ConfigError(
            f"The state of the stream {name} is of another {' and '.join(other)}. The new keys"
            " would duplicate or mix up rows. Restore the setting, or start without a state into"
            " empty tables."
        )
    state = {key: value for key, value in found.items() if key not in {"format", *owner}}
    try:
        table_state_in(state)
        file_log_in(state)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(f"The state of the stream {name} is damaged. {READ_AGAIN}.") from None
    return state


def _owner(account: AccountSettings) -> dict[str, Any]:
    names = ("account_id", "source_id", "wide_keys")
    return {name: getattr(account, name) for name in names}
