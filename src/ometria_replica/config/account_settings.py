"""The settings of an account: its API, its feed, its tables, and people's data in them."""

# ruff: noqa: RUF009  # setting() is dataclasses.field, with a description.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ometria_replica.config.checks import (
    ANSWER_BYTES,
    check_boolean,
    check_days,
    check_hash_key,
    check_key,
    check_one_of,
    check_parameter,
    check_rate,
    check_share,
    check_text,
    check_whole_bytes,
)
from ometria_replica.config.setting import setting
from ometria_replica.config.table_names import (
    check_all_or_tables,
    check_column_names,
    check_replicated,
    check_retain,
    check_tables,
)
from ometria_replica.config.urls import check_api_url

if TYPE_CHECKING:
    from ometria_replica.config.feed_settings import FeedSettings
    from ometria_replica.config.retention import Retention
    from ometria_replica.config.secrets import Secret


@dataclass(frozen=True)
class AccountSettings:
    """One Ometria account: its API, its feed, or both."""

    account_id: str = setting(
        check_text,
        "text",
        "The account that owns the data: the column `_account_id`.",
        "default",
        env="OMETRIA_ACCOUNT_ID",
    )
    source_id: str = setting(
        check_text,
        "text",
        "The connection: the column `__source_id`, and part of every key.",
        "",  # __post_init__ makes it the account_id.
        env="OMETRIA_SOURCE_ID",
        unset="the `account_id`",
    )
    api_key: Secret | None = setting(
        check_key,
        "secret",
        "The key of the Data API, sent as `X-Ometria-Auth`.",
        None,
        env="OMETRIA_API_KEY",
        reference="required",
    )
    api_url: str = setting(
        check_api_url,
        "URL",
        "The address of the Data API; https, except for localhost.",
        "https://api.ometria.com/v2",
        env="OMETRIA_API_URL",
    )
    requests_per_second: float = setting(
        check_rate,
        "number",
        "The rate limit, shared by all programs on this machine; above 0, at most 1000."
        " Ometria allows 4 for each account, shared by all its integrations.",
        4.0,
        env="OMETRIA_REQUESTS_PER_SECOND",
    )
    max_answer_bytes: int = setting(
        check_whole_bytes(ANSWER_BYTES),
        "whole number",
        "The largest answer of the API, in bytes after decompression; at least 1000000. Each value"
        " in it counts as 32 bytes at least. A larger answer is an error, so that it cannot use up"
        " the memory: parsed records take six times as much.",
        64_000_000,
    )
    changes_parameter: str = setting(
        check_parameter,
        "text",
        "The query parameter for a list's changes since a date. Its name is undocumented.",
        "since",
    )
    wide_keys: bool = setting(
        check_boolean,
        "`true` or `false`",
        "Keep apart events that the specified keys merge. It cannot change after the first load.",
        False,
    )
    deletes: Literal["report", "remove"] = setting(
        check_one_of("report", "remove"),
        "`report`, `remove`",
        "Report rows whose profile or list was deleted in Ometria, or remove them too.",
        "report",
    )
    max_deleted_share: float = setting(
        check_share,
        "number",
        "The largest share of a table's rows that a run removes."
        " If more are deleted upstream, it removes none and warns.",
        0.1,
    )
    detect_deletes_every_days: int | None = setting(
        check_days,
        "whole number",
        "Read profiles and lists in full every so many days, to detect deleted ones.",
        None,
        unset="only with `--detect-deletes` or `--full`",
        example="7",
    )
    tables: tuple[str, ...] | None = setting(
        check_replicated,
        "list of text, or `all`",
        'The tables to replicate, such as `["profiles", "email_events", "orders"]`, or `"all"` for'
        " the five and [the further ones](tables.md). Above `[[accounts]]`, it holds for all"
        " accounts too. What a table holds stays when it is switched off.",
        None,
        env="OMETRIA_TABLES",
        unset="the five",
        example='"all"',
    )
    full_read_every_days: int = setting(
        check_days,
        "whole number",
        "Read contacts, orders, products and custom events in full every so many days, to find"
        " those that changed or were deleted where Ometria does not tell. New ones are read in"
        " every run.",
        7,
    )
    require: tuple[str, ...] = setting(
        check_tables,
        "list of text",
        "Tables that every run must be able to read. If the key or the feed that one of them needs"
        " is not set, a run fails instead of leaving the table out.",
        (),
        env="OMETRIA_REQUIRE",
        example='["email_events"]',
    )
    exclude: tuple[str, ...] = setting(
        check_column_names,
        "list of text",
        'Columns that stay null, such as `["profiles.phone_number", "*.email"]`: a table, or `*`'
        " for all, and a column. Above `[[accounts]]`, it holds for all accounts too. It cannot"
        " change after the first load, except by `ometria-replica rehash`.",
        (),
        env="OMETRIA_EXCLUDE",
    )
    hash: tuple[str, ...] = setting(
        check_column_names,
        "list of text",
        "Text columns that hold pseudonyms instead of the values, named as in `exclude`: equal"
        " values have equal pseudonyms in all tables of the account. It cannot change after the"
        " first load, except by `ometria-replica rehash`.",
        (),
        env="OMETRIA_HASH",
    )
    hash_key: Secret | None = setting(
        check_hash_key,
        "secret",
        "The secret of the pseudonyms, at least 16 characters: a pseudonym is the HMAC-SHA256 of"
        " the value with it, in hex. Nobody who lacks the secret can compute a pseudonym.",
        None,
        env="OMETRIA_HASH_KEY",
        reference="required",
    )
    normalise: bool = setting(
        check_boolean,
        "`true` or `false`",
        "Hash email addresses without space around them and in lower case, so that tables can be"
        " joined by them although they write them differently.",
        True,
    )
    retain: tuple[Retention, ...] = setting(
        check_retain,
        "table of text",
        'How long rows of events are kept, such as `{ email_events = "25 months", unsubscribes ='
        ' "6 years" }`: days, weeks, months or years for each table, until the end of a day in UTC.'
        " A sync removes older rows, and loads none. Above `[[accounts]]`, it holds for all"
        " accounts that set nothing else for the table.",
        (),
        unset="for ever",
        example='{ email_events = "25 months" }',
    )
    history: tuple[str, ...] = setting(
        check_tables,
        "list of text",
        'Tables of which every version of a row is kept, such as `["profiles", "lists"]`: in the'
        " schema `ometria_history`, with the times between which each held. See"
        " [history](../how-to/history.md). Above `[[accounts]]`, it holds for all accounts that set"
        " nothing else.",
        (),
        env="OMETRIA_HISTORY",
        example='["profiles", "lists"]',
    )
    follow_erasures: bool = setting(
        check_boolean,
        "`true` or `false`",
        "Follow the erasures of Ometria: note its deletion requests once a day, and where it has"
        " replaced the address of a profile by an anonymous one, remove what is held of the old"
        " address, and load no more of it. Above `[[accounts]]`, it holds for all accounts that set"
        " nothing else.",
        False,
    )
    keep_records: tuple[str, ...] = setting(
        check_all_or_tables,
        "`true`, `false` or list of text",
        "Keep each record as it came, as JSON, in the schema `ometria_raw`: of all tables, or of"
        ' those that are listed, such as `["profiles"]`. Above `[[accounts]]`, it holds for all'
        " accounts too.",
        (),
        env="OMETRIA_KEEP_RECORDS",
        unset="`false`",
        example='["profiles"]',
    )
    feed: FeedSettings | None = None

    def __post_init__(self) -> None:
        """Name the connection after the account, unless it has its own name."""
        if not self.source_id:
            object.__setattr__(self, "source_id", self.account_id)
