"""Questions on a terminal, by rich's prompts."""

from __future__ import annotations

import getpass
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.prompt import InvalidResponse, PromptBase
from rich.text import Text
from typing_extensions import override

from ometria_replica.config.providers import sentence
from ometria_replica.errors import ConfigError
from ometria_replica.init.questions import Answer, wrong
from ometria_replica.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ometria_replica.init.prompts import Choice
    from ometria_replica.init.questions import Question

with suppress(ImportError):  # Windows has none.
    import readline  # noqa: F401 -- From then on, a line that is typed can be edited.

_CURSOR = "> "
_STOPPED = (
    "The input ended before the last question. Nothing was written. Without a terminal, use --yes"
    " and the options: ometria-replica init --help."
)
_ECHOES = "This terminal would show what is typed. Give the key by --key-file FILE instead."


class _Prompt(PromptBase[str]):
    """A question on a line, and the answer on the next one, which readline can edit."""

    prompt_suffix = ""

    def __init__(self, text: Text, check: Callable[[str], str], **options: Any) -> None:
        super().__init__(text, **options)
        self._check = check

    @classmethod
    @override
    def get_input(
        cls, console: Console, prompt: Any, password: bool, stream: TextIO | None = None
    ) -> str:
        console.print(prompt)
        try:
            return _hidden() if password else input(_CURSOR)
        except EOFError:
            raise ConfigError(_STOPPED) from None

    @override
    def process_response(self, value: str) -> str:
        return self._check(value.strip())

    @override
    def on_validate_error(self, value: str, error: InvalidResponse) -> None:
        self.console.print(Text(f"{error.message}", "red"))


class Terminal:
    """Asks at the terminal that is the standard input and output."""

    is_attended = True

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)

    def tell(self, text: str) -> None:
        """Show a text."""
        self._console.print(printable(text))

    def ask(self, question: Question, default: str = "") -> str:
        """Ask until the answer is valid; an empty one is the *default*."""
        return self._asked(question.text, question.hint, _check(question), default)

    def ask_secret(self, question: Question) -> str:
        """Ask for a secret of a setting, which is not shown."""
        return self._asked(question.text, question.hint, _check(question), password=True)

    def ask_password(self, text: str) -> str:
        """Ask for a password, which is not shown."""
        return self._asked(text, "", str, password=True)

    def choose(self, text: str, choices: Sequence[Choice], default: str) -> str:
        """Ask for the name of a choice, its number, or the beginning of its name."""
        names = [choice.name for choice in choices]
        wide = max(map(len, names))
        lines = [
            f"  {number}  {choice.name.ljust(wide)}  {choice.about}"
            for number, choice in enumerate(choices, start=1)
        ]

        def check(value: str) -> str:
            found = [name for name in names if value and name.startswith(value.lower())]
            if value.isdecimal() and 0 < int(value) <= len(names):
                return names[int(value) - 1]
            if len(found) == 1:
                return found[0]
            raise InvalidResponse(f"Answer with a number from 1 to {len(names)}.")

        return self._asked(text, "\n".join(lines), check, default)

    def _asked(
        self,
        text: str,
        hint: str,
        check: Callable[[str], str],
        default: str = "",
        *,
        password: bool = False,
    ) -> str:
        prompt = Text.assemble("\n", (printable(text), "bold"))
        if default:
            prompt.append(f" [{printable(default)}]", "cyan")
        if hint:
            prompt.append(f"\n{printable(hint)}", "dim")
        asked = _Prompt(prompt, check, console=self._console, password=password, show_default=False)
        return str(asked(default=default))


def _check(question: Question) -> Callable[[str], str]:
    def check(value: str) -> str:
        if problems := wrong(question, Answer(value, "")):
            raise InvalidResponse("\n".join(sentence(f"This {each}") for each in problems))
        return value

    return check


def _hidden() -> str:
    """Read a line that is not shown; refuse a terminal that would show it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(_CURSOR)
        except getpass.GetPassWarning:
            raise ConfigError(_ECHOES) from None
