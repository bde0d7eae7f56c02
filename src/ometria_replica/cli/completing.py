"""
The completion of words in a shell: names of tables and accounts, formats, days.

Typer's scripts ask the program at each press of Tab. Nothing is contacted, no secret is read, and
whatever is wrong with the settings, the answer is only shorter.
"""

from __future__ import annotations

import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

VARIABLE: Final = "_OMETRIA_REPLICA_COMPLETE"
"""The variable with which a script asks for words, as Typer calls it."""

PROGRAM: Final = "ometria-replica"

_PLAIN = re.compile(r"[A-Za-z0-9_.@+-]+")
"""A word that no shell reads otherwise than as itself."""


def answer_shells() -> None:
    """Make Typer answer a shell that asks for words: it does so only for apps with its options."""
    if VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # Since 2020.

        completion_init()
        for name, none in (("COMP_WORDS", ""), ("COMP_CWORD", "0")):  # Typer fails without.
            os.environ.setdefault(name, none)
        _join_options()


def _join_options() -> None:
    """Take out the ``=`` of ``--account=uk``, which Bash makes a word of its own."""
    words, number = re.subn(r"(--[a-z-]+) = ", r"\1 ", os.environ.get("COMP_WORDS", ""))
    if number:
        os.environ["COMP_WORDS"] = words
        os.environ["COMP_CWORD"] = str(int(os.environ["COMP_CWORD"]) - number)


def script_for(shell: str) -> str:
    """Return Typer's script for *shell*: ``bash``, ``zsh`` or ``fish``."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # Since 2020.

    return get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=shell)


def words(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Complete one of the words that are *known* beforehand."""
    fixed = tuple(known)

    def complete(incomplete: str) -> list[str]:
        return _beginning(fixed, incomplete)

    return complete


def tables(ctx: Any, incomplete: str) -> list[str]:
    """Complete the name of a table that the command line does not have yet."""
    from ometria_replica.catalog import CATALOG

    named = ctx.params.get("tables") or ctx.params.get("names") or ()
    return _beginning((name for name in CATALOG.every.names if name not in named), incomplete)


def planned(ctx: Any, incomplete: str) -> list[str]:
    """Complete the first word of ``plan``, or the name of a table."""
    named = ctx.params.get("names") or ()
    commands = () if named else ("sync", "backfill")
    return [*_beginning(commands, incomplete), *tables(ctx, incomplete)]


def warehouses(incomplete: str) -> list[str]:
    """Complete the name of a warehouse that has SQL."""
    from ometria_replica.ddl import warehouses

    return _beginning(warehouses(), incomplete)


def accounts(ctx: Any, incomplete: str) -> list[str]:
    """Complete the ``source_id`` or the ``account_id`` of an account in the settings file."""
    chosen = ctx.params.get("config") or os.environ.get("OMETRIA_CONFIG") or "ometria.toml"
    named = ctx.params.get("account") or ()
    names = dict.fromkeys((*_accounts_in(Path(chosen)), *_accounts_of_environment()))
    return _beginning((name for name in names if name not in named), incomplete)


def _accounts_in(file: Path) -> Iterator[str]:
    """Find names in a settings file, also if other settings in it are wrong."""
    document: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    found = document.get("accounts")
    for account in found if isinstance(found, list) else ():
        for name in ("source_id", "account_id"):
            value = account.get(name) if isinstance(account, dict) else None
            if isinstance(value, str):  # A reference, such as env:NAME, has a colon: not plain.
                yield value


def _accounts_of_environment() -> Iterator[str]:
    for name in ("OMETRIA_SOURCE_ID", "OMETRIA_ACCOUNT_ID"):
        if value := os.environ.get(name):
            yield value


def _beginning(known: Iterable[str], incomplete: str) -> list[str]:
    """Keep the words that begin with *incomplete*, and that a shell reads as they are."""
    return [word for word in known if word.startswith(incomplete) and _PLAIN.fullmatch(word)]
