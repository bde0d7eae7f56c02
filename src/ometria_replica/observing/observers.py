"""Opens the observers that the settings switch on, and closes them within a limited time."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from ometria_replica.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ometria_replica.config import Config
    from ometria_replica.observer import Event, Observe

logger = logging.getLogger(__name__)

OBSERVED_BY = ("traces", "lineage")
"""The settings that switch an observer on: each has a module and an extra of its name."""

END_SECONDS = 5.0
"""The longest that the end of a run waits for what is left to be sent."""

STOP_SECONDS = 2.0
"""The same after a signal. Docker kills ten seconds after its SIGTERM."""

_LIBRARIES = ("openlineage", "opentelemetry", "requests", "urllib3")
"""They log each attempt that fails."""


class Observer(Protocol):
    """Receives events, and sends what it makes of them to *place*, which is named by a variable."""

    what: str
    place: str

    def __call__(self, event: Event) -> None:
        """Take an event, without waiting for anything to be sent."""

    def close(self) -> None:
        """Send what is left, however long that takes."""

    @property
    def failed(self) -> bool:
        """Whether something could not be sent."""


@contextmanager
def observing(config: Config) -> Iterator[Observe | None]:
    """
    Open the observers that *config* switches on; None if there are none.

    At the end, wait a few seconds for what is left to be sent. What cannot be sent is a warning
    and no error.

    Raises ConfigError if packages are missing, or the address to send to.
    """
    wanted = [name for name in OBSERVED_BY if getattr(config, name)]
    if not wanted:
        yield None
        return
    observers = _opened(wanted)
    _QUIET.begin()
    seconds = STOP_SECONDS
    try:
        yield lambda event: _tell(observers, event)
        seconds = END_SECONDS
    except Exception:
        seconds = END_SECONDS
        raise
    finally:
        if _close(observers, seconds):  # Else they still try, and would log that they failed.
            _QUIET.end()


def _opened(wanted: Sequence[str]) -> list[Observer]:
    """Open all observers, or raise ConfigError with the problems of all."""
    observers: list[Observer | None] = []
    problems: list[str] = []
    for name in wanted:
        try:
            observers.append(_open(name))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return [each for each in observers if each is not None]


def _open(name: str) -> Observer | None:
    try:
        module = import_module(f"ometria_replica.observing.{name}")
    except ImportError as error:
        if str(error.name).startswith("ometria_replica"):
            raise
        raise ConfigError(
            f"{name}: is set, and needs more packages: pip install 'ometria-replica[{name}]'."
        ) from error
    observer: Observer | None = module.opened()
    return observer


def _tell(observers: Sequence[Observer], event: Event) -> None:
    """Tell all of them, and raise the first error afterwards."""
    failures = []
    for observer in observers:
        try:
            observer(event)
        except Exception as error:  # noqa: BLE001 -- The other observers go on.
            failures.append(error)
    if failures:
        raise failures[0]


def _close(observers: Sequence[Observer], seconds: float) -> bool:
    """Close the observers side by side, and warn of what was not sent. Whether all have ended."""
    until = time.monotonic() + seconds
    # Daemons, so that the program does not wait at its end for an answer that does not come.
    closings = [threading.Thread(target=each.close, daemon=True) for each in observers]
    for closing in closings:
        closing.start()
    for closing, observer in zip(closings, observers, strict=True):
        closing.join(max(0.0, until - time.monotonic()))
        if closing.is_alive() or observer.failed:
            logger.warning(
                "%s of this run could not all be sent to the address in %s (-v shows why). The run"
                " itself went on without them.",
                observer.what,
                observer.place,
            )
    return not any(closing.is_alive() for closing in closings)


class _Quiet:
    """
    Lets the libraries log nothing but with -v while a run is observed: we say once what failed.

    Runs in several threads share the loggers: the last that ends gives them back their levels.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._levels: dict[str, int] = {}

    def begin(self) -> None:
        with self._lock:
            self._runs += 1
            if self._runs == 1:
                self._levels = {name: logging.getLogger(name).level for name in _LIBRARIES}
            if not logging.getLogger().isEnabledFor(logging.INFO):
                for name in self._levels:
                    logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def end(self) -> None:
        with self._lock:
            self._runs -= 1
            if not self._runs:
                for name, level in self._levels.items():
                    logging.getLogger(name).setLevel(level)


_QUIET = _Quiet()
