"""Explanations of the errors of PostgreSQL and libpq."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.schema import DATA_SCHEMA, STATE_SCHEMA

if TYPE_CHECKING:
    import adbc_driver_manager as adbc

# libpq's text about a failed connection may quote parts of the URL, and a password that is not
# encoded can pass for a host. So the text is searched for signs, and never shown.
_NO_CONNECTION = (
    (r"password authentication failed|no password supplied", "refused the password",
     "Check the user and the password in warehouse.url, or PGPASSWORD."),
    (r"FATAL: +role .* does not exist", "does not know the user",
     "Check the user in warehouse.url."),
    (r"FATAL: +database .* does not exist", "has no such database",
     "Make it, or change warehouse.url."),
    (r"no pg_hba.conf entry", "rejects connections from this machine, user or kind",
     "Add it to pg_hba.conf, or set sslmode=require in warehouse.url."),
    (r"permission denied for database", "does not allow the user to connect",
     "GRANT CONNECT ON DATABASE to it."),
    (r"certificate|SSL|root\.crt", "and this machine cannot agree on an encrypted connection",
     "Check sslmode, sslrootcert and sslcert in warehouse.url."),
    (r'invalid (sslmode|port|percent|URI|integer|connection|\w+ value)|missing "="',
     "was not contacted: a part of warehouse.url cannot be read",
     "Percent-encode / ? # @ : in the password, and check the parameters."),
)  # fmt: skip


def not_connected(error: adbc.Error, place: str) -> WarehouseError:
    """Explain why a connection failed, without libpq's text."""
    for sign, what, advice in _NO_CONNECTION:
        if re.search(sign, str(error)):
            return WarehouseError(f"The server of {place} {what}. Nothing was changed. {advice}")
    return Unreachable(
        f"{place} cannot be reached, or accepts no connections at the moment. Nothing was changed."
        " Check that the server runs and that this machine can reach it, then run again."
    )


def refused(error: adbc.Error, doing: str, place: str, waited_seconds: int) -> WarehouseError:
    """Explain a failed statement, without its text: that may quote personal data."""
    code = error.sqlstate
    if code is None or code.startswith(("08", "57P")):
        return Unreachable(
            f"The connection to {place} broke while {doing}. A batch in progress was written whole"
            " or not at all, and nothing is lost. Run again."
        )
    if code in {"55P03", "40P01", "40001"}:
        return Busy(
            f"Another session has held a lock on tables in {place} for more than"
            f" {waited_seconds} s while {doing}. The batch was rolled back. Run again later."
        )
    if code.startswith("53"):
        return Unreachable(
            f"The server of {place} has no room on its disk, in its memory or for another"
            f" connection ({code}), while {doing}. The batch was rolled back and nothing is lost."
            " Free some space there, then run again."
        )
    return WarehouseError(_reason(code, doing, place))


def _reason(code: str, doing: str, place: str) -> str:
    if code == "42501":
        return (
            f"The user of {place} lacks a privilege for {doing}. The batch was rolled back."
            f" Let it own the schemas {DATA_SCHEMA} and {STATE_SCHEMA}, and make temporary tables."
        )
    if code == "25006":
        return read_only(place)
    if code == "23505":
        return (
            f"Two rows would have the same key in {place} while {doing}. The batch was rolled back."
            " Look for rows that another program loaded, and remove them. If a table there has"
            " an index NAME_sync_key of an older release, let the owner of the table run a sync:"
            " that replaces the index by a primary key of __source_id and __sync_key."
        )
    if code == "23502":
        return (
            f"A row without a key was found in {place} while {doing}. The batch was rolled back."
            " Look for rows that another program loaded, and remove them."
        )
    return (
        f"PostgreSQL refused while {doing} in {place} ({code})."
        " The batch was rolled back. Run again; if it happens again, report it."
    )


def read_only(place: str) -> str:
    """Say that a server accepts no writes."""
    return (
        f"{place} is read only: it is a standby, or default_transaction_read_only is"
        " on for the database or the user. Nothing was changed. Name the primary server in"
        " warehouse.url, or allow this user to write."
    )
