# ruff: noqa: S311  # Seeded randomness is the point; nothing here is a secret.
"""Responses that fail on request, as networks and gateways make them fail."""

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

    ``Fault(status=503)`` responds with that status, and ``retry_after`` and ``body`` as
    given. The other kinds are :meth:`reset`, :meth:`truncate`, :meth:`hang`,
    :meth:`html_200` and :meth:`bad_json`.
    """

    kind: FaultKind = "status"
    status: int = 500
    retry_after: str | None = None
    body: str = "Internal Server Error"
    seconds: float = 0.0

    @classmethod
    def reset(cls) -> Self:
        """Reset the connection without a response."""
        return cls("reset")

    @classmethod
    def truncate(cls) -> Self:
        """Announce the full length, send half of the body, and close the connection."""
        return cls("truncate")

    @classmethod
    def hang(cls, seconds: float) -> Self:
        """Send the correct response after *seconds*."""
        return cls("hang", seconds=seconds)

    @classmethod
    def html_200(cls) -> Self:
        """Respond 200 with an HTML page, as a gateway under maintenance does."""
        return cls("html_200", status=200)

    @classmethod
    def bad_json(cls) -> Self:
        """Respond 200 with incomplete JSON and a matching length."""
        return cls("bad_json", status=200)


@dataclass(slots=True)
class _Rule:
    prefix: str
    fault: Fault
    times: int | None
    probability: float


@dataclass(slots=True)
class Faults:
    """The faults of future requests; the first rule that matches applies."""

    seed: int = 7
    _rules: list[_Rule] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)
    _random: Random = field(init=False)

    def __post_init__(self) -> None:
        """Seed the random numbers."""
        self._random = Random(self.seed)

    def next(self, path_prefix: str, fault: Fault, times: int = 1) -> None:
        """Fail the next *times* requests whose path starts with *path_prefix* (``/v2/…``)."""
        with self._lock:
            self._rules.append(_Rule(path_prefix, fault, times, 1.0))

    def sometimes(self, path_prefix: str, fault: Fault, probability: float) -> None:
        """Fail each such request with *probability*, until :meth:`clear`."""
        with self._lock:
            self._rules.append(_Rule(path_prefix, fault, None, probability))

    def storm(self, requests: int, retry_after: str | None = None) -> None:
        """Respond 429 to the next *requests* requests of any path."""
        self.next(
            "/", Fault(status=429, retry_after=retry_after, body="Too many requests"), requests
        )

    def clear(self) -> None:
        """Remove all faults that have not happened."""
        with self._lock:
            self._rules.clear()

    def take(self, path: str) -> Fault | None:
        """Return the fault for a request to *path* and count it; None if it must not fail."""
        with self._lock:
            for rule in self._rules:
                if path.startswith(rule.prefix) and self._random.random() < rule.probability:
                    if rule.times is not None:
                        rule.times -= 1
                        if rule.times <= 0:
                            self._rules.remove(rule)
                    return rule.fault
        return None
