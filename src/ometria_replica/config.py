"""
Settings are read, merged, checked all at once, and explained here.

A value is taken from the first of these that has it:

    command line  >  environment  >  ometria.toml  >  default
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ometria_replica.errors import ConfigError
from ometria_replica.settings import (
    ACCOUNT_VARIABLES,
    VARIABLES,
    AccountSettings,
    Config,
    FeedSettings,
    Invalid,
    Secret,
    Setting,
    WarehouseSettings,
    did_you_mean,
    keys_may_meet,
    kind_of,
    masked,
    settings_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "AccountSettings",
    "Config",
    "FeedSettings",
    "Secret",
    "WarehouseSettings",
    "explain",
    "load_config",
]

logger = logging.getLogger(__name__)

DEFAULT_FILE: Final = Path("ometria.toml")
DEFAULT: Final = "default"
COMMAND_LINE: Final = "command line"
MAX_SECRET_BYTES: Final = 64 * 1024  # A key has some 40 characters; `file:/dev/zero` must end.


def load_config(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    warehouse_url: str | None = None,
) -> Config:
    """
    Read the settings, or raise a ConfigError that lists everything wrong with them.

    *path* is ``--config``; without it, ``OMETRIA_CONFIG`` names the file, which must then
    exist; without that, ``ometria.toml`` is read if it is there. *warehouse_url* comes from
    the command line and wins over everything, but may hold no password.
    """
    path = _find(path, environ)
    document = _parse(path) if path else {}
    reading = _Reading(environ, path, document)
    config = reading.config(warehouse_url)
    if reading.problems:
        raise ConfigError(reading.problems)
    return config


def _find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if "OMETRIA_CONFIG" in environ:
        if not environ["OMETRIA_CONFIG"].strip():
            raise ConfigError("OMETRIA_CONFIG: is empty; name a file, or unset it.")
        return Path(environ["OMETRIA_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _parse(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode("utf-8")
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
        raise ConfigError(f"{path}: holds what cannot be a setting, or is no file name.") from None


@dataclass(frozen=True)
class _Given:
    """A raw value, where it came from, and where a person would look for it."""

    value: object
    origin: str
    where: str


class _Reading:
    """One reading of the settings, which collects problems instead of stopping at the first."""

    def __init__(
        self, environ: Mapping[str, str], path: Path | None, document: Mapping[str, object]
    ) -> None:
        self._environ = environ
        self._path = path
        self._document = document
        self._origins: dict[str, str] = {}
        self._wrong: set[str] = set()
        self.problems: list[str] = []

    def config(self, warehouse_url: str | None) -> Config:
        """Read everything; what is wrong is left at its default, and told in *problems*."""
        self._refuse_unknown_keys(self._document, "", ("warehouse", "accounts"))
        warehouse = self._warehouse(warehouse_url)
        tables = self._account_tables()
        accounts = tuple(
            self._account(table, f"accounts[{index}]", alone=len(tables) == 1)
            for index, table in enumerate(tables)
        )
        self._refuse_duplicates(accounts)
        self._check_variables(len(tables))
        return Config(accounts, warehouse, self._path, self._origins)

    def _warehouse(self, argument: str | None) -> WarehouseSettings:
        table = self._table(self._document.get("warehouse", {}), "warehouse")
        return WarehouseSettings(
            **self._values(WarehouseSettings, table, "warehouse", environment=True, url=argument)
        )

    def _account_tables(self) -> list[Mapping[str, object]]:
        """Give the accounts of the file; without any, the environment describes the only one."""
        tables = self._document.get("accounts", [])
        if not isinstance(tables, list):
            self._problem("accounts", "must be a list of tables: write [[accounts]] above each")
            return []
        return [self._table(each, f"accounts[{n}]") for n, each in enumerate(tables)] or [{}]

    def _account(self, table: Mapping[str, object], key: str, *, alone: bool) -> AccountSettings:
        values = self._values(AccountSettings, table, key, environment=alone)
        has_feed = "feed" in table or (alone and "OMETRIA_FEED_URL" in self._environ)
        if has_feed:
            values["feed"] = self._feed(table.get("feed", {}), f"{key}.feed", alone=alone)
        if not has_feed and "api_key" not in values and not self._is_wrong(f"{key}.api_key", key):
            variables = "set OMETRIA_API_KEY or OMETRIA_FEED_URL, or " if alone else ""
            self._problem(
                key, f"has neither an API key nor a feed; {variables}write api_key or feed.url here"
            )
        return AccountSettings(**values)

    def _feed(self, raw: object, key: str, *, alone: bool) -> FeedSettings:
        table = self._table(raw, key)
        values = self._values(FeedSettings, table, key, environment=alone)
        if "url" not in values and not self._is_wrong(key, f"{key}.url"):
            variable = "set OMETRIA_FEED_URL or " if alone else ""
            self._problem(
                f"{key}.url",
                f"is missing; {variable}write s3://bucket/prefix, file:///folder or a path",
            )
        pair = {"access_key_id", "secret_access_key"}
        given = {name for name in (*pair, "session_token") if name in table}
        for name in sorted(pair - given) if given else ():
            self._problem(f"{key}.{name}", f"is missing: {', '.join(sorted(given))} needs it")
        if given and "profile" in table:
            self._problem(f"{key}.profile", "cannot stand beside an access key: keep one of them")
        self._note_aws(values, key)
        return FeedSettings(**{"url": "", **values})

    def _note_aws(self, values: Mapping[str, object], key: str) -> None:
        """Tell which variables the S3 client will find; credentials of the feed's own hide them."""
        credentials = {"access_key_id", "secret_access_key", "session_token", "profile"}
        hidden = credentials if credentials & values.keys() else set()
        for name, known in settings_of(FeedSettings).items():
            found = [variable for variable in known.aws if self._environ.get(variable)]
            if found and name not in values and name not in hidden:
                self._origins[f"{key}.{name}"] = f"env:{found[0]}"

    def _table(self, raw: object, key: str) -> Mapping[str, object]:
        if isinstance(raw, dict):
            return raw
        self._problem(key, f"must be a table, not {kind_of(raw)}")
        return {}

    def _values(
        self,
        kind: type,
        table: Mapping[str, object],
        key: str,
        *,
        environment: bool,
        **arguments: object,
    ) -> dict[str, Any]:
        """Read the settings of *kind*; those that nobody gave, and wrong ones, are left out."""
        self._refuse_unknown_keys(table, key, [each.name for each in dataclasses.fields(kind)])
        values: dict[str, Any] = {}
        for name, known in settings_of(kind).items():
            dotted = f"{key}.{name}"
            given = self._given(
                dotted, table.get(name), arguments.get(name), known.env if environment else None
            )
            if given is None:
                continue
            try:
                values[name], self._origins[dotted] = self._read(known, given)
            except Invalid as wrong:
                self._wrong.add(dotted)
                self.problems.append(_sentence(f"{given.where}: {wrong}"))
        return values

    def _given(
        self, dotted: str, in_file: object, argument: object, variable: str | None
    ) -> _Given | None:
        """Choose who is heard: command line, environment, file; None leaves the default."""
        if argument is not None:
            return _Given(argument, COMMAND_LINE, f"{COMMAND_LINE}: {dotted}")
        if variable and variable in self._environ:
            return _Given(self._environ[variable], f"env:{variable}", variable)
        if in_file is not None:
            return _Given(in_file, str(self._path), f"{self._path}: {dotted}")
        return None

    def _read(self, known: Setting, given: _Given) -> tuple[object, str]:
        """Follow the reference, if it is one, and check; gives the value and its origin."""
        if known.reference == "none":
            if isinstance(given.value, str) and given.value.startswith("env:"):
                raise Invalid("must be the value itself: env: is for secrets and warehouse.url")
            return known.check(given.value), given.origin
        value, origin = self._follow(given.value, given.origin)
        in_the_open = origin in {COMMAND_LINE, str(self._path)}
        if known.reference == "required":
            if in_the_open:
                raise Invalid(
                    "a secret must not stand in the settings, which people commit and share;"
                    ' write "env:NAME" for a variable or "file:/path" for a file that holds it'
                )
            return Secret(str(known.check(value)), origin), origin
        text = str(known.check(value))
        if in_the_open and masked(text) != text:
            raise Invalid(
                "a password must not stand here, where others can read it;"
                ' write "env:NAME" for a variable or "file:/path" for a file that holds the URL'
            )
        return text, origin

    def _follow(self, value: object, origin: str) -> tuple[object, str]:
        if isinstance(value, str) and value.startswith("env:"):
            name = value.removeprefix("env:")
            # The name is repeated in messages, and a key pasted by mistake must not be.
            if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
                raise Invalid(
                    "env: must be followed by a variable's name in capitals, digits and _"
                )
            if name not in self._environ:
                raise Invalid(f"the environment variable {name} is not set")
            value, origin = self._environ[name], f"env:{name}"
        if isinstance(value, str) and value.startswith("file:"):
            value, origin = _from_file(value.removeprefix("file:"))
        elif origin.startswith("env:") and value == "":
            raise Invalid(f"the environment variable {origin.removeprefix('env:')} is empty")
        return value, origin

    def _refuse_unknown_keys(
        self, table: Mapping[str, object], key: str, known: Iterable[str]
    ) -> None:
        known = tuple(known)
        for name in (each for each in table if each not in known):
            shown = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else ascii(name)
            hint = did_you_mean(name, known) or f"; known are {', '.join(known)}"
            self._problem(f"{key}.{shown}" if key else shown, f"is not a setting{hint}")

    def _refuse_duplicates(self, accounts: Iterable[AccountSettings]) -> None:
        """Refuse two of one name: a row says which account and connection it is from."""
        seen: dict[tuple[str, str], str] = {}
        for index, account in enumerate(accounts):
            for name in ("account_id", "source_id"):
                key = f"accounts[{index}].{name}"
                if self._is_wrong(key):
                    continue
                first = seen.setdefault((name, getattr(account, name)), key)
                # A source_id that follows the account_id repeats with it: one problem, not two.
                follows = name == "source_id" and key not in self._origins
                if first != key and not follows:
                    self._problem(key, f"is the same as {first}; each account needs its own")
        self._refuse_prefixes(list(accounts))

    def _refuse_prefixes(self, accounts: list[AccountSettings]) -> None:
        for (n, one), (m, other) in permutations(enumerate(accounts), 2):
            is_longer = len(other.source_id) > len(one.source_id)
            if is_longer and keys_may_meet(one.source_id, other.source_id):
                self._problem(
                    f"accounts[{m}].source_id",
                    f"begins with accounts[{n}].source_id; keys join it with an id and nothing"
                    " between, so that theirs could meet",
                )

    def _check_variables(self, accounts: int) -> None:
        referred = set(_references(self._document))
        mine = [name for name in self._environ if name.startswith("OMETRIA_")]
        for name in sorted(mine):
            if accounts > 1 and name in ACCOUNT_VARIABLES and name not in referred:
                self.problems.append(_ambiguous(name, f"{self._path}", accounts))
            elif name not in VARIABLES and name not in referred:
                self._doubt_variable(name)

    def _doubt_variable(self, name: str) -> None:
        """
        Take a near miss for a problem, and warn of anything else.

        Other programs of the shop may have variables of their own that begin alike.
        """
        suffix = name.removeprefix("OMETRIA_")
        suffixes = [known.removeprefix("OMETRIA_") for known in VARIABLES]
        near = difflib.get_close_matches(suffix, suffixes, 1)
        hint = f"; did you mean OMETRIA_{near[0]}?" if near else ""
        if difflib.get_close_matches(suffix, suffixes, 1, cutoff=0.8):
            self.problems.append(f"{name}: is not a setting{hint} Rename it, or unset it.")
        else:
            logger.warning("%s is not a setting and is ignored%s", name, hint)

    def _problem(self, key: str, message: str) -> None:
        self._wrong.add(key)
        self.problems.append(_sentence(f"{self._path or DEFAULT_FILE}: {key}: {message}"))

    def _is_wrong(self, *keys: str) -> bool:
        """Whether a problem with one of *keys* was already told, so that no second one follows."""
        return any(key in self._wrong for key in keys)


