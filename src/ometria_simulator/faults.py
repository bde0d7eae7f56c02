# ruff: noqa: S311  # Seeded randomness is the point; nothing here is a secret.
"""Answers that go wrong on request: what networks and gateways do to a reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from threading import Lock
from typing import Literal, Self

FaultKind = Literal["status", "reset", "truncate", "hang", "html_200", "bad_json"]


@dataclass(frozen=True, slots=True)
class Fault:
    """
    One way for a request to fail.

    ``Fault(status=503)`` answers with a status, ``retry_after`` and ``body`` as
    given. The others: :meth:`reset`, :meth:`truncate`, :meth:`hang`,
    :meth:`html_200`, :meth:`bad_json`.
    """

    kind: FaultKind = "status"
    status: int = 500
    retry_after: str | None = None
    body: str = "Internal Server Error"
    seconds: float = 0.0

    @classmethod
    def reset(cls) -> Self:
        """Reset the connection instead of answering."""
        return cls("reset")

    @classmethod
    def truncate(cls) -> Self:
        """Promise the whole answer, send half of it, close."""
        return cls("truncate")

    @classmethod
    def hang(cls, seconds: float) -> Self:
        """Answer rightly, but only after *seconds*."""
        return cls("hang", seconds=seconds)

    @classmethod
    def html_200(cls) -> Self:
        """Answer 200 with a page for people, as gateways under maintenance do."""
        return cls("html_200", status=200)

    @classmethod
    def bad_json(cls) -> Self:
        """Answer 200 with JSON that breaks off, its length rightly announced."""
        return cls("bad_json", status=200)


@dataclass(slots=True)
class _Rule:
    prefix: str
    fault: Fault
    times: int | None
    probability: float


@dataclass(slots=True)
class Faults:
    """The faults to come; rules are tried in the order they were made."""

    seed: int = 7
    _rules: list[_Rule] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        """Start the dice from the seed."""
        self._random = Random(self.seed)

    def next(self, path_prefix: str, fault: Fault, times: int = 1) -> None:
        """Let the next *times* requests whose path (``/v2/…``) starts so fail."""
        with self._lock:
            self._rules.append(_Rule(path_prefix, fault, times, 1.0))

    def sometimes(self, path_prefix: str, fault: Fault, probability: float) -> None:
        """Let each such request fail with *probability*, until :meth:`clear`."""
        with self._lock:
            self._rules.append(_Rule(path_prefix, fault, None, probability))

    def storm(self, requests: int, retry_after: str | None = None) -> None:
        """Answer the next *requests* requests of any path with 429."""
        self.next(
            "/", Fault(status=429, retry_after=retry_after, body="Too many requests"), requests
        )

    def clear(self) -> None:
        """Forget all faults that have not happened."""
        with self._lock:
            self._rules.clear()

    def take(self, path: str) -> Fault | None:
        """Give the fault for a request to *path* and use it up; None is a healthy answer."""
        with self._lock:
            for rule in self._rules:
                if path.startswith(rule.prefix) and self._random.random() < rule.probability:
                    if rule.times is not None:
                        rule.times -= 1
                        if rule.times <= 0:
                            self._rules.remove(rule)
                    return rule.fault
        return None
