"""When requests are sent: evenly spaced, across threads and processes."""

from __future__ import annotations

import math
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from ometria_replica.ometria.rate_limit import ROOM, RateLimiter, Stopped
from tests.ometria.listener import KEY, Clock, client_of, json_reply, listening

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://api.ometria.test/v2"


class Watch(Clock):
    """A clock that does not advance: sleeping is only recorded."""

    def sleep(self, seconds: float) -> None:
        """Record it."""
        self.slept.append(seconds)


def limiter_of(
    folder: Path, clock: Clock, rate: float = 4.0, key: str = KEY, boot: str | None = None
) -> RateLimiter:
    return RateLimiter(URL, key, rate, folder, clock=clock, sleep=clock.sleep, boot=boot)


def turns(limiter: RateLimiter, clock: Clock, count: int) -> list[float]:
    """Send *count* requests one after another, and give their times."""
    left = []
    for _ in range(count):
        limiter.wait()
        left.append(clock())
    return left


def gaps(moments: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


def test_turns_are_evenly_spaced_with_a_margin(tmp_path: Path) -> None:
    """Four a second means one each 0.2575 s: a fifth never falls into a sliding second."""
    clock = Clock()
    moments = turns(limiter_of(tmp_path, clock), clock, 9)

    assert gaps(moments) == pytest.approx([ROOM / 4] * 8)
    assert all(fifth - first > 1.0 for first, fifth in zip(moments, moments[4:], strict=False))


def test_at_least_95_percent_of_the_rate_limit_is_used() -> None:
    """The margin for the network costs less than five percent."""
    assert 0.95 <= 1 / ROOM < 1.0


def test_turns_are_assigned_in_advance(tmp_path: Path) -> None:
    """Concurrent requests are sent one interval apart, however slow the answers are."""
    clock = Watch()
    limiter = limiter_of(tmp_path, clock)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: limiter.wait(), range(4)))

    assert sorted(clock.slept) == pytest.approx([ROOM / 4 * turn for turn in (1, 2, 3)])


def test_idle_time_is_not_saved_up(tmp_path: Path) -> None:
    """After a pause, requests are not sent in a burst."""
    clock = Clock()
    limiter = limiter_of(tmp_path, clock)
    limiter.wait()
    clock.seconds += 60

    assert gaps(turns(limiter, clock, 4)) == pytest.approx([ROOM / 4] * 3)


def test_two_limiters_with_the_same_key_share_one_rate(tmp_path: Path) -> None:
    """Two limiters, as in two processes, take turns."""
    clock = Clock()
    one, other = limiter_of(tmp_path, clock), limiter_of(tmp_path, clock)
    moments = [
        moment for _ in range(4) for limiter in (one, other) for moment in turns(limiter, clock, 1)
    ]

    assert gaps(moments) == pytest.approx([ROOM / 4] * 7)


def test_another_key_has_its_own_rate(tmp_path: Path) -> None:
    """Accounts do not slow each other down."""
    clock = Watch()
    limiter_of(tmp_path, clock).wait()
    limiter_of(tmp_path, clock, key="another").wait()

    assert clock.slept == []


def test_a_refusal_delays_all_requests(tmp_path: Path) -> None:
    """After a 429 no request is sent before the hold ends, even if it already had a turn."""
    clock = Clock()
    one, other = limiter_of(tmp_path, clock), limiter_of(tmp_path, clock)
    one.wait()
    start = clock()

    def refuse_once(seconds: float) -> None:
        if not clock.slept:
            one.hold_off(30)
        clock.slept.append(seconds)
        clock.seconds += seconds

    other._sleep = refuse_once
    other.wait()

    assert clock() >= start + 30


def test_the_key_is_in_no_file(tmp_path: Path) -> None:
    """Neither the name nor the content of the shared file reveals the key."""
    limiter_of(tmp_path, Clock()).wait()

    for path in tmp_path.iterdir():
        assert KEY not in path.name
        assert KEY not in path.read_text()


@pytest.mark.parametrize(
    "garbage",
    ["", "{", "[]", '{"next_free": 1}', '{"next_free": "x", "held_until": null}', "\x00\x01",
     '{"next_free": NaN, "held_until": NaN}', '{"next_free": 1e300, "held_until": 0}',
     '{"next_free": 0, "held_until": Infinity}', '{"next_free": -5, "held_until": -5}',
     '{"next_free": NaN, "held_until": 0, "room": 1.03, "written_at": 0, "boot": "one"}',
     '{"next_free": 1e300, "held_until": 0, "room": 1.03, "written_at": 0, "boot": "one"}',
     '{"next_free": 1000, "held_until": 0, "room": 1.03, "written_at": NaN, "boot": "one"}'],
)  # fmt: skip
def test_garbage_in_the_file_is_ignored(garbage: str, tmp_path: Path) -> None:
    """A half-written file, or one from a clock that has jumped, delays no request."""
    clock = Clock()
    limiter = limiter_of(tmp_path, clock, boot="one")
    limiter.wait()
    next(tmp_path.glob("*.json")).write_text(garbage)
    moments = turns(limiter, clock, 3)

    assert all(math.isfinite(moment) for moment in moments)
    assert gaps(moments) == pytest.approx([ROOM / 4] * 2)


