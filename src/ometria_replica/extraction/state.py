"""
The state of a table for one source, in the types of JSON.

The loader stores it with the rows or after them, so it is never ahead of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from ometria_replica.batch import TableState
from ometria_replica.errors import ConfigError
from ometria_replica.extraction.file_log import FileLog
from ometria_replica.read_position import InterruptedRead, ReadPosition
from ometria_replica.source_ids import keys_may_meet

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from ometria_replica.config import AccountSettings
    from ometria_replica.ometria.read_strategies import Reading

State = dict[str, Any]
"""The part of one source in a resource's state, in the types of JSON."""

_FILE_LOG = "ledger"  # A key in the state of users' pipelines, so the name stays.


def state_of(resource: MutableMapping[str, Any], account: AccountSettings) -> State:
    """
    Return the source's part of *resource*, the state of a table; add it if it is new.

    Raises ConfigError if the account's rows were loaded with other keys.
    """
    owner = {"account_id": account.account_id, "wide_keys": account.wide_keys}
    _refuse_other_keys(resource, account, owner)
    state: State = resource.setdefault(account.source_id, {})
    state.update(owner)
    return state


def _refuse_other_keys(
    resource: Mapping[str, Any], account: AccountSettings, owner: Mapping[str, object]
) -> None:
    source_id = account.source_id
    for name, known in resource.items():
        same = name == source_id
        if same and {key: known.get(key) for key in owner} != owner:
            other = "another account_id or other wide_keys"
        elif not same and known.get("account_id") == account.account_id:
            other = f"the source_id '{name}'"
        elif not same and keys_may_meet(name, source_id):
            other = f"the source_id '{name}', whose keys could meet those of '{source_id}'"
        else:
            continue
        raise ConfigError(
            f"This pipeline has loaded with {other}. The new keys would duplicate or mix up rows."
            " Restore the setting, or load into another pipeline and dataset."
        )


def table_state_in(state: State) -> TableState:
    """Return how far the table was read."""
    unread = state.get("unread", {})
    return TableState(
        watermark=_moment(state.get("watermark")),
        full_read_at=_moment(state.get("whole_at")),
        retry={name: datetime.fromisoformat(due) for name, due in unread.items()},
        refreshed={
            name: datetime.fromisoformat(at) for name, at in state.get("refreshed", {}).items()
        },
        ends=tuple(filter(None, map(ReadPosition.parse, state.get("ends", ())))),
        interrupted=_interrupted_in(state.get("interrupted")),
    )


def advance(state: State, reading: Reading, until: datetime) -> None:
    """Record that *reading* is complete, so that everything before *until* has been read."""
    state.pop("interrupted", None)
    state["watermark"] = until.isoformat()
    state["unread"] = {name: due.isoformat() for name, due in reading.retry.items()}
    if reading.refreshed:
        seen = {name: at.isoformat() for name, at in reading.refreshed.items()}
        state["refreshed"] = {**state.get("refreshed", {}), **seen}
    if reading.ends is not None:
        state["ends"] = list(map(str, reading.ends))
    if reading.is_full:
        state["whole_at"] = until.isoformat()


def interrupt(state: State, position: ReadPosition, began_at: datetime) -> None:
    """Record that a full read has come to *position*, so that the next one can continue there."""
    state["interrupted"] = {"position": str(position), "began_at": began_at.isoformat()}


def file_log_in(state: State) -> FileLog:
    """Return the files that were read."""
    return FileLog.from_state(state.get(_FILE_LOG, {}))


def set_file_log(state: State, log: FileLog) -> None:
    """Replace the files that were read."""
    state[_FILE_LOG] = log.to_state()


def _interrupted_in(state: Mapping[str, str] | None) -> InterruptedRead | None:
    position = ReadPosition.parse(state["position"]) if state else None
    if state is None or position is None:
        return None
    return InterruptedRead(position, datetime.fromisoformat(state["began_at"]))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
