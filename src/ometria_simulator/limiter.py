"""A rate limit with a sliding window."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Limiter:
    """
    At most *requests* in any *seconds*.

    Ometria documents 4 requests per second for the account, without details. A sliding
    window is the strictest interpretation.
    """

    def __init__(
        self,
        requests: float,
        seconds: float = 1.0,
        *,
        count_refused: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start with an unused quota; for less than one request per window, the window grows."""
        self._capacity = max(1, int(requests))
        self._seconds = seconds * self._capacity / requests
        self._count_refused = count_refused
        self._clock = clock
        self._times: deque[float] = deque()
        self._lock = Lock()

    def seconds_to_wait(self) -> float:
        """Count one request and return 0, or return the seconds until one is allowed."""
        with self._lock:
            now = self._clock()
            while self._times and now - self._times[0] >= self._seconds:
                self._times.popleft()
            if len(self._times) < self._capacity:
                self._times.append(now)
                return 0.0
            if self._count_refused:
                self._times.append(now)
                self._times.popleft()
            return self._times[0] + self._seconds - now
