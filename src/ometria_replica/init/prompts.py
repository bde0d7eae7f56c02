"""Where answers come from: a person at a terminal, or defaults where there is nobody to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_replica.init.questions import Question


@dataclass(frozen=True)
class Choice:
    """One of several answers: its *name*, and a sentence *about* it."""

    name: str
    about: str


class Prompts(Protocol):
    """Asks questions."""

    @property
    def is_attended(self) -> bool:
        """Whether a person answers."""

    def tell(self, text: str) -> None:
        """Show a text."""

    def ask(self, question: Question, default: str = "") -> str:
        """Ask for the value of a setting, until it is valid; empty if it is left empty."""

    def ask_secret(self, question: Question) -> str:
        """Ask for a secret, which is not shown; empty if it is left empty."""

    def ask_password(self, text: str) -> str:
        """Ask for a password of any form, which is not shown; empty if it is left empty."""

    def choose(self, text: str, choices: Sequence[Choice], default: str) -> str:
        """Ask for one of *choices*; return its name."""


@dataclass(frozen=True)
class Unattended:
    """Gives the default answers. *say* shows what is told."""

    say: Callable[[str], None]
    is_attended: bool = False

    def tell(self, text: str) -> None:
        """Show a text."""
        self.say(text)

    def ask(self, question: Question, default: str = "") -> str:  # noqa: ARG002 -- Not asked.
        """Return the default."""
        return default

    def ask_secret(self, question: Question) -> str:  # noqa: ARG002 -- Not asked.
        """Return none."""
        return ""

    def ask_password(self, text: str) -> str:  # noqa: ARG002 -- Not asked.
        """Return none."""
        return ""

    def choose(self, text: str, choices: Sequence[Choice], default: str) -> str:  # noqa: ARG002 -- Not asked.
        """Return the default."""
        return default
