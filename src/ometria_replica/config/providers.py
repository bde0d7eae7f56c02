"""
Where the value of a setting comes from: arguments, the environment, a file, or dlt.

A provider finds the raw value of one setting. :class:`Reader` asks providers in order,
follows references such as ``env:NAME``, checks values and collects all problems.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ometria_replica.config.checks import Invalid
from ometria_replica.config.secrets import Secret, holds_token, masked
from ometria_replica.config.setting import Setting, renamed_or_near, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

logger = logging.getLogger(__name__)

COMMAND_LINE: Final = "command line"
MAX_SECRET_BYTES: Final = 64 * 1024  # A key has some 40 characters; `file:/dev/zero` must end.


@dataclass(frozen=True)
class Value:
    """
    A raw value, its *origin*, and the *place* that messages name.

    *is_public*: others can read it there, so it must not hold a secret. *is_literal*: the value
    is never a reference.
    """

    raw: object
    origin: str
    place: str
    is_public: bool = False
    is_literal: bool = False


Provider = Callable[[str, Setting], Value | None]
"""Finds the value of a setting, by its name within its section; None if there is none."""


def command_line(arguments: Mapping[str, object], section: str) -> Provider:
    """Provide the *arguments* of the command line, by the name of the setting."""

    def find(name: str, _: Setting) -> Value | None:
        if arguments.get(name) is None:
            return None
        place = f"{COMMAND_LINE}: {section}.{name}"
        return Value(arguments[name], COMMAND_LINE, place, is_public=True)

    return find


def environment(environ: Mapping[str, str]) -> Provider:
    """Provide each setting that has an environment variable, and that variable is set."""

    def find(_: str, setting: Setting) -> Value | None:
        if not setting.env or setting.env not in environ:
            return None
        return Value(environ[setting.env], f"env:{setting.env}", setting.env)

    return find


def file_table(table: Mapping[str, object], path: Path | None, section: str) -> Provider:
    """Provide the keys of a *table* of the settings file."""

    def find(name: str, _: Setting) -> Value | None:
        if table.get(name) is None:
            return None
        return Value(table[name], str(path), f"{path}: {dotted(section, name)}", is_public=True)

    return find


def dotted(section: str, name: str) -> str:
    """Name a key in a section; in the file itself, where *section* is empty, by its name alone."""
    return f"{section}.{name}" if section else name


class Reader:
    """
    Reads settings from providers, and collects problems instead of stopping at the first.

    *environ* is where ``env:NAME`` is looked up; *file*, if any, is named in messages about
    a section as a whole.
    """

    def __init__(self, environ: Mapping[str, str], file: Path | None = None) -> None:
        self.environ = environ
        self.origins: dict[str, str] = {}
        self.problems: list[str] = []
        self._prefix = f"{file}: " if file else ""
        self._wrong: set[str] = set()

    def values(self, kind: type, section: str, providers: Sequence[Provider]) -> dict[str, Any]:
        """Read the settings of *kind*, without those that have no value or a wrong one."""
        values: dict[str, Any] = {}
        for name, setting in settings_of(kind).items():
            found = (provider(name, setting) for provider in providers)
            value = next((each for each in found if each is not None), None)
            if value is None:
                continue
            key = dotted(section, name)
            try:
                values[name], self.origins[key] = self._checked(setting, value)
            except Invalid as wrong:
                self._wrong.add(key)
                self.problems += [sentence(f"{value.place}: {each}") for each in wrong.args]
        return values

    def refuse_unknown(self, names: Iterable[str], section: str, known: Iterable[str]) -> None:
        """Note a problem for each of *names* that is not *known*."""
        known = tuple(known)
        for name in (each for each in names if each not in known):
            shown = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else ascii(name)
            hint = renamed_or_near(name, known) or f"; known are {', '.join(known)}"
            self.problem(dotted(section, shown), f"is not a setting{hint}")

    def problem(self, key: str, message: str) -> None:
        """Note a problem with a key."""
        self._wrong.add(key)
        self.problems.append(sentence(f"{self._prefix}{key}: {message}"))

    def is_wrong(self, *keys: str) -> bool:
        """Return whether one of *keys* has a problem already, so that no second one follows."""
        return any(key in self._wrong for key in keys)

    def _checked(self, setting: Setting, value: Value) -> tuple[object, str]:
        """Follow a reference and check the value; return it with its origin."""
        if setting.reference == "none":
            is_text = isinstance(value.raw, str) and not value.is_literal
            if is_text and str(value.raw).startswith("env:"):
                raise Invalid("must be the value itself: env: is for secrets and warehouse.url")
            return setting.check(value.raw), value.origin
        if not value.is_literal:
            value = _followed(value, self.environ)
        if setting.reference == "required":
            if value.is_public:
                raise Invalid(
                    "a secret must not be written in the settings, which are often shared;"
                    ' write "env:NAME" for a variable or "file:/path" for a file that holds it'
                )
            return Secret(str(setting.check(value.raw)), value.origin), value.origin
        text = str(setting.check(value.raw))
        hides = setting.reference == "secret"
        if value.is_public and hides and holds_token(text):
            raise Invalid(
                "looks as if it holds a token, which must not be written in the settings;"
                ' write "env:NAME" for a variable or "file:/path" for a file that holds the URL'
            )
        if value.is_public and masked(text) != text:
            raise Invalid(
                "a password must not be written here, where others can read it;"
                ' write "env:NAME" for a variable or "file:/path" for a file that holds the URL'
            )
        return Secret(text, value.origin) if hides else text, value.origin


def sentence(text: str) -> str:
    """End *text* with a full stop, unless it is a question."""
    return text if text.endswith("?") else f"{text}."


def _followed(value: Value, environ: Mapping[str, str]) -> Value:
    """Replace ``env:NAME`` and ``file:/path`` by the value that they name."""
    if isinstance(value.raw, str) and value.raw.startswith("env:"):
        name = value.raw.removeprefix("env:")
        # Messages repeat the name, and must not repeat a key that was pasted by mistake.
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise Invalid("env: must be followed by a variable's name in capitals, digits and _")
        if name not in environ:
            raise Invalid(f"the environment variable {name} is not set")
        value = dataclasses.replace(value, raw=environ[name], origin=f"env:{name}", is_public=False)
    if isinstance(value.raw, str) and value.raw.startswith("file:"):
        text, origin = secret_of_file(value.raw.removeprefix("file:"))
        return dataclasses.replace(value, raw=text, origin=origin, is_public=False)
    if value.origin.startswith("env:") and value.raw == "":
        raise Invalid(f"the environment variable {value.origin.removeprefix('env:')} is empty")
    return value


def secret_of_file(name: str) -> tuple[str, str]:
    """
    Read a secret from a file, without the line break at its end; return it with its origin.

    Raises Invalid for a file that holds no text.
    """
    try:
        path = Path(name).expanduser()
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_SECRET_BYTES).decode("utf-8-sig")
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
