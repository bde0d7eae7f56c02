"""
Loads the settings from the command line, the environment and ``ometria.toml``.

The first provider with a value decides:

    command line  >  environment  >  ometria.toml  >  default
"""

from __future__ import annotations

import dataclasses
import logging
import os
import tomllib
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from ometria_replica.config.account_settings import AccountSettings
from ometria_replica.config.checks import kind_of
from ometria_replica.config.feed_settings import FeedSettings
from ometria_replica.config.providers import Reader, command_line, environment, file_table
from ometria_replica.config.retention import Retention
from ometria_replica.config.schema import ACCOUNT_VARIABLES, RUN_SETTINGS, SHARED, VARIABLES, Config
from ometria_replica.config.setting import settings_of
from ometria_replica.config.warehouse_settings import WarehouseSettings
from ometria_replica.errors import ConfigError
from ometria_replica.nearest import nearest
from ometria_replica.source_ids import keys_may_meet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ometria_replica.config.providers import Provider

logger = logging.getLogger(__name__)

DEFAULT_FILE: Final = Path("ometria.toml")
OMETRIA_DOMAIN: Final = "ometria.com"


def load_config(
    path: Path | str | None = None,
    environ: Mapping[str, str] = os.environ,
    warehouse_url: str | None = None,
) -> Config:
    """
    Read the settings, or raise a ConfigError that lists everything wrong with them.

    *path* is ``--config``; without it, ``OMETRIA_CONFIG`` names the file, which must then
    exist; without that, ``ometria.toml`` is read if it exists. *warehouse_url* comes from
    the command line and overrides all others, but must not hold a password.
    """
    is_named = path is not None or "OMETRIA_CONFIG" in environ
    path = _find(Path(path) if isinstance(path, str) else path, environ)
    loading = _Loading(environ, path, parsed(path) if path else {})
    config = loading.config(warehouse_url)
    if loading.reader.problems:
        raise ConfigError(loading.reader.problems)
    if path is not None and not is_named:
        _doubt_owner(path, config)
    return config


def config_of(
    document: Mapping[str, object], environ: Mapping[str, str], path: Path | None = None
) -> Config:
    """
    Read the settings of a *document*, as :func:`load_config` reads those of the file *path*.

    It is the file's content as Python values; the file may not be there yet.
    """
    loading = _Loading(environ, path, document)
    config = loading.config(None)
    if loading.reader.problems:
        raise ConfigError(loading.reader.problems)
    return config


def load_warehouse(
    url: str | None, environ: Mapping[str, str] = os.environ, path: Path | None = None
) -> WarehouseSettings:
    """
    Read the settings of the warehouse alone; accounts are not looked at, so no key is needed.

    *url* and *path* are those of the command line, as in :func:`load_config`.
    """
    path = _find(path, environ)
    loading = _Loading(environ, path, parsed(path) if path else {})
    warehouse = loading.warehouse(url)
    if loading.reader.problems:
        raise ConfigError(loading.reader.problems)
    return warehouse