def _sentence(text: str) -> str:
    return text if text.endswith("?") else f"{text}."


def _ambiguous(variable: str, path: str, accounts: int) -> str:
    key = ACCOUNT_VARIABLES[variable]
    instead = f'api_key = "env:{variable}"' if key == "api_key" else key
    return (
        f"{variable}: speaks of one account, but {path} has {accounts};"
        f" write {instead} in the account that is meant, and unset the variable"
        " unless one refers to it."
    )


def _from_file(name: str) -> tuple[str, str]:
    """Read a secret from a file, without the line break at its end."""
    try:
        path = Path(name).expanduser()
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_SECRET_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("the file it names does not hold text") from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "no valid file name"
        raise Invalid(f"the file it names cannot be read: {reason}") from None
    if not text.strip():
        raise Invalid("the file it names is empty")
    if os.name == "posix" and stat.S_ISREG(mode) and mode & stat.S_IROTH:
        logger.warning("%s holds a secret and is readable by everyone: chmod 600 it", path)
    return text.removesuffix("\n").removesuffix("\r"), f"file:{path}"


def _references(raw: object) -> Iterator[str]:
    """Find the variables that the file refers to, anywhere in it."""
    if isinstance(raw, str) and raw.startswith("env:"):
        yield raw.removeprefix("env:")
    elif isinstance(raw, dict | list):
        for each in raw.values() if isinstance(raw, dict) else raw:
            yield from _references(each)


