"""What dlt's failures mean to a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.warehouse.remotes.dlt_loader import Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ometria_replica.warehouse.remotes.dlt_loader import Failed

_LOOK = "look into the query history there for the reason"
_PAGE = "docs/how-to/cloud-warehouses.md"
_MEANINGS: Mapping[Trouble, tuple[type[WarehouseError], str, str]] = {
    Trouble.SETTINGS: (WarehouseError, "dlt does not accept what warehouse.url says of {place}.",
     f"Nothing was changed. See {_PAGE} for its form."),
    Trouble.LOCKED: (Busy, "{place} is open in another program, and DuckDB allows one writer.",
     "Nothing of this batch was written. Close it there, then run again."),
    Trouble.CONNECTION: (Unreachable, "{place} cannot be reached ({failed}).",
     "Check the address in warehouse.url, then run again."),
    Trouble.DENIED: (WarehouseError, "{place} refuses the connection ({failed}).",
     "Nothing was changed. Check the user, the password and the database in warehouse.url."),
    Trouble.PASSING: (Unreachable, "{place} failed while {doing}{package}: {failed}.",
     f"State did not move, so nothing is lost. Run again; if it happens again, {_LOOK}."),
    Trouble.REFUSED: (WarehouseError, "{place} refused while {doing}{package}: {failed}.",
     f"State did not move, so nothing is lost. Check the privileges in {_PAGE}, and {_LOOK}."),
}  # fmt: skip


def explained(failed: Failed, doing: str, place: str) -> WarehouseError:
    """Say what a failure of dlt means, without its text: that may quote personal data."""
    package = f" (load package {failed.package}, which was dropped)" if failed.package else ""
    kind, what, advice = _MEANINGS[failed.trouble]
    said = what.format(failed=failed, doing=doing, place=place, package=package)
    return kind(f"{said} {advice}")
