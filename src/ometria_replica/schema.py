"""The vocabulary in which tables are written: Table, Column, Meaning, Md5."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

from ometria_replica.suppressions import PersonId
from ometria_replica.ways_to_read import Inside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ometria_replica.pseudonyms import Pseudonyms
    from ometria_replica.suppressions import Suppressions
    from ometria_replica.ways_to_read import Read

DATA_SCHEMA = "ometria"
"""The schema of a table that names no other."""

HISTORY_SCHEMA = "ometria_history"
"""The schema of the tables that hold every version of a row."""

RAW_SCHEMA = "ometria_raw"
"""The schema of the records as they came."""

STATE_SCHEMA = "ometria_replica"
"""The schema of the state."""

MARTS_SCHEMA = "ometria_marts"
"""The schema in which the models of the dbt package are built."""

_SAMPLE_COLUMNS = 4  # With a key they fit a terminal.

ColumnType = Literal["text", "boolean", "date", "timestamptz", "integer", "decimal", "json"]
StateColumnType = Literal["text", "boolean", "timestamptz", "integer"]
Certainty = Literal["documented", "inferred", "unknown", "computed"]
Treatment = Literal["excluded", "hashed"]


@dataclass(frozen=True)
class Md5:
    """
    A key: the MD5 of *parts* joined with nothing between them, in lower-case hex.

    Each part names a source as a :class:`Column` does, or is ``source_id``, or is a text between
    single quotes, which keeps apart what is before it and after it.
    """

    parts: tuple[str, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """The parts that name a source."""
        return tuple(
            part for part in self.parts if part != "source_id" and not part.startswith("'")
        )

    def __str__(self) -> str:
        return f"MD5({' + '.join(self.parts)})"


def md5(*parts: str) -> Md5:
    """Write a key as the specification page writes it: ``md5("source_id", "id")``."""
    return Md5(parts)


@dataclass(frozen=True)
class Meaning:
    """
    What a column holds, in plain text for the reader of a table: no Markdown.

    *certainty* says how that is known. *null* says when the column is null, if its type and
    its source leave that open.
    """

    text: str
    certainty: Certainty
    null: str | None = None


def documented(text: str, *, null: str | None = None) -> Meaning:
    """Write a meaning that a public page of Ometria states."""
    return Meaning(text, "documented", null)


def inferred(text: str, *, null: str | None = None) -> Meaning:
    """Write a meaning that other evidence suggests: the specification, or other programs."""
    return Meaning(text, "inferred", null)


def unknown(text: str, *, null: str | None = None) -> Meaning:
    """Write about a field whose meaning no source states."""
    return Meaning(text, "unknown", null)


def computed(text: str, *, null: str | None = None) -> Meaning:
    """Write the meaning of a value that this program makes."""
    return Meaning(text, "computed", null)


@dataclass(frozen=True)
class Column:
    """
    One column, where it comes from, and what it means.

    *source* is a field of the record, ``a::b`` for field ``b`` in object ``a``, or the table's
    key. *stamp* names a field that the program adds to each record, from the request that
    returned it; the column has that value if the record lacks *source*. Such a value changes
    only with another column of the row, and a read without it keeps the stored value.

    *person* says which id of a person the column holds, None if it holds none. Other *personal*
    columns tell who the person is, or something of that person alone. If it *quotes*, an address
    may be within its text, and if it *holds_record*, any id of any person. *treatment* is what the
    account's settings do to the values; None keeps them.
    """

    source: str | Md5
    name: str
    type: ColumnType = "text"
    stamp: str | None = None
    meaning: Meaning | None = None
    person: PersonId | None = None
    personal: bool = False
    quotes: bool = False
    holds_record: bool = False
    treatment: Treatment | None = None

    @property
    def is_personal(self) -> bool:
        """Whether the column holds an id of a person, or tells of one."""
        return self.personal or self.person is not None


# fmt: off
LINEAGE = (
    Column("account_id", "_account_id", meaning=computed(
        "The account that owns the connection: the setting account_id.")),
    Column("source_id", "__source_id", meaning=computed(
        "The connection to Ometria: the setting source_id. Join on it too, since two accounts may"
        " use the same ids.")),
    Column("sync_key", "__sync_key", meaning=computed(
        "The key of the row, an MD5 in lower-case hex. With __source_id it is unique.")),
    Column("synced_at", "__synced_at", "timestamptz", meaning=computed(
        "When a sync last wrote the row.")),
)
# fmt: on
"""The last four columns of every table: who, by which connection, the key, when loaded."""

ROW_KEY = ("__source_id", "__sync_key")
"""
The columns that identify a row, unless its table says otherwise: two sources can have equal keys.

