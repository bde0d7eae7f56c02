"""
The account's request budget, shared by every process on the machine that uses the same key.

Ometria counts the requests of an account, whoever sends them, so two runs side by side
must agree on who goes when. They do so in a small file that holds the next free moment:
each request takes it, moves it on by one interval, and waits until its turn. Turns are
given in advance, so requests that overlap leave evenly spaced, however slow the answers.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

# Ometria says "4 requests per second" and not how it counts. In a sliding second the fifth
# request is refused if it arrives a moment early, and the network shifts arrivals: so leave
# a little room. 3 % costs less than a refusal now and then, and keeps 97 % of the budget.
# Where the network shifts more than that, each refusal widens the room, and each turn
# taken since then narrows it a little: 1 % is given back in 100 turns, 25 seconds.
ROOM = 1.03
WIDER = 0.01
WIDEST_ROOM = 1.15
NARROWER = 0.0001

# The longest that Ometria can make everybody wait at once. Budgets that are counted by the
# hour or by the day may ask for much; beyond this it is asked again all the same.
LONGEST_HOLD_SECONDS = 6 * 3600.0

# A turn further ahead than this was left by a clock that has jumped: it is more than any
# queue of ours plus the longest hold.
FARTHEST_SECONDS = LONGEST_HOLD_SECONDS + 600.0

SLICE_SECONDS = 60.0  # Of a long wait, after each of which somebody may have called it off.

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux; a new one each time it starts.

# The lock is held for less than a millisecond; who waits this long waits for a process
# that was stopped, or for a file system that does not lock.
LOCK_TIMEOUT_SECONDS = 5.0


class Stopped(ReplicaError):  # No failure: the reader asked for no more.
    """The read that wanted this request was abandoned while the request waited."""


@dataclass
class _Turns:
    """
    The moments that are spoken for, on the monotonic clock.

    Python's monotonic clock is system-wide, so processes can compare its readings,
    and it stands above jumps of the wall clock. It starts again at each boot, so turns
    carry *boot*, its name, and *written_at*. *room* is how much wider than the rate
    allows the turns are, as a factor.
    """

    next_free: float = 0.0
    held_until: float = 0.0
    room: float = ROOM
    written_at: float = 0.0
    boot: str = ""


class RateLimiter:
    """
    Says when the next request may leave. Safe to use from many threads.

    *folder* is where the processes of this user meet; None is the user's cache folder.
    Where it can't be used, the processes pace themselves each alone, and one warning says so.
    *sleep*, *clock* (monotonic seconds) and *boot* are there for tests; *boot* names the
    time since the machine was last started, None asks the system for it.
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
        self._given_back: list[float] = []
        self._file = _meeting_point(folder, api_url, api_key)

    def wait(self, stop: threading.Event | None = None) -> None:
        """Return when it is this request's turn. Raises Stopped once *stop* is set."""
        stop = stop or threading.Event()
        turn = self._take_turn()
        while True:
            try:
                rest(turn - self._clock(), stop, self._sleep)
            except Stopped:
                self._give_back(turn)
                raise
            if turn >= self._held_until():
                return
            turn = self._take_turn()  # Somebody was refused since: the turn is void.

    def hold_off(self, seconds: float) -> None:
        """Let no request of this key leave for so long, in whichever process."""
        with self._turns() as turns:
            until = self._clock() + min(seconds, LONGEST_HOLD_SECONDS)
            turns.held_until = max(turns.held_until, until)
            turns.next_free = max(turns.next_free, turns.held_until)

    def widen(self) -> None:
        """Leave more room between requests, for a while: one was refused for coming too soon."""
        with self._turns() as turns:
            turns.room = min(WIDEST_ROOM, turns.room + WIDER)

    def _take_turn(self) -> float:
        with self._turns() as turns:
            earliest = max(self._clock(), turns.held_until)
            self._given_back = sorted(turn for turn in self._given_back if turn >= earliest)
            if self._given_back:
                return self._given_back.pop(0)
            turn = max(self._clock(), turns.next_free)
            turns.next_free = turn + self.interval_seconds * turns.room
            turns.room = max(ROOM, turns.room - NARROWER)
            return turn

    def _give_back(self, turn: float) -> None:
        """Let the next request of this process have a turn that nobody needs any more."""
        with self._turn_lock:
            self._given_back.append(turn)

    def _held_until(self) -> float:
        with self._turns() as turns:
            return turns.held_until

    @contextmanager
    def _turns(self) -> Iterator[_Turns]:
        """Hand out the shared turns to be changed, or this process's own where none are shared."""
        with self._turn_lock:  # Threads queue here; only one at a time asks for the file.
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
        """Lock the file; None, from then on, where that can't be done."""
        if self._file is None:
            return None
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = filelock.FileLock(
                self._file.with_suffix(".lock"), LOCK_TIMEOUT_SECONDS, poll_interval=0.01
            )
            lock.acquire()
        except (OSError, RuntimeError, NotImplementedError) as error:
            self._go_alone(error)
            return None
        return lock

    def _write(self, turns: _Turns) -> None:
        # Not by rename: a crash may leave half a line, which reads as nothing and is no harm,
        # whereas it would leave a stray file for each crash.
        self._alone = turns
        turns.written_at, turns.boot = self._clock(), self._boot
        try:
            if self._file is not None:
                self._file.write_text(json.dumps(asdict(turns)))
        except OSError as error:
            self._go_alone(error)

    def _go_alone(self, error: Exception) -> None:
        self._file = None
        logger.warning(
            "the request budget can't be shared with other processes (%s);"
            " runs side by side with the same key may be refused (429) and retried",
            type(error).__name__,
        )


def rest(
    seconds: float, stop: threading.Event, sleep: Callable[[float], object] | None = None
) -> None:
    """Sleep, but wake when *stop* is set, and raise Stopped then. *sleep* replaces the sleeping."""
    while seconds > 0 and not stop.is_set():
        (sleep or stop.wait)(min(seconds, SLICE_SECONDS))
        seconds -= SLICE_SECONDS
    if stop.is_set():
        raise Stopped("The read was abandoned before this request was sent.")


def _this_boot() -> str:
    """Name this boot, as Linux does; empty where the system doesn't tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _meeting_point(folder: Path | None, api_url: str, api_key: str) -> Path | None:
    try:
        folder = folder or _cache_folder()
    except RuntimeError:  # A user without a home.
        return None
    return folder / f"pace-{_name(api_url, api_key)}.json"


def _cache_folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ometria-replica"


def _name(api_url: str, api_key: str) -> str:
    """Name the budget without telling the key: a keyed hash can't be turned around."""
    key = hashlib.sha256(api_key.encode()).digest()
    return hashlib.blake2b(api_url.rstrip("/").encode(), key=key, digest_size=16).hexdigest()


def _read(file: Path) -> _Turns:
    """Read the turns; a file that is missing, half written or garbage holds none."""
    try:
        stored = json.loads(file.read_text())
        numbers = ("next_free", "held_until", "room", "written_at")
        return _Turns(**{name: float(stored[name]) for name in numbers}, boot=str(stored["boot"]))
    except (OSError, ValueError, TypeError, KeyError):
        return _Turns()


def _sane(turns: _Turns, now: float, boot: str) -> _Turns:
    """
    Forget what no process of this boot can have meant, not-a-number included.

    Where a boot has no name, turns written later than now tell that the clock began anew.
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
