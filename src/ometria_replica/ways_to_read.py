"""The ways to read a table: each a value that says which endpoint or files, and how."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pages:
    """
    Read a collection by offset pages.

    *since* names the parameter that selects records updated since a date, and *stamp* the
    field that the program adds to each record with that date. *query* has fixed parameters, as
    ``("mode", "all")``. *pages* says that Ometria documents ``limit`` and ``offset`` for the
    endpoint. *requests_per_minute* is the limit of the endpoint, below the account's; None means
    that it has none.
    """

    endpoint: str
    since: str | None = None
    stamp: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    pages: bool = False
    requests_per_minute: int | None = None


@dataclass(frozen=True)
class Windows:
    """
    Read a stream of events by windows of time, between the parameters *since* and *before*.

    *time* is the field that holds an event's time.
    """

    endpoint: str
    since: str
    before: str
    time: str


@dataclass(frozen=True)
class PerParent:
    """
    Read one collection for each record of a parent: ``lists/{id}/changes``.

    The parent's ``id`` joins each record as its field ``id``.
    """

    parent: Pages
    endpoint: str


@dataclass(frozen=True)
class Growing:
    """
    Read a collection to whose end new records are added, from where the last read ended.

    Older records may change too, so all of it is read every so many days, and *since* names a
    parameter that may select records updated since a date: each run tries whether Ometria honours
    it. With a *parent*, there is such a collection for each of its records: *endpoint* has the
    name of a field of the parent in braces, as ``contacts/{collection}``, which joins each record.
    *count* is the field of the parent with the number of records. *pages* says that ``limit`` and
    ``offset`` are known to work.
    """

    endpoint: str
    since: str = "updateSince"
    parent: Pages | None = None
    count: str | None = None
    pages: bool = True

    @property
    def parent_field(self) -> str | None:
        """The field of the parent that joins each record; None without a parent."""
        return self.endpoint.partition("{")[2].partition("}")[0] if self.parent else None


@dataclass(frozen=True)
class Newest:
    """Read an endpoint that gives its newest records and no others, at *most* so many."""

    endpoint: str
    most: int


@dataclass(frozen=True)
class Feed:
    """
    Read a dataset of the self-serve export, file by file.

    *pattern* is a glob for the names of its files, below the feed's URL. None means every file
    that the setting ``feed.pattern`` allows and that no other table's *pattern* matches.
    """

    dataset: str
    pattern: str | None = None


@dataclass(frozen=True)
class Inside:
    """
    Read the arrays inside the records of another table, which needs no request.

    *parent* is the name of that table, and *field* that of the array; *also* are other names that
    it may have. Each element is a record. Beside its own fields it has those of the record that
    it is inside, as ``profiles::id``, and its place in the array, from 1, as the field *position*.
    The elements are objects, or texts if *text* says as which field. *parent_id* is the field
    with the id of the record that an element is inside. *is_update* says that a record whose array
    changes counts as updated; else the rows may be behind until all records are read.
    """

    parent: str
    field: str
    also: tuple[str, ...] = ()
    text: str | None = None
    position: str | None = None
    parent_id: str = "id"
    is_update: bool = True


Read = Pages | Windows | PerParent | Growing | Newest | Feed | Inside