In this order an index also finds all rows of a source. The columns of a table are in it too.
"""


@dataclass(frozen=True)
class Table:
    """
    One table of the replica.

    *columns* are the columns of the table, without those at its end, *lineage*: the last four,
    which every table of records has. *key* names the columns that identify a row.
    A record is identified if it has at least one field of each group in *identity*; any other
    record is rejected. *events* says that the records are events, which never change: two
    different events with one key are counted as merged. *time* names the column with the time
    of an event; the key contains it too, so rows with equal keys have equal times. *unmapped*
    names the documented fields that have no column; the report lists any other as undocumented.
    *wide_parts* are added to the key if the account's setting ``wide_keys`` is true.
    *record_id* names the column with Ometria's id, for a table whose records can be deleted
    there. *sample* names the columns that ``demo`` shows; by default, the first four.
    *schema* is the warehouse schema of the table. *about* says what one row is, and what a
    reader must know about the whole table. *pseudonyms* are those of the account, for columns
    with a treatment; None if the account has no secret for them. *suppressions* are the people of
    whom no record is loaded; None if nobody was erased. *oldest* is the oldest time of the rows
    that the account keeps; None if it keeps them for ever. *follows_erasures* says that the
    account follows the erasures of Ometria. *keeps_records* says that the records are kept as
    they came. *optional* tables are read only where the setting ``tables`` names them, and a run
    that is refused one goes on with a warning.
    *quotes_treated* says that a text of the table may quote an address that other tables of the
    account exclude or hash.
    If it *keeps_history*, every version of a row is kept.
    """

    name: str
    read: Read
    sync_key: Md5
    columns: tuple[Column, ...]
    identity: tuple[tuple[str, ...], ...]
    schema: str = DATA_SCHEMA
    events: bool = False
    time: str | None = None
    unmapped: tuple[str, ...] = ()
    wide_parts: tuple[str, ...] = ()
    record_id: str | None = None
    sample: tuple[str, ...] = ()
    about: str = ""
    pseudonyms: Pseudonyms | None = None
    suppressions: Suppressions | None = None
    oldest: datetime | None = None
    follows_erasures: bool = False
    lineage: tuple[Column, ...] = LINEAGE
    key: tuple[str, ...] = ROW_KEY
    keeps_history: bool = False
    keeps_records: bool = False
    optional: bool = False
    quotes_treated: bool = False

    def is_inside(self, parent: Table) -> bool:
        """Whether the rows are in arrays inside the records of *parent*."""
        return isinstance(self.read, Inside) and self.read.parent == parent.name

    @property
    def full_name(self) -> str:
        """The name with its schema: ``ometria.profiles``."""
        return f"{self.schema}.{self.name}"

    @property
    def label(self) -> str:
        """The name, with the schema if the table holds versions or records of another."""
        return self.full_name if self.schema in {HISTORY_SCHEMA, RAW_SCHEMA} else self.name

    @property
    def sample_columns(self) -> tuple[str, ...]:
        """The columns that a short look at the table shows."""
        fields = (column.name for column in self.columns if not isinstance(column.source, Md5))
        return self.sample or tuple(islice(fields, _SAMPLE_COLUMNS))

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """The columns as the warehouse has them, the lineage included."""
        return self.columns + self.lineage

    @property
    def contents(self) -> tuple[Column, ...]:
        """The columns that tell whether two rows of one key are the same."""
        known = {column.name for column in LINEAGE}
        return tuple(column for column in self.all_columns if column.name not in known)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that the mapping reads, without repeats, in the page's order."""
        named = [column.source for column in self.columns if isinstance(column.source, str)]
        stamps = [column.stamp for column in self.columns if column.stamp]
        return tuple(dict.fromkeys([*named, *self.sync_key.sources, *stamps]))

    @property
    def parent_column(self) -> Column | None:
        """The column with the id of the record that a row is inside; None if it is inside none."""
        if not isinstance(self.read, Inside):
            return None
        source = f"{self.read.parent}::{self.read.parent_id}"
        return next((column for column in self.columns if column.source == source), None)

    @property
    def is_treated(self) -> bool:
        """Whether the account's settings exclude or hash a column."""
        return any(column.treatment for column in self.columns)

    @property
    def hides_addresses(self) -> bool:
        """Whether an address is excluded or hashed, so that no other text may quote one."""
        own = any(column.person == "address" and column.treatment for column in self.columns)
        return own or self.quotes_treated

    @property
    def people(self) -> dict[str, PersonId]:
        """The fields that hold an id of a person, and of which kind."""
        return {str(column.source): column.person for column in self.columns if column.person}

    @property
    def kinds_named(self) -> list[PersonId]:
        """The kinds of ids that a text of the table, or a record as it came, may name."""
        if any(column.holds_record for column in self.columns) or isinstance(self.read, Inside):
            return [*get_args(PersonId)]  # What is rejected of an array can be anything.
        return sorted(set(self.people.values()))

    @property
    def address(self) -> Column | None:
        """
        The column whose address Ometria replaces when it erases a person, if that is followed.

        None too for a table whose records are not people.
        """
        if not self.follows_erasures or not any(
            column.person and column.name == self.record_id for column in self.columns
        ):
            return None
        return next((each for each in self.columns if each.person == "address"), None)

    @property
    def identifying_fields(self) -> frozenset[str]:
        """The fields of the key, and those without which a record is rejected."""
        return frozenset(
            [*self.sync_key.sources, *(name for group in self.identity for name in group)]
        )

    def with_wide_keys(self) -> Table:
        """Make the table that keeps apart what the specified key merges."""
        if not self.wide_parts:
            return self
        wide = Md5(self.sync_key.parts + self.wide_parts)
        columns = tuple(
            replace(column, source=wide) if column.source == self.sync_key else column
            for column in self.columns
        )
        return replace(self, sync_key=wide, columns=columns)


@dataclass(frozen=True, order=True)
class ColumnTreatment:
    """
    What is done to the values of a column: it is ``excluded``, ``hashed``, or ``hashed as an
    address``, without regard to case and space around it.

    *check* tells whether the secret of the pseudonyms is the same; None where none is needed.
    """

    table_name: str
    column_name: str
    treatment: str
    check: str | None = None


@dataclass(frozen=True)
class StateTable:
    """
    A table of the state: column names and types, and which columns are its key.

    *schema* is another one for a table that this program has not made.
    """

    name: str
    columns: tuple[tuple[str, StateColumnType], ...]
    key: tuple[str, ...]
    schema: str = STATE_SCHEMA

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(name for name, _ in self.columns)


def other_table(schema: str, name: str, texts: Iterable[str]) -> StateTable:
    """Describe a table that this program has not made, by its columns of text."""
    return StateTable(name, tuple((text, "text") for text in texts), (), schema)


@dataclass(frozen=True)
class Join:
    """Two columns, as ``table.column``, that hold the same thing: *one* side and *many*."""

    one: str
    many: str
    best_effort: bool = False
