"""What a set-up knows while it asks: answers that were given, the prompts, what was found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ometria_replica.check_report import finding_as_text
from ometria_replica.config import masked
from ometria_replica.errors import ConfigError, ReplicaError
from ometria_replica.init.prompts import Choice
from ometria_replica.init.questions import QUESTIONS, is_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ometria_replica.config import AccountSettings, Config
    from ometria_replica.doctor.findings import Finding
    from ometria_replica.doctor.rights import Right
    from ometria_replica.init.draft import Draft
    from ometria_replica.init.prompts import Prompts
    from ometria_replica.init.questions import Answers, Question

_AFTER_FAILURE = (
    Choice("again", "answer again"),
    Choice("keep", "keep the answer, and go on"),
)


@dataclass(frozen=True)
class Session:
    """
    A set-up under way. *answers* were given before; *tries* says whether answers are tried.

    *path* is the settings file, for messages. *rights* and *warnings* collect what was found.
    """

    answers: Answers
    prompts: Prompts
    environ: Mapping[str, str] = field(repr=False)
    path: Path
    wide_keys: bool | None = None
    tries: bool = True
    rights: list[Right] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def with_variables(self, variables: Mapping[str, str]) -> Session:
        """Know the variables of an environment file too, behind those of the shell."""
        return replace(self, environ={**variables, **self.environ})

    def answer(self, question: Question) -> str | None:
        """Return the answer that was given before; None if there is none."""
        found = self.answers.get(question)
        return found.raw if found else None

    def ask(self, question: Question, default: str = "", *, afresh: bool = False) -> str:
        """Return the answer that was given, unless *afresh*; else ask. Empty means none."""
        found = None if afresh else self.answers.get(question)
        if found is None:
            return self.prompts.ask(question, default)
        if self.prompts.is_attended and not is_reference(question, found.raw):
            self.prompts.tell(f"\n{question.text}: {masked(found.raw)} ({found.origin})")
        return found.raw

    def warn(self, text: str) -> None:
        """Show a warning, and keep it for the end."""
        self.warnings.append(text)
        self.prompts.tell(f"  Warning: {text}")

    def show(self, findings: Iterable[Finding]) -> None:
        """Show what ``check`` finds, and keep its warnings. Raises the first error in it."""
        errors: list[ReplicaError] = []
        for finding in findings:
            if finding.error is not None:
                errors.append(finding.error)
                if len(errors) == 1:  # It is raised, and shown then.
                    continue
            self.prompts.tell(finding_as_text(finding))
            if finding.level == "warn":
                self.warnings.append(" ".join(filter(None, [finding.text, finding.mend])))
        if errors:
            raise errors[0]

    def accepted(self, ask: Callable[[bool], Draft], test: Callable[[Draft], object]) -> Draft:
        """
        Return the draft that *ask* makes of an answer, once *test* raises no error for it.

        After an error, *ask* is told to ask afresh, unless the answer is kept in spite of it.
        """
        afresh = False
        while True:
            tried = ask(afresh)
            try:
                test(tried)
            except ReplicaError as error:
                if self.is_to_be_answered_again(error, tried):
                    afresh = True
                    continue
            return tried

    def is_to_be_answered_again(self, error: ReplicaError, kept: Draft | None = None) -> bool:
        """
        Show a failure, and ask how to go on, if the answer can be *kept* in spite of it.

        Raises *error* if nobody can be asked.
        """
        if not self.prompts.is_attended:
            raise error
        self.prompts.tell(f"  {error}")
        if kept is None or not self._can_be_read(kept):
            return True
        return self.prompts.choose("How to go on?", _AFTER_FAILURE, "again") == "again"

    def _can_be_read(self, draft: Draft) -> bool:
        try:
            self.config(draft)
        except ConfigError:
            return False
        return True

    def config(self, draft: Draft) -> Config:
        """Read the settings of *draft*. Raises ConfigError for those that cannot be used."""
        try:
            return draft.config(self.environ, self.path)
        except ConfigError as error:
            raise ConfigError(self._by_option(each, draft) for each in error.problems) from error

    def _by_option(self, problem: str, draft: Draft) -> str:
        """Name the option of a setting of the new account: no file has that setting yet."""
        account = f"{self.path}: accounts[{len(draft.document()['accounts']) - 1}]."
        for question in QUESTIONS:
            section = "feed." if question.section == "feed" else ""
            rest = problem.removeprefix(f"{account}{section}{question.name}:")
            if question.section != "warehouse" and rest != problem:
                return f"{question.option}:{rest}"
        return problem

    def settings(self, draft: Draft) -> AccountSettings:
        """Read the settings of the account of *draft*."""
        return self.config(draft).accounts[-1]
