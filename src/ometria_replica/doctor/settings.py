"""Tests the settings: what cannot be done, is not read, has no effect, or is unusual."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ometria_replica.config import explain, is_loopback
from ometria_replica.doctor.findings import Finding, failed, of_account, passed, warned
from ometria_replica.errors import ConfigError
from ometria_replica.ometria.account_source import setting_missing
from ometria_replica.run_checks import problems_of
from ometria_replica.text import counted
from ometria_replica.ways_to_read import Growing, PerParent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ometria_replica.catalog import Catalog
    from ometria_replica.config import AccountSettings, Config, FeedSettings

VALID: Final = "settings.valid"
PROBLEM: Final = "settings.problem"
NOT_READ: Final = "settings.not_read"
UNUSED: Final = "settings.unused"
UNUSUAL: Final = "settings.unusual"
OPEN: Final = "settings.permissions"

OMETRIA_DOMAIN = "ometria.com"
REQUESTS_PER_SECOND = 4.0  # Documented: for all integrations of an account together.

_S3_ONLY = ("endpoint_url", "region", "access_key_id", "secret_access_key", "session_token",
            "profile", "role_arn")  # fmt: skip
_CSV_ONLY = ("delimiter", "header", "quote", "escape", "null", "columns")
_API_ONLY = ("api_url", "requests_per_second", "max_answer_bytes", "changes_parameter")


def check_settings(config: Config, catalog: Catalog) -> Iterator[Finding]:
    """Look at the settings, which are valid each by itself: those of all accounts first."""
    yield _valid(config)
    yield from _permissions(config)
    yield from _metrics(config)
    scheme = config.warehouse.url.partition(":")[0]
    if "warehouse.duckdb_storage_version" in config.origins and scheme != "duckdb":
        yield _unused("warehouse.duckdb_storage_version", "the warehouse is no DuckDB file")
    for index, account in enumerate(config.accounts):
        yield from of_account(_of_account(config, catalog, account, index), account.source_id)


def problems(error: ConfigError) -> Iterator[Finding]:
    """Give each problem of settings that are wrong."""
    for problem in error.problems:
        mend = "Correct it, then run check again; docs/reference/settings.md has every setting."
        yield failed(PROBLEM, problem, ConfigError(problem), mend)


def doubts(warnings: Iterable[str]) -> Iterator[Finding]:
    """Give what loading the settings has warned of; files of secrets have their own test."""
    for warning in warnings:
        text, _, mend = warning.partition(". ")
        if not text.endswith("chmod 600 it"):
            mend = mend or "Unset it, or give it the right name if it was meant for this program."
            yield warned(UNUSUAL, text if text.endswith("?") else f"{text.rstrip('.')}.", mend)


def _valid(config: Config) -> Finding:
    origins = [origin for _, _, origin in explain(config) if origin != "default"]
    variables = sum(origin.startswith("env:") for origin in origins)
    places = {f"{config.path}": len(origins) - variables, "the environment": variables}
    told = ", ".join(f"{count} from {place}" for place, count in places.items() if count)
    no_file = "" if config.path else "; there is no ometria.toml in this folder"
    return passed(
        VALID,
        f"{counted(len(config.accounts), 'account')}, {counted(len(origins), 'setting')}, all"
        f" valid{f': {told}' if told else ''}{no_file}.",
    )


def _permissions(config: Config) -> Iterator[Finding]:
    """Look who else may read the files of secrets, and who may change the settings."""
    secrets = {
        origin.removeprefix("file:")
        for _, _, origin in explain(config)
        if origin.startswith("file:")
    }
    for name in sorted(secrets):
        if _mode(Path(name)) & (stat.S_IRWXG | stat.S_IRWXO):
            yield warned(
                OPEN, f"{name} holds a secret, and other users may read or change it.",
                f"chmod 600 {name}",
            )  # fmt: skip
    if config.path is not None and _mode(config.path) & (stat.S_IWGRP | stat.S_IWOTH):
        yield warned(
            OPEN, f"{config.path} can be changed by other users, who could have the key sent"
            " elsewhere.",
            f"chmod go-w {config.path}",
        )  # fmt: skip


def _metrics(config: Config) -> Iterator[Finding]:
    """Look whether the file of metrics can be written: a sync goes on without it."""
    if config.metrics is None:
        return
    folder = Path(config.metrics).absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        yield warned(
            UNUSUAL,
            f"{config.metrics} cannot be written: {folder} does not exist, or is not writable.",
            "Create the folder, or change metrics (OMETRIA_METRICS): a sync goes on without it.",
        )


def _mode(path: Path) -> int:
    try:
        return path.expanduser().stat().st_mode
    except OSError:
        return 0


def _of_account(
    config: Config, catalog: Catalog, account: AccountSettings, index: int
) -> Iterator[Finding]:
    for what, problem in problems_of(account, catalog):
        yield failed(
            PROBLEM, f"The settings of {what} cannot be carried out.", ConfigError(problem)
        )
    for name in account.require:
        if (refused := _refusal(catalog, account, name)) is not None:
            yield failed(PROBLEM, f"The required table {name} cannot be replicated.", refused)
    yield from _not_read(catalog, account)
    given = [key for key in config.origins if key.startswith(f"accounts[{index}].")]
    names = {key.partition(".")[2] for key in given}
    for name, reason in _without_effect(account, catalog.for_account(account)):
        if name in names:
            yield _unused(name, reason)
    yield from _unusual(account)


def _refusal(catalog: Catalog, account: AccountSettings, name: str) -> ConfigError | None:
    """Say why a required table cannot be replicated; None if it can."""
    try:
        catalog.of([account]).table(name)
    except ConfigError as error:
        return error
    return None


def _not_read(catalog: Catalog, account: AccountSettings) -> Iterator[Finding]:
    """Say which tables are not read for want of a setting, each required one by itself."""
    lacking: dict[str, list[str]] = {}
    for table in catalog.for_account(account):
        if missing := setting_missing(account, table):
            if table.name in account.require:
                text = f"{account.source_id}: {table.name} is not read: {missing}"
                yield failed(
                    NOT_READ, f"{table.name} is required, and is not read.", ConfigError(text)
                )
            else:
                lacking.setdefault(missing, []).append(table.name)
    for missing, names in lacking.items():
        be = "is" if len(names) == 1 else "are"
        yield warned(
            NOT_READ, f"{', '.join(names)} {be} not read: {missing}.",
            "Set it, or name the tables that you want in the setting tables (OMETRIA_TABLES).",
        )  # fmt: skip


def _unused(name: str, reason: str) -> Finding:
    return warned(UNUSED, f"{name} has no effect: {reason}.", f"Remove {name}.")


def _without_effect(account: AccountSettings, tables: Catalog) -> Iterator[tuple[str, str]]:
    """Name the settings that would have no effect if they were set, each with the reason."""
    reads = [table.read for table in tables]
    if account.api_key is None:
        yield from ((name, "there is no API key") for name in _API_ONLY)
    elif not any(isinstance(read, PerParent) for read in reads):
        yield "changes_parameter", "no table is read for each list"
    if not any(isinstance(read, Growing) for read in reads):
        yield "full_read_every_days", "none of the further tables is replicated"
    if account.deletes == "report":
        yield "max_deleted_share", 'rows are only removed with deletes = "remove"'
    if not account.hash:
        yield "normalise", "no column is hashed"
    if account.feed is not None:
        yield from ((f"feed.{name}", reason) for name, reason in _without_effect_in(account.feed))


def _without_effect_in(feed: FeedSettings) -> Iterator[tuple[str, str]]:
    if feed.url.startswith("s3://"):
        yield "follow_symlinks", "the feed is a bucket"
    else:  # What the environment has for AWS is for other programs too.
        yield from (
            (name, "the feed is a folder") for name in _S3_ONLY if getattr(feed, name) is not None
        )
    if feed.format in {"jsonl", "parquet"}:
        yield from ((name, f"the format is {feed.format}") for name in _CSV_ONLY)
    if feed.format == "parquet":
        yield "encoding", "the format is parquet"


def _unusual(account: AccountSettings) -> Iterator[Finding]:
    url = urlsplit(account.api_url)
    host = url.hostname or ""
    if account.api_key is None or is_loopback(host):
        return
    if not f".{host}".endswith(f".{OMETRIA_DOMAIN}"):
        yield warned(
            UNUSUAL, f"The API key is sent to {host}, which is not of {OMETRIA_DOMAIN}.",
            "If that is not a proxy of your own, remove api_url (OMETRIA_API_URL), and replace the"
            " key.",
        )  # fmt: skip
    if account.requests_per_second > REQUESTS_PER_SECOND:
        yield warned(
            UNUSUAL,
            f"requests_per_second is {account.requests_per_second:g}, and Ometria documents"
            f" {REQUESTS_PER_SECOND:g} for all integrations of an account together.",
            "Lower it, unless Ometria has raised the limit of your account: requests beyond it are"
            " refused (429), those of other integrations too.",
        )  # fmt: skip
