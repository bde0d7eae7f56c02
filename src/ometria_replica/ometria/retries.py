"""When a request that failed is tried again, and when it is given up."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ometria_replica.errors import Unavailable, UnexpectedResponse
from ometria_replica.ometria.rate_limit import LONGEST_HOLD_SECONDS
from ometria_replica.ometria.response import utc_minute

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ometria_replica.ometria.response import Setback

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0

# The longest wait that a Retry-After can cause with a status other than 429 (503): further
# attempts then show whether it is an outage.
LONGEST_PAUSE_SECONDS = 120.0

# An unknown host or a closed port is more often a wrong api_url than an outage, unless Ometria
# has answered in this run.
UNREACHABLE_SECONDS = 30.0

# How long a request is tried while no answer has been good since another was given up: several
# lists and tables that fail in an outage do not each take the whole time.
OUTAGE_SECONDS = 30.0

# A body with incomplete JSON may have been cut by a proxy that adjusted its length; three in a
# row were not.
DAMAGED_ANSWERS = 3


@dataclass
class Effort:
    """
    How long one request for *origin* has been tried, with the waits, in seconds.

    The queue before the first attempt and the attempts and waits for 429 do not count: a
    refusal for being too early is no failure of the request or the server. The queue after a
    failure counts, so that a request fails in time however long the others hold it up.
    """

    origin: str
    seconds: float = 0.0
    busy_seconds: float = 0.0
    attempts: int = 0
    damaged: int = 0


class RetryPolicy:
    """
    Decides on the wait before the next attempt of a request to *host*, or raises.

    *first_wait_after_429* is the first wait after a 429, in seconds. *now* is our own time.
    """

    def __init__(
        self,
        host: str,
        give_up_after_seconds: float,
        first_wait_after_429: float,
        *,
        now: Callable[[], datetime],
        seed: int | None = None,
    ) -> None:
        self.give_up_after_seconds = give_up_after_seconds
        self._host = host
        self._is_down = False  # Whether no answer has been good since a request was given up.
        self._first_wait_after_429 = first_wait_after_429
        self._now = now
        self._random = random.Random(seed)  # noqa: S311  # Jitter, no secret.

    def note_good_answer(self) -> None:
        """Note that the host works, so that the next failing request has its whole time."""
        self._is_down = False

    def wait_seconds(self, setback: Setback, effort: Effort, *, heard: bool) -> float:
        """
        Return the wait before the next attempt, in seconds; raise if there is none.

        *heard* says whether the host has answered in this run.
        """
        effort.damaged += setback.damaged
        if effort.damaged >= DAMAGED_ANSWERS:
            raise UnexpectedResponse(
                f"Ometria's answer to {effort.origin} is not JSON, {effort.damaged} times in a"
                f" row: {setback.reason}. Run `ometria-replica check`."
            ) from setback
        seconds = self._longer_wait(setback, effort.attempts)
        if setback.busy:
            self._refuse_to_hold(seconds, effort, setback)
            effort.busy_seconds += seconds
        else:
            self._give_up_in_time(seconds, effort, setback, never_heard=not heard)
        return seconds

    def _longer_wait(self, setback: Setback, attempts: int) -> float:
        """Return the longer of the backoff and Retry-After."""
        backoff = self._backoff_seconds(setback, attempts)
        asked = setback.again_in or 0.0
        return max(backoff, asked if setback.busy else min(asked, LONGEST_PAUSE_SECONDS))

    def _backoff_seconds(self, setback: Setback, attempts: int) -> float:
        """Exponential backoff with 50 to 100 % jitter, so that clients do not retry in step."""
        # One request over the limit: one turn is enough, and all requests wait for it.
        first = self._first_wait_after_429 if setback.busy else FIRST_WAIT_SECONDS
        longest = min(first * 2.0 ** min(attempts - 1, 24), LONGEST_WAIT_SECONDS)
        return longest * self._random.uniform(0.5, 1.0)

    def _refuse_to_hold(self, seconds: float, effort: Effort, setback: Setback) -> None:
        if seconds > LONGEST_HOLD_SECONDS:
            raise Unavailable(
                f"Ometria refuses {effort.origin} until {utc_minute(self._now(), seconds)} (429,"
                f" Retry-After), more than {LONGEST_HOLD_SECONDS / 60:.0f} minutes from now."
                " Run again after that time."
            ) from setback

    def _give_up_in_time(
        self, seconds: float, effort: Effort, setback: Setback, *, never_heard: bool
    ) -> None:
        limit = self.give_up_after_seconds
        wrong_address = setback.unreachable and never_heard
        if wrong_address:
            limit = min(limit, UNREACHABLE_SECONDS)
        if self._is_down:
            limit = min(limit, OUTAGE_SECONDS)
        if effort.seconds + seconds <= limit:
            return
        self._is_down = True
        times = "once" if effort.attempts == 1 else f"{effort.attempts} times"
        raise Unavailable(
            f"{self._host} gave no good answer to {effort.origin}: {setback.reason}; tried"
            f" {times} in {effort.seconds:.0f} seconds. "
            + ("Is api_url right?" if wrong_address else self._when_to_try(setback))
        ) from setback

    def _when_to_try(self, setback: Setback) -> str:
        if setback.again_in is None or setback.again_in <= LONGEST_PAUSE_SECONDS:
            return "Try again later."
        return f"Try again after {utc_minute(self._now(), setback.again_in)} (Retry-After)."
