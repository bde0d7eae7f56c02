"""
The failures of PostgreSQL and libpq: each with its sentence, and whether it passes by itself.

Only a failure that passes by itself is Busy or Unreachable, whose exit code tells schedulers to
try again. Of all others, and of those that are unknown, people must be told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import Busy, Unreachable, WarehouseError
from ometria_replica.schema import DATA_SCHEMA, STATE_SCHEMA

if TYPE_CHECKING:
    import adbc_driver_manager as adbc

_LATER = (
    "cannot be reached, or accepts no connections at the moment. Nothing was changed."
    " Check that the server runs and that this machine can reach it, then run again."
)

_PASSES = (
    r"the database system is|too many |connection slots|no more connections|Connection re"
    r"|timeout expired|timed out|closed the connection|closed unexpectedly|SSL SYSCALL"
    r"|PGSQL.*No such file|unreachable|Temporary failure|No route"
)

# libpq's text about a failed connection may quote parts of the URL, and a password that is not
# encoded can pass for a host. So the text is searched for signs, and never shown. The driver
# gives no SQLSTATE here. Of several hosts each has its line: a server that refuses the user
# answers for all, and one that may come back counts before one that is a standby.
_NO_CONNECTION: tuple[tuple[str, str, str], ...] = (
    (r"password authentication failed|no password supplied", "refused the password",
     "Check the user and the password in warehouse.url, or PGPASSWORD."),
    (r"authentication failed|authentication method", "refused the user's way to sign in",
     "Check the user in warehouse.url, and the method for it in pg_hba.conf."),
    (r"role .* does not exist|role .* is not permitted to log in", "does not know the user",
     "Check the user in warehouse.url."),
    (r"database .* (does not exist|is not currently accepting)|no such database",
     "has no such database", "Make it, or change warehouse.url."),
    (r"pg_hba\.conf", "rejects connections from this machine, user or kind",
     "Add it to pg_hba.conf, or set sslmode=require in warehouse.url."),
    (r"permission denied for database", "does not allow the user to connect",
     "GRANT CONNECT ON DATABASE to it."),
    (r"(unrecognized|unsupported) (configuration|startup) parameter|for parameter",
     "does not accept a parameter", "Check the parameters in warehouse.url, and PGOPTIONS."),
    (r"pooling mode", "is a pooler in statement mode, which allows no transactions",
     "Set pool_mode = transaction or session for this database."),
    (_PASSES, "", ""),
    (r"server is (not )?in hot standby|session is (not )?read-only",
     "is not of the kind that target_session_attrs asks for",
     "Name the primary server too, several hosts with a comma between them."),
    (r"certificate|SSL|root\.crt|channel binding|GSSAPI",
     "and this machine cannot agree on an encrypted connection",
     "Check sslmode, sslrootcert and sslcert in warehouse.url."),
    (r"could not translate host name", "was not found: there is no host of that name",
     "Check the host in warehouse.url; percent-encode / ? # @ : in the password."),
    (r'invalid |missing "="|unexpected spaces|end of string|service|network address|not compiled',
     "was not contacted: a part of warehouse.url cannot be read",
     "Percent-encode / ? # @ : in the password, and check the parameters."),
    (r"Permission denied", "listens on a socket that this user may not open",
     "Check the permissions of its folder."),
    (r"failed: \w+:  ", "answered and refused the connection",
     "Look into the server's log for the reason."),
)  # fmt: skip


def not_connected(error: adbc.Error, place: str) -> WarehouseError:
    """Explain why a connection failed, without libpq's text."""
    for sign, what, advice in _NO_CONNECTION:
        if re.search(sign, str(error)):
            if not what:
                break
            return WarehouseError(f"The server of {place} {what}. Nothing was changed. {advice}")
    return Unreachable(f"{place} {_LATER}")


@dataclass(frozen=True)
class Failure:
    """
    A failed statement: its SQLSTATEs begin with *states*, or its text has *words*.

    The driver gives no SQLSTATE where the connection has ended. With *both*, the SQLSTATE alone
    does not tell. The text is English if the server's lc_messages are. *says* is about {place}
    and {doing}; *kind* is Busy or Unreachable only if the failure passes by itself.
    """

    states: str
    words: str
    kind: type[WarehouseError]
    says: str
    both: bool = False

    def matches(self, code: str, text: str) -> bool:
        """Return whether an error with *code*, empty if it has none, and *text* is of this kind."""
        has_words = bool(self.words and re.search(self.words, text))
        return (
            has_words
            if not code
            else bool(re.match(self.states, code) and (has_words or not self.both))
        )


_ROLLED_BACK = "The batch was rolled back."
_BROKEN = (
    "The connection to {place} broke while {doing}. A batch in progress was written whole"
    " or not at all, and nothing is lost. Run again."
)
# The names in "': ...": the driver's text begins with the statement, which has those of ours too.
_OTHERS = f"{_ROLLED_BACK} Look for rows that another program loaded, and remove them."

