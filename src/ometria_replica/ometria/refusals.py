"""Why one file of the feed could not be read, although others may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ometria_replica.errors import ReplicaError

GONE = "deleted since it was listed"
CHANGED = "changed since it was listed; the next run reads the new version"


class MovedOn(Exception):
    """The version that was listed is no longer there. The next run lists it again."""


class NotGiven(Exception):
    """
    The store does not give one file.

    *refusal* is the error if the store gives no other file either; None if its answer concerns
    this file alone.
    """

    def __init__(self, reason: str, refusal: ReplicaError | None = None) -> None:
        super().__init__(reason)
        self.refusal = refusal


class NoRoom(Exception):
    """The disk has no room for one file."""
