"""
The rate limit of an account, shared by all processes on the machine that use the same key.

Ometria counts all requests of an account together, so concurrent runs must take turns. They
share a small file that holds the next free time: each request takes it, moves it on by one
interval, and waits until its turn. Turns are assigned in advance, so concurrent requests are
evenly spaced, however slow the answers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

from ometria_replica.errors import ReplicaError
from ometria_replica.permissions import PRIVATE_FILE, PRIVATE_FOLDER, private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

# Ometria documents "4 requests per second", but not how it counts. In a sliding second the
# fifth request is refused if it arrives a moment early, and the network shifts arrivals, so a
# margin is needed. 3 % costs less than an occasional refusal and keeps 97 % of the rate limit.
# If the network shifts arrivals more than that, each refusal widens the margin, and each turn
# taken since then narrows it: 1 % in 100 turns, 25 seconds.
ROOM = 1.03
WIDER = 0.01
WIDEST_ROOM = 1.15
NARROWER = 0.0001

# The longest wait that one Retry-After can cause. Limits that are counted by the hour or by the
# day may require more: the run then ends, and says until when, rather than hold its lease.
LONGEST_HOLD_SECONDS = 15 * 60.0

# A turn further ahead than this comes from a clock that has jumped: it exceeds any queue of
# ours plus the longest hold.
FARTHEST_SECONDS = LONGEST_HOLD_SECONDS + 600.0

SLICE_SECONDS = 60.0  # Of a long wait. After each slice, the wait checks whether it was cancelled.

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; a new one each time it starts.

# The lock is held for less than a millisecond; a longer wait means that a process was suspended,
# or that the file system does not support locks.
LOCK_TIMEOUT_SECONDS = 5.0


class Stopped(ReplicaError):  # Not a failure: the reader needs no more answers.
    """The read that needed this request was cancelled while the request waited."""


@dataclass
class _Turns:
    """
    The turns that are taken, as times of the monotonic clock.

    Python's monotonic clock is system-wide, so processes can compare its readings, and it
    ignores jumps of the wall clock. It restarts at each boot, so *boot* names the boot and
    *written_at* is the time of writing. *room* is the margin: the factor by which turns are
    wider than the rate allows.
    """

    next_free: float = 0.0
    held_until: float = 0.0
    room: float = ROOM
    written_at: float = 0.0
    boot: str = ""


class RateLimiter:
    """
    Delays each request until its turn. Thread-safe.

    The processes of this user share *folder*; None is the user's cache folder. If it cannot be
    used, each process keeps to the rate alone, and logs one warning.
    *sleep*, *clock* (monotonic seconds) and *boot* are for tests; *boot* names the current
    boot of the machine, None asks the system for it.
    """

    def __init__(
        self,
        api_url: str,
        api_key: str,
        requests_per_second: float,
        folder: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        boot: str | None = None,
    ) -> None:
        self._boot = _this_boot() if boot is None else boot
        self.interval_seconds = 1 / requests_per_second
        self._clock = clock
        self._sleep = sleep
        self._turn_lock = threading.Lock()
        self._alone = _Turns()
        self._returned: list[float] = []
        self._file = _shared_file(folder, api_url, api_key)

    def wait(self, stop: threading.Event | None = None) -> None:
        """Return when it is this request's turn. Raises Stopped once *stop* is set."""
        stop = stop or threading.Event()
        turn = self._take_turn()
        while True:
            try:
                rest(turn - self._clock(), stop, self._sleep)
            except Stopped:
                self._return(turn)
                raise
            if turn >= self._held_until():
                return
            turn = self._take_turn()  # A request was refused since: the turn is void.

    def hold_off(self, seconds: float) -> None:
        """Delay all requests of this key, in all processes, for *seconds*."""
        with self._turns() as turns:
            until = self._clock() + min(seconds, LONGEST_HOLD_SECONDS)
            turns.held_until = max(turns.held_until, until)
            turns.next_free = max(turns.next_free, turns.held_until)

    def widen(self) -> None:
        """Widen the margin between requests for a while, after one was refused as too early."""
        with self._turns() as turns:
            turns.room = min(WIDEST_ROOM, turns.room + WIDER)

    def _take_turn(self) -> float:
        with self._turns() as turns:
            earliest = max(self._clock(), turns.held_until)
            self._returned = sorted(turn for turn in self._returned if turn >= earliest)
            if self._returned:
                return self._returned.pop(0)
            turn = max(self._clock(), turns.next_free)
            turns.next_free = turn + self.interval_seconds * turns.room
            turns.room = max(ROOM, turns.room - NARROWER)
            return turn

    def _return(self, turn: float) -> None:
        """Return a turn that is not used, for the next request of this process."""
        with self._turn_lock:
            self._returned.append(turn)

    def _held_until(self) -> float:
        with self._turns() as turns:
            return turns.held_until

    @contextmanager
    def _turns(self) -> Iterator[_Turns]:
        """Lock the shared turns for a change; without a shared file, this process's own."""
        with self._turn_lock:  # Threads queue here; only one at a time locks the file.
            lock = self._locked()
            if self._file is None or lock is None:
                yield self._alone
                return
            try:
                turns = _sane(_read(self._file), self._clock(), self._boot)
                yield turns
                self._write(turns)
            finally:
                lock.release()

    def _locked(self) -> filelock.BaseFileLock | None:
        """Lock the file; None, also in all later calls, if that is impossible."""
        if self._file is None:
            return None
        try:
            self._file.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
            lock = filelock.FileLock(
                self._file.with_suffix(".lock"),
                LOCK_TIMEOUT_SECONDS,
                mode=PRIVATE_FILE,
                poll_interval=0.01,
            )
            lock.acquire()
        except (OSError, RuntimeError, NotImplementedError) as error:
            self._go_alone(error)
            return None
        return lock

    def _write(self, turns: _Turns) -> None:
        # Not by rename, which would leave a stray file for each crash. Half a written line is
        # harmless: it is ignored.
        self._alone = turns
        turns.written_at, turns.boot = self._clock(), self._boot
        try:
            if self._file is not None:
                with open(self._file, "w", encoding="utf-8", opener=private) as file:
                    file.write(json.dumps(asdict(turns)))
        except OSError as error:
            self._go_alone(error)

    def _go_alone(self, error: Exception) -> None:
        self._file = None
        logger.warning(
            "the rate limit cannot be shared with other processes (%s);"
            " concurrent runs with the same key may be refused (429) and retried",
            type(error).__name__,
        )


