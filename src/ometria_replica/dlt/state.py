"""
What is remembered of a table of one connection, as dlt keeps it: in the resource's state.

dlt writes that state with the rows of the same load, so it is never ahead of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from ometria_replica.batch import TableState
from ometria_replica.dlt.file_log import Ledger
from ometria_replica.errors import ConfigError
from ometria_replica.keys import keys_may_meet

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from ometria_replica.config import AccountSettings
    from ometria_replica.ometria.readings import Reading

State = dict[str, Any]
"""One connection's part of a resource's state, in the types of JSON."""


def state_of(resource: MutableMapping[str, Any], account: AccountSettings) -> State:
    """
    Find the connection's part of *resource*, the state of a table; make it if it is new.

    Raises ConfigError where the account's rows were loaded with other keys.
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
            what = "another account_id or other wide_keys"
        elif not same and known.get("account_id") == account.account_id:
            what = f"the source_id '{name}'"
        elif not same and keys_may_meet(name, source_id):
            what = f"the source_id '{name}', whose keys could meet those of '{source_id}'"
        else:
            continue
        raise ConfigError(
            f"This pipeline has loaded with {what}. Its rows would be there twice, or mixed up."
            " Set it back, or load into another pipeline and dataset."
        )


def memory_in(state: State) -> TableState:
    """Tell how far the table was read."""
    unread = state.get("unread", {})
    return TableState(
        watermark=_moment(state.get("watermark")),
        full_read_at=_moment(state.get("whole_at")),
        retry={name: datetime.fromisoformat(due) for name, due in unread.items()},
    )


def move(state: State, reading: Reading, until: datetime) -> None:
    """Note that *reading* came to its end, so that all before *until* is read."""
    state["watermark"] = until.isoformat()
    state["unread"] = {name: due.isoformat() for name, due in reading.retry.items()}
    if reading.is_full:
        state["whole_at"] = until.isoformat()


def ledger_in(state: State) -> Ledger:
    """Tell which files were read."""
    return Ledger.from_state(state.get("ledger", {}))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
