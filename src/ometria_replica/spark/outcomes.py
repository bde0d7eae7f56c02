"""What a task on an executor returns to the driver, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias

from ometria_replica import errors

if TYPE_CHECKING:
    from ometria_replica.errors import ReplicaError


@dataclass(frozen=True)
class _Json:
    """An outcome of a task as JSON; its class name goes in beside its fields."""

    def to_json(self) -> str:
        """Write the outcome for :func:`outcome_from_json`."""
        return json.dumps({"kind": type(self).__name__, **asdict(self)})


@dataclass(frozen=True)
class Staged(_Json):
    """
    A file was mapped.

    *number* is its place in the wave. *rows* and *lines* are objects in the staging folder:
    the staged rows, and the lines that could not be parsed; None if there are none. *counts*
    are the numbers of both.
    """

    number: int
    rows: str | None
    lines: str | None
    counts: tuple[int, int]
    unknown_fields: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable(_Json):
    """A file could not be read; *again* and *later* say which run may succeed."""

    number: int
    reason: str
    again: bool
    later: bool


@dataclass(frozen=True)
class Failed(_Json):
    """A task failed with the *error* of this name in ``errors``, which a retry would not cure."""

    error: str
    message: str

    def to_error(self) -> ReplicaError:
        """Return the error, as one of an executor."""
        kind: type[ReplicaError] = getattr(errors, self.error)
        return kind(f"On an executor: {self.message}")


Outcome: TypeAlias = Staged | Unreadable | Failed
"""The result that a task returns to the driver."""

_OUTCOMES: dict[str, type[Outcome]] = {kind.__name__: kind for kind in (Staged, Unreadable, Failed)}


def outcome_from_json(text: str) -> Outcome:
    """Read an outcome that :meth:`to_json` wrote."""
    fields = json.loads(text)
    for name in {"counts", "unknown_fields"} & fields.keys():
        fields[name] = tuple(fields[name])
    return _OUTCOMES[fields.pop("kind")](**fields)