FAILURES = (
    Failure("08P01", "pooling mode", WarehouseError,
        "{place} is a pooler in statement mode, which allows no transactions. Nothing was"
        " changed. Set pool_mode = transaction or session for this database.", both=True),
    Failure("08P01", "no such database", WarehouseError,
        "The server of {place} has no such database. Nothing was changed. Change warehouse.url.",
        both=True),
    Failure("57P05", "idle-session timeout", Unreachable,
        "The server of {place} ended the connection while {doing}, since it was idle for longer"
        " than idle_session_timeout allows. Nothing is lost. Run again; to prevent it, raise the"
        " setting for this user: ALTER ROLE ... SET idle_session_timeout = 0."),
    Failure("25P03", "idle-in-transaction timeout", WarehouseError,
        "The server of {place} ended the transaction while {doing}, since it was idle for longer"
        f" than idle_in_transaction_session_timeout allows. {_ROLLED_BACK} Raise the setting for"
        " this user: ALTER ROLE ... SET idle_in_transaction_session_timeout = '5min'."),
    Failure("25P04", "transaction timeout", WarehouseError,
        "The transaction in {place} took longer than transaction_timeout allows, while {doing}."
        f" {_ROLLED_BACK} Raise the setting for this user:"
        " ALTER ROLE ... SET transaction_timeout = 0."),
    Failure("57014", "user request", Busy,
        f"Another session cancelled our statement in {{place}} while {{doing}}. {_ROLLED_BACK}"
        " Run again.", both=True),
    Failure("57014", "", WarehouseError,
        "A statement in {place} took longer than statement_timeout allows, while {doing}."
        f" {_ROLLED_BACK} Raise the setting for this user: ALTER ROLE ... SET statement_timeout"
        " = 0, or add options=-c%20statement_timeout%3D0 to warehouse.url."),
    Failure("57P04", "", WarehouseError,
        "The database at {place} was dropped while {doing}. Change warehouse.url."),
    Failure("08|57P", r"closed the connection|no connection|could not (send|receive)"
        r"|SSL SYSCALL|SSL connection|[Cc]onnection re|administrator command|not connected"
        r"|server conn crashed", Unreachable, _BROKEN),
    Failure("55P03|40", "", Busy,
        "Another session has held a lock on tables in {place} for more than {waited} s while"
        f" {{doing}}. {_ROLLED_BACK} Run again later."),
    Failure("53100", "", WarehouseError,
        f"The disk of the server of {{place}} is full, while {{doing}}. {_ROLLED_BACK}"
        " Nothing is lost. Free some space there, then run again."),
    Failure("53400", "", WarehouseError,
        "The server of {place} has a limit that is too low, such as temp_file_limit, while"
        f" {{doing}}. {_ROLLED_BACK} Raise it for this user."),
    Failure("53", "", Unreachable,
        "The server of {place} has no memory or no connection left ({code}), while {doing}."
        f" {_ROLLED_BACK} Nothing is lost. Run again later."),
    Failure("42501", "", WarehouseError,
        "The user of {place} lacks a privilege{object} for {doing}. The batch was rolled back."
        f" Let it own the schemas {DATA_SCHEMA} and {STATE_SCHEMA}, and make temporary tables:"
        ' see "The least privileges" in docs/reference/warehouses.md.'),
    Failure("25006", "", WarehouseError, "{read_only}"),
    Failure("23505", r"': [^\n]*(_pkey|_sync_key)\W", WarehouseError,
        f"Two rows would have the same key in {{place}} while {{doing}}. {_OTHERS}"
        " If a table there has an index NAME_sync_key of an older release, let the owner of the"
        " table run a sync: that replaces the index by a primary key of __source_id and"
        " __sync_key.", both=True),
    Failure("23502", r"': [^\n]*\W__(sync_key|source_id)\W", WarehouseError,
        f"A row without a key was found in {{place}} while {{doing}}. {_OTHERS}", both=True),
    Failure("23|44", "", WarehouseError,
        "A constraint of {place} that is not ours refuses a row while {doing} ({code})."
        f" {_ROLLED_BACK} Drop it, or limit it to your own columns: what Ometria sends may lack"
        " any value, and repeat it."),
    Failure("P0", "", WarehouseError,
        "A trigger of {place} that is not ours failed while {doing} ({code})."
        f" {_ROLLED_BACK} Mend it, or drop it."),
    Failure("42809", "", WarehouseError,
        "A table of ours in {place} is a view, or another object that is no table ({code}), while"
        f" {{doing}}. {_ROLLED_BACK} Rename it, then run again with --full."),
    Failure("28|3D000", "", WarehouseError,
        "The server of {place} refused the user or the database ({code}), while {doing}."
        f" {_ROLLED_BACK} Check them in warehouse.url, and in the settings of a pooler."),
)  # fmt: skip
"""The kinds of failure, the first that fits counts."""

_ANY_OTHER = Failure("", "", WarehouseError,
    f"PostgreSQL refused while {{doing}} in {{place}} ({{code}}). {_ROLLED_BACK}"
    " Run again; if it happens again, report it.")  # fmt: skip


def refused(error: adbc.Error, doing: str, place: str, waited_seconds: int) -> WarehouseError:
    """Explain a failed statement, without its text: that may quote personal data."""
    found = _failure(error)
    # Of this text only the name of an object is shown: it holds no data.
    thing = re.search(
        r"(?:permission denied for|owner of|policy for) ((?:table|schema|database) \"?\w+\"?)",
        str(error),
    )
    return found.kind(
        found.says.format(
            place=place,
            doing=doing,
            code=error.sqlstate or "no code",
            waited=waited_seconds,
            object=f" on the {thing[1]}" if thing else "",
            read_only=read_only(place),
        )
    )


def is_lost(error: adbc.Error) -> bool:
    """Return whether the connection has ended with the error, so that another one is needed."""
    if error.sqlstate:
        return re.match("08|57P|25P0[34]", error.sqlstate) is not None
    return _failure(error) is not _ANY_OTHER


def _failure(error: adbc.Error) -> Failure:
    code, text = error.sqlstate or "", str(error)
    return next((each for each in FAILURES if each.matches(code, text)), _ANY_OTHER)


def read_only(place: str) -> str:
    """Say that a server accepts no writes."""
    return (
        f"{place} is read only: it is a standby, or default_transaction_read_only is"
        " on for the database or the user. Nothing was changed. Name the primary server in"
        " warehouse.url, or allow this user to write."
    )
