"""Threads that read, and the one thread that does what they ask for."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ometria_replica import reading_threads
from ometria_replica.batch import BatchSize
from ometria_replica.batching import MOST_AHEAD, ReadAhead, page_batches
from ometria_replica.log_context import LogContext, log_context, logging_for
from ometria_replica.reading_threads import OneThread, ReadingThreads, Threads
from ometria_replica.records import Page
from ometria_replica.stopping import Cancelled
from tests.incremental.shops import NOON

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUND = 20.0


@given(st.integers(1, 4), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_all_calls_are_done_by_one_thread_in_the_order_of_each_job(
    most: int, calls: Sequence[int]
) -> None:
    """However many threads ask; what is only told comes in its turn too."""
    done: list[tuple[int, int]] = []
    where = set()

    def note(job: int, number: int) -> None:
        where.add(threading.get_ident())
        done.append((job, number))

    def work(threads: Threads, job: int) -> None:
        for number in range(calls[job]):
            ask = threads.tell if number % 2 else threads.call
            ask(partial(note, job, number))

    threads = ReadingThreads(most)
    threads.work(partial(work, threads, job) for job in range(len(calls)))

    assert where <= {threading.get_ident()}
    assert len(done) == sum(calls)
    for job in range(len(calls)):
        assert [number for each, number in done if each == job] == list(range(calls[job]))


def test_a_call_returns_its_result_or_its_error_to_the_thread_that_asked() -> None:
    """The error of a call is no end of the run: the thread may go on."""
    found: list[object] = []

    def work() -> None:
        found.append(threads.call(lambda: 1 + 1))
        with pytest.raises(ZeroDivisionError):
            threads.call(lambda: 1 / 0)
        found.append("goes on")

    threads = ReadingThreads(2)
    threads.work([work])

    assert found == [2, "goes on"]


def test_a_call_logs_under_the_name_of_the_thread_that_asked() -> None:
    """Also the threads that it has started."""
    names: list[tuple[str, str | None]] = []

    def work(name: str) -> None:
        with logging_for(account=name):
            threads.call(lambda: names.append(("called", log_context().account)))
            threads.beside(lambda: None, lambda: names.append(("beside", log_context().account)))

    threads = ReadingThreads(2)
    threads.work([partial(work, "uk"), partial(work, "us")])

    assert sorted(names) == sorted(
        (where, name) for where in ("beside", "called") for name in ("uk", "us")
    )
    assert log_context() == LogContext()


@pytest.mark.parametrize("place", ["a job", "beside it", "a call"])
def test_what_ends_the_run_ends_all_threads(place: str) -> None:
    """Those that wait for a call are woken, those that read are asked to stop, within seconds."""
    begun, stopped, cancelled = threading.Event(), threading.Event(), threading.Event()

    def end() -> None:
        raise KeyboardInterrupt

    def ends() -> None:
        assert begun.wait(BOUND)
        if place == "a job":
            end()
        elif place == "beside it":
            threads.beside(stopped.wait, end)
        threads.call(end)

    def reads() -> None:
        with threads.stopping(stopped.set):
            begun.set()
            stopped.wait(BOUND)
        try:
            threads.call(lambda: None)
        except Cancelled:
            cancelled.set()
            raise

    threads = ReadingThreads(2)
    with pytest.raises(KeyboardInterrupt):
        threads.work([reads, ends])

    assert stopped.is_set()
    assert cancelled.wait(BOUND)


def test_a_thread_that_does_not_stop_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for an answer that does not come, and can do no more harm."""
    monkeypatch.setattr(reading_threads, "STOP_SECONDS", 0.1)
    answer = threading.Event()

    def ends() -> None:
        raise KeyboardInterrupt

    threads = ReadingThreads(2)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        threads.work([partial(answer.wait, BOUND), ends])

    assert time.monotonic() - began < BOUND / 2
    answer.set()


def test_one_thread_does_one_job_after_the_other() -> None:
    """As a run of one account does."""
    done: list[str] = []
    threads = OneThread()

    threads.work(
        [
            lambda: threads.beside(lambda: done.append("api"), lambda: done.append("feed")),
            lambda: threads.call(lambda: done.append("second")),
        ]
    )

    assert done == ["api", "feed", "second"]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 9), st.randoms())
def test_all_tables_together_hold_at_most_so_many_records(
    pages: Sequence[int], size: int, random: object
) -> None:
    """Four batches and a page of each, whatever the order; a table alone fills its batches."""
    most = BatchSize(records=size)
    ahead = ReadAhead(most)
    page = Page([{}, {}], NOON, "GET /profiles")
    reads = [page_batches([page] * number, most, ahead) for number in pages]
    held = [0] * len(reads)
    left, loaded = list(range(len(reads))), 0
    while left:
        place = random.choice(left)  # type: ignore[attr-defined]
        loaded += held[place]
        batch = next(reads[place], None)
        if batch is None:
            left.remove(place)
        held[place] = 2 * len(batch[0]) if batch else 0
        assert sum(held) <= MOST_AHEAD * size + 2 * len(reads) + 1
        if len(reads) == 1 and batch and not batch[1]:
            assert held[place] in {size, size + 1}

    assert loaded == 2 * sum(pages)
    assert not ahead.records.is_full