def test_a_clock_that_goes_back_delays_no_request_for_long(tmp_path: Path) -> None:
    """After a boot the clock restarts, and the file's turns, far in the future, are void."""
    clock = Clock()
    clock.seconds = 1e6
    limiter = limiter_of(tmp_path, clock)
    turns(limiter, clock, 3)
    clock.seconds = 5.0
    clock.slept.clear()
    turns(limiter, clock, 2)

    assert sum(clock.slept) < 1


@pytest.mark.parametrize(
    ("boots", "up_for"),
    [(("one", "another"), 12.0), (("one", "another"), 900.0), (("", ""), 12.0)],
    ids=["soon", "later than it was written", "where a boot has no name"],
)
def test_the_turns_of_an_earlier_boot_are_ignored(
    boots: tuple[str, str], up_for: float, tmp_path: Path
) -> None:
    """The clock restarts with the machine, so a hold from before it has no meaning."""
    clock = Clock()
    clock.seconds = 500.0
    limiter_of(tmp_path, clock, boot=boots[0]).hold_off(580)
    clock.seconds = up_for
    limiter_of(tmp_path, clock, boot=boots[1]).wait()

    assert clock.slept == []


def test_a_long_hold_applies_to_all_processes_of_its_boot(tmp_path: Path) -> None:
    """A quarter of an hour is longer than any queue, and is valid."""
    clock = Clock()
    limiter_of(tmp_path, clock, boot="one").hold_off(15 * 60)
    start = clock()
    limiter_of(tmp_path, clock, boot="one").wait()

    assert clock() == pytest.approx(start + 15 * 60)


def test_without_a_usable_folder_a_process_keeps_to_the_rate_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the folder cannot be created, the process logs one warning."""
    (tmp_path / "file").write_text("")
    clock = Clock()
    moments = turns(limiter_of(tmp_path / "file", clock), clock, 4)

    assert gaps(moments) == pytest.approx([ROOM / 4] * 3)
    assert len(caplog.records) == 1
    assert "cannot be shared" in caplog.text


def test_a_waiting_request_can_be_cancelled(tmp_path: Path) -> None:
    """A cancelled read wakes its requests; none of them is sent."""
    stop = threading.Event()
    limiter = RateLimiter(URL, KEY, 0.01, tmp_path)
    limiter.wait()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(limiter.wait, stop) for _ in range(2)]
        stop.set()

        assert all(isinstance(each.exception(timeout=10), Stopped) for each in waiting)


def _send(url: str, folder: Path, count: int) -> None:
    clock = Clock()
    with client_of(url, folder, requests_per_second=50.0) as client:
        client._rate_limit = RateLimiter(
            url, KEY, 50.0, folder
        )  # Real time: two processes share no clock.
        for _ in range(count):
            client.get("lists")
    assert clock.slept == []


def test_two_processes_share_one_rate(tmp_path: Path) -> None:
    """The turns of two processes are one interval apart, and none is assigned twice."""
    before = RateLimiter(URL, KEY, 50.0, tmp_path)
    with listening(lambda _: json_reply([])) as server:
        shared = RateLimiter(server.url, KEY, 50.0, tmp_path)
        shared.wait()
        first = shared._take_turn()
        spawn = multiprocessing.get_context("spawn")
        processes = [spawn.Process(target=_send, args=(server.url, tmp_path, 8)) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        last = shared._take_turn()

    assert [process.exitcode for process in processes] == [0, 0]
    assert len(server.asked) == 16
    assert last - first >= before.interval_seconds * 17 * 0.999


def test_each_refusal_widens_the_margin_and_turns_narrow_it(tmp_path: Path) -> None:
    """After ten refusals the margin is 13 %; some thousand turns later it is 3 % again."""
    clock = Clock()
    limiter = limiter_of(tmp_path, clock)
    for _ in range(10):
        limiter.widen()

    first, *_, last = gaps(turns(limiter, clock, 1_100))

    assert first == pytest.approx((ROOM + 0.10) / 4)
    assert last == pytest.approx(ROOM / 4)


def test_the_margin_is_limited_and_shared(tmp_path: Path) -> None:
    """However often one process is refused, another with the same key keeps 87 % of the rate."""
    clock = Clock()
    for _ in range(100):
        limiter_of(tmp_path, clock).widen()

    assert gaps(turns(limiter_of(tmp_path, clock), clock, 2)) == [pytest.approx(1.15 / 4)]


def test_a_cancelled_turn_goes_to_the_next_request(tmp_path: Path) -> None:
    """A cancelled read leaves no gap in the turns, and takes no turn of another."""
    watch = Watch()
    limiter, other = limiter_of(tmp_path, watch), limiter_of(tmp_path, watch)
    taken = [limiter._take_turn() for _ in range(16)]
    for turn in reversed(taken[1:]):
        limiter._return(turn)

    assert other._take_turn() > taken[-1]
    assert [limiter._take_turn() for _ in range(3)] == taken[1:4]

    limiter.hold_off(1.5)
    assert limiter._take_turn() >= watch() + 1.5


def test_a_stopped_request_returns_its_turn(tmp_path: Path) -> None:
    """The next request is sent when the stopped one would have been."""
    watch = Watch()
    limiter = limiter_of(tmp_path, watch)
    stop = threading.Event()
    stop.set()
    limiter.wait()
    for _ in range(5):
        with pytest.raises(Stopped):
            limiter.wait(stop)

    assert limiter._take_turn() == pytest.approx(watch() + ROOM / 4)