def rest(
    seconds: float, stop: threading.Event, sleep: Callable[[float], object] | None = None
) -> None:
    """Sleep. Raises Stopped as soon as *stop* is set. *sleep* is for tests."""
    while seconds > 0 and not stop.is_set():
        (sleep or stop.wait)(min(seconds, SLICE_SECONDS))
        seconds -= SLICE_SECONDS
    if stop.is_set():
        raise Stopped("The read was cancelled before this request was sent.")


def _this_boot() -> str:
    """Give Linux's name of this boot; empty if the system has none."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _shared_file(folder: Path | None, api_url: str, api_key: str) -> Path | None:
    try:
        folder = folder or cache_folder()
    except RuntimeError:  # A user without a home.
        return None
    return folder / f"pace-{_name(api_url, api_key)}.json"


def cache_folder() -> Path:
    """Return the folder of the user's cache. Raises RuntimeError for a user without a home."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ometria-replica"


def _name(api_url: str, api_key: str) -> str:
    """Name the rate limit without revealing the key: a keyed hash cannot be reversed."""
    key = hashlib.sha256(api_key.encode()).digest()
    return hashlib.blake2b(api_url.rstrip("/").encode(), key=key, digest_size=16).hexdigest()


def _read(file: Path) -> _Turns:
    """Read the turns; a file that is missing, half written or invalid holds none."""
    try:
        stored = json.loads(file.read_text())
        numbers = ("next_free", "held_until", "room", "written_at")
        return _Turns(**{name: float(stored[name]) for name in numbers}, boot=str(stored["boot"]))
    except (OSError, ValueError, TypeError, KeyError):
        return _Turns()


def _sane(turns: _Turns, now: float, boot: str) -> _Turns:
    """
    Discard turns that no process of this boot can have written, also if they are not numbers.

    If a boot has no name, turns that were written later than now show that the clock restarted.
    """
    latest = now + FARTHEST_SECONDS
    if (
        turns.boot == boot
        and turns.written_at <= now
        and turns.next_free <= latest
        and turns.held_until <= latest
        and ROOM <= turns.room <= WIDEST_ROOM
    ):
        return turns
    return _Turns()