def _doubt_owner(path: Path, config: Config) -> None:
    """
    Warn if a file that was only found, and that another user wrote, says where keys are sent.

    Root counts as the user: it may write every file.
    """
    owner = path.stat().st_uid
    if owner in {0, getattr(os, "geteuid", lambda: owner)()}:
        return
    for index, account in enumerate(config.accounts):
        host = urlsplit(account.api_url).hostname or ""
        is_of_file = config.origins.get(f"accounts[{index}].api_url") == str(path)
        if is_of_file and account.api_key and not f".{host}".endswith(f".{OMETRIA_DOMAIN}"):
            logger.warning(
                "%s, which belongs to another user (uid %d), has the API key of account '%s' sent"
                " to %s, which is not Ometria's. If you trust the file, name it with --config;"
                " else stop, and replace the key.",
                path.absolute(), owner, account.account_id, host,
            )  # fmt: skip


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if "OMETRIA_CONFIG" in environ:
        if not environ["OMETRIA_CONFIG"].strip():
            raise ConfigError("OMETRIA_CONFIG: is empty; name a file, or unset it.")
        return Path(environ["OMETRIA_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def parsed(path: Path) -> dict[str, object]:
    """Read a settings file as Python values. Raises ConfigError for one that is no TOML."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # Editors of Windows may add the mark.
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start}: the file must be UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).removesuffix(")").partition(" (at ")
        raise ConfigError(f"{path}: {place}: this is not TOML: {reason}.") from None
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise ConfigError(f"{path}: the settings file cannot be read: {reason}.") from None
    except (ValueError, RecursionError):  # A number of 5,000 digits; lists in lists in lists.
        raise ConfigError(
            f"{path}: holds a value that no setting can have, or is not a valid file name."
        ) from None


class _Loading:
    """One load of the settings. Values with a problem keep their default."""

    def __init__(
        self, environ: Mapping[str, str], path: Path | None, document: Mapping[str, object]
    ) -> None:
        self.reader = Reader(environ, path or DEFAULT_FILE)
        self._environ = environ
        self._path = path
        self._document = document

    def config(self, warehouse_url: str | None) -> Config:
        """Read everything; the problems are then in the reader."""
        known = ("warehouse", "accounts", *SHARED, *RUN_SETTINGS)
        self.reader.refuse_unknown(self._document, "", known)
        warehouse = self.warehouse(warehouse_url)
        tables, shared = self._account_tables(), self._shared()
        accounts = tuple(
            self._account(table, f"accounts[{index}]", shared, alone=len(tables) == 1)
            for index, table in enumerate(tables)
        )
        self._refuse_duplicates(accounts)
        self._check_variables(len(tables))
        return Config(
            accounts=accounts,
            warehouse=warehouse,
            **self._of_runs(),
            path=self._path,
            origins=self.reader.origins,
        )

    def warehouse(self, url: str | None) -> WarehouseSettings:
        """Read the settings of the warehouse; *url* is the command line's."""
        table = self._section(WarehouseSettings, self._document.get("warehouse", {}), "warehouse")
        arguments = command_line({"url": url}, "warehouse")
        providers = [arguments, *self._providers(table, "warehouse", alone=True)]
        return WarehouseSettings(**self.reader.values(WarehouseSettings, "warehouse", providers))

    def _account_tables(self) -> list[Mapping[str, object]]:
        """Return the accounts of the file; without any, the environment describes the only one."""
        tables = self._document.get("accounts", [])
        if not isinstance(tables, list):
            self.reader.problem(
                "accounts", "must be a list of tables: write [[accounts]] above each"
            )
            return []
        return [self._table(each, f"accounts[{n}]") for n, each in enumerate(tables)] or [{}]

    def _account(
        self, table: Mapping[str, object], key: str, shared: Mapping[str, Any], *, alone: bool
    ) -> AccountSettings:
        table = self._section(AccountSettings, table, key)
        providers = self._providers(table, key, alone=alone)
        values = _joined(shared, self.reader.values(AccountSettings, key, providers))
        for name in shared:
            self.reader.origins.setdefault(f"{key}.{name}", self.reader.origins[name])
        has_feed = "feed" in table or (alone and "OMETRIA_FEED_URL" in self._environ)
        if has_feed:
            values["feed"] = self._feed(table.get("feed", {}), f"{key}.feed", alone=alone)
        elif "api_key" not in values and not self.reader.is_wrong(f"{key}.api_key", key):
            self._refuse_empty_account(key, alone=alone)
        return AccountSettings(**values)

    def _shared(self) -> dict[str, Any]:
        """Read the settings that the file gives for all accounts."""
        shared = {name: self._document[name] for name in SHARED if name in self._document}
        return self.reader.values(AccountSettings, "", [file_table(shared, self._path, "")])

    def _of_runs(self) -> dict[str, Any]:
        """Read the settings of each run, which stand above the sections."""
        table = {name: self._document[name] for name in RUN_SETTINGS if name in self._document}
        return self.reader.values(Config, "", self._providers(table, "", alone=True))

    def _refuse_empty_account(self, key: str, *, alone: bool) -> None:
        if "accounts" not in self._document:
            file = self._path or DEFAULT_FILE
            self.reader.problems.append(
                "No account is set: it needs an API key, a feed or both."
                f" Set OMETRIA_API_KEY or OMETRIA_FEED_URL, or write [[accounts]] in {file}."
            )
            return
        variables = "set OMETRIA_API_KEY or OMETRIA_FEED_URL, or " if alone else ""
        self.reader.problem(
            key, f"has neither an API key nor a feed; {variables}write api_key or feed.url here"
        )

    def _feed(self, raw: object, key: str, *, alone: bool) -> FeedSettings:
        table = self._section(FeedSettings, raw, key)
        values = self.reader.values(FeedSettings, key, self._providers(table, key, alone=alone))
        if "url" not in values and not self.reader.is_wrong(key, f"{key}.url"):
            variable = "set OMETRIA_FEED_URL or " if alone else ""
            self.reader.problem(
                f"{key}.url",
                f"is missing; {variable}write s3://bucket/prefix, file:///folder or a path",
            )
        self._check_credentials(table, key)
        self._note_aws(values, key)
        return FeedSettings(**{"url": "", **values})

    def _check_credentials(self, table: Mapping[str, object], key: str) -> None:
        pair = {"access_key_id", "secret_access_key"}
        given = {name for name in (*pair, "session_token") if name in table}
        for name in sorted(pair - given) if given else ():
            needing = ", ".join(sorted(given))
            self.reader.problem(f"{key}.{name}", f"is missing: {needing} needs it")
        if given and "profile" in table:
            self.reader.problem(
                f"{key}.profile", "cannot be combined with an access key: keep one of them"
            )

    def _note_aws(self, values: Mapping[str, object], key: str) -> None:
        """Note the variables that the S3 client will use; the feed's own credentials hide them."""
        credentials = {"access_key_id", "secret_access_key", "session_token", "profile"}
        hidden = credentials if credentials & values.keys() else set()
        for name, known in settings_of(FeedSettings).items():
            found = [variable for variable in known.aws if self._environ.get(variable)]
            if found and name not in values and name not in hidden:
                self.reader.origins[f"{key}.{name}"] = f"env:{found[0]}"

    def _providers(self, table: Mapping[str, object], key: str, *, alone: bool) -> list[Provider]:
        """Order the providers; the variables of an account describe the only one, not others."""
        variables = [environment(self._environ)] if alone else []
        return [*variables, file_table(table, self._path, key)]

    def _section(self, kind: type, raw: object, key: str) -> Mapping[str, object]:
        table = self._table(raw, key)
        self.reader.refuse_unknown(table, key, [each.name for each in dataclasses.fields(kind)])
        return table

    def _table(self, raw: object, key: str) -> Mapping[str, object]:
        if isinstance(raw, dict):
            return raw
        self.reader.problem(key, f"must be a table, not {kind_of(raw)}")
        return {}

    def _refuse_duplicates(self, accounts: Iterable[AccountSettings]) -> None:
        """Refuse equal names: a row names its account and its connection."""
        seen: dict[tuple[str, str], str] = {}
        for index, account in enumerate(accounts):
            for name in ("account_id", "source_id"):
                key = f"accounts[{index}].{name}"
                if self.reader.is_wrong(key):
                    continue
                first = seen.setdefault((name, getattr(account, name)), key)
                # A source_id that follows the account_id repeats with it: one problem, not two.
                follows = name == "source_id" and key not in self.reader.origins
                if first != key and not follows:
                    self.reader.problem(key, f"is the same as {first}; each account needs its own")
        self._refuse_prefixes(list(accounts))

    def _refuse_prefixes(self, accounts: list[AccountSettings]) -> None:
        for (n, one), (m, other) in permutations(enumerate(accounts), 2):
            is_longer = len(other.source_id) > len(one.source_id)
            if is_longer and keys_may_meet(one.source_id, other.source_id):
                self.reader.problem(
                    f"accounts[{m}].source_id",
                    f"begins with accounts[{n}].source_id; a key joins it with an id and nothing"
                    " between, so two records could have the same key",
                )

    def _check_variables(self, accounts: int) -> None:
        referred = set(references(self._document))
        ours = [name for name in self._environ if name.startswith("OMETRIA_")]
        for name in sorted(ours):
            if accounts > 1 and name in ACCOUNT_VARIABLES and name not in referred:
                self.reader.problems.append(_ambiguous(name, f"{self._path}", accounts))
            elif name not in VARIABLES and name not in referred:
                self._doubt_variable(name)

    def _doubt_variable(self, name: str) -> None:
        """
        Treat a name close to one of ours as a problem, and warn of any other.

        Other programs of the shop may have variables that begin the same way.
        """
        suffix = name.removeprefix("OMETRIA_")
        suffixes = [known.removeprefix("OMETRIA_") for known in VARIABLES]
        near = nearest(suffix, suffixes)
        hint = f"; did you mean OMETRIA_{near}?" if near else ""
        if nearest(suffix, suffixes, cutoff=0.8):
            self.reader.problems.append(f"{name}: is not a setting{hint} Rename it, or unset it.")
        else:
            logger.warning("%s is not a setting and is ignored%s", name, hint)


def _joined(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Let an account's own settings add to the lists for all accounts, and replace the others."""
    values = {**shared, **own}
    for name in shared.keys() & own.keys():
        if isinstance(own[name], tuple):
            both = [*shared[name], *own[name]]
            values[name] = tuple({_identity(each): each for each in both}.values())
    return values


def _identity(item: str | Retention) -> str:
    """Tell whether two items of a list say something of the same: then the second one counts."""
    return item.table_name if isinstance(item, Retention) else item


def _ambiguous(variable: str, path: str, accounts: int) -> str:
    key = ACCOUNT_VARIABLES[variable]
    instead = f'api_key = "env:{variable}"' if key == "api_key" else key
    return (
        f"{variable}: sets one account, but {path} has {accounts};"
        f" write {instead} in the account that it is for, and unset the variable"
        " unless one refers to it."
    )


def references(raw: object) -> Iterator[str]:
    """Find the variables that the file refers to, anywhere in it."""
    if isinstance(raw, str) and raw.startswith("env:"):
        yield raw.removeprefix("env:")
    elif isinstance(raw, dict | list):
        for each in raw.values() if isinstance(raw, dict) else raw:
            yield from references(each)
