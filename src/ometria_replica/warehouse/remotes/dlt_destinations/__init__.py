"""
What the bridge must know of a warehouse: one file a warehouse, in this folder.

The file's name is the scheme of the URL. It imports the warehouse's driver, so that a
missing one is noticed before anything is contacted, and says with :class:`Destination`
how dlt reaches the warehouse and how the five tables are laid out there.
``docs/how-to/add-a-warehouse.md`` tells how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from ometria_replica.batch import BatchSize
from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ometria_replica.config import Limits
    from ometria_replica.schema import StateTable, Table
    from ometria_replica.warehouse.remotes.dlt_loader import DltLoader

# A package costs seconds whatever is in it, so that it should carry much. A million events
# took 940 MB in batches of 16 MiB, through dlt into DuckDB; 32 took 1.3 GB.
LARGE = BatchSize(records=50_000, bytes=16 * 2**20, files=2_000)


@dataclass(frozen=True)
class Address:
    """
    A URL taken apart: *user*, *password* and the rest decoded, None where not given.

    Each part that is asked for with :meth:`need` is missed by its name.
    """

    scheme: str
    user: str | None
    password: str | None
    host: str | None
    port: int | None
    path: str
    options: Mapping[str, str]

    @classmethod
    def read(cls, url: str) -> Address:
        """
        Take *url* apart.

        Raises ConfigError where a character of the password makes another URL of it. What
        Python says of that quotes the password, so that it is not passed on.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigError(
                "warehouse.url: is no URL that can be read. Percent-encode what the password"
                " holds of / ? # @ : [ ], and write the port as a number."
            ) from None
        user, password = parts.username, parts.password
        return cls(
            scheme=parts.scheme,
            user=unquote(user) if user else None,
            password=unquote(password) if password else None,
            host=parts.hostname,
            port=port,
            path=unquote(parts.path).removeprefix("/"),
            options=dict(parse_qsl(parts.query, keep_blank_values=True)),
        )

    def need(self, form: str, **parts: str | None) -> None:
        """Raise ConfigError, with the *form* to write, where one of *parts* is missing."""
        missing = [name for name, value in parts.items() if not value]
        if missing:
            raise ConfigError(f"warehouse.url: {' and '.join(missing)} missing. Write {form}.")

    def only(self, form: str, *names: str) -> dict[str, str]:
        """Return the options. Raises ConfigError with the right *form* for an unknown one."""
        unknown = sorted(set(self.options) - set(names))
        if unknown:
            raise ConfigError(f"warehouse.url: '{unknown[0]}' is not known here. Write {form}.")
        return dict(self.options)


@dataclass(frozen=True)
class Layout:
    """
    Hints of dlt for a table: *table* for all of it, *columns* by column, over the type.

    *unique* are the columns of an index that keeps rows unique; empty for none.
    """

    table: Mapping[str, Any] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unique: tuple[str, ...] = ()


@dataclass(frozen=True)
class Destination:
    """
    A warehouse: *factory* is dlt's class, and *options* its arguments, made from the URL.

    *limited* adds the limits of a database that runs in this process, with its folder for
    temporary files. Rows are transferred in *file_format*. *strategy* replaces rows:
    ``delete-insert``, in one transaction if the warehouse has *transactions*, or ``upsert``, if
    it has none but its MERGE is one commit. *layout* sorts or partitions a table so that a
    batch of events touches only the days of the batch. *longest_text* limits the text of
    rejects, in bytes, if the warehouse limits the length of a text. Without *has_schemas* the
    name of a schema is a part of the names of its tables. *unconnected* are options for a
    client that never connects, if dlt wants credentials even then. *lets_go* closes the
    connection between batches, for a warehouse that allows one program at a time. *is_there*
    returns False if a connection would create the warehouse, as a connection to a file may.
    *create* then creates it, where dlt's way is not ours. *forget* does as Engine.forget_deleted(),
    after the staging tables were emptied; else *keeps* says, after the place, what the vendor
    keeps of deleted rows. *upkeep* says, after the place, who maintains the tables. *upgrade*
    changes tables, which exist, that an older release created otherwise.
    """

    name: str
    factory: Any
    options: Callable[[Address], dict[str, Any]]
    place: Callable[[Address], str]
    limited: Callable[[dict[str, Any], Limits, Path], dict[str, Any]] = lambda options, *_: options
    file_format: Literal["parquet", "jsonl", "insert_values"] = "parquet"
    strategy: Literal["delete-insert", "upsert"] = "delete-insert"
    transactions: bool = True
    layout: Callable[[Table], Layout] = lambda _: Layout()
    is_there: Callable[[Address], bool] = lambda _: True
    create: Callable[[Address], None] = lambda _: None
    upgrade: Callable[[DltLoader, Sequence[Table]], None] = lambda *_: None
    forget: Callable[[DltLoader, Address, Sequence[Table | StateTable]], str] | None = None
    keeps: str = "may keep what deleted rows held, as long as it keeps old versions."
    upkeep: str = "maintains its tables itself."
    longest_text: int | None = None
    has_schemas: bool = True
    unconnected: Mapping[str, Any] = field(default_factory=dict)
    lets_go: bool = False
    batch_size: BatchSize = LARGE