def explain(config: Config) -> list[tuple[str, str, str]]:
    """
    Tell each setting's dotted key, shown value and origin, in the order of the page.

    A secret is shown as ``set`` or ``not set``, and a password inside a URL as ``***``.
    """
    return list(_explained(config.warehouse, "warehouse", config.origins)) + [
        line
        for index, account in enumerate(config.accounts)
        for line in _explained(account, f"accounts[{index}]", config.origins)
    ]


def _explained(
    settings: WarehouseSettings | AccountSettings | FeedSettings,
    key: str,
    origins: Mapping[str, str],
) -> Iterator[tuple[str, str, str]]:
    for each in dataclasses.fields(settings):
        value, dotted = getattr(settings, each.name), f"{key}.{each.name}"
        if isinstance(value, FeedSettings):
            yield from _explained(value, dotted, origins)
        else:
            origin = value.origin if isinstance(value, Secret) else origins.get(dotted, DEFAULT)
            left_to_aws = value is None and origin != DEFAULT
            yield dotted, "left to AWS" if left_to_aws else _shown(value), origin


def _shown(value: object) -> str:
    match value:
        case None:
            return "not set"
        case Secret():
            return "set"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(value)
        case _:
            text = masked(str(value))
            return text if text.isprintable() and text else ascii(text)
