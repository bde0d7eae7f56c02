"""
dlt, isolated: it reads only our settings and sends no telemetry.

dlt keeps its context, its settings and its logger in globals of the process. They are swapped
while dlt works for us and restored afterwards, so that a program that uses dlt itself notices
nothing. Written for dlt 1.31; ``tests/warehouses/test_dlt.py`` fails on a dlt that differs.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dlt.common import logger as dlt_logger
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers.dictionary import DictionaryProvider
from dlt.common.configuration.specs.config_providers_context import ConfigProvidersContainer
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
from dlt.common.runtime import signals as dlt_signals
from dlt.common.runtime.run_context import RunContext
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SETTINGS: Mapping[str, Any] = {
    "dlthub_telemetry": False,
    "runtime": {"dlthub_telemetry": False, "log_level": "CRITICAL"},
    "restore_from_destination": False,
    "pipeline": {"restore_from_destination": False},
    "load": {"truncate_staging_dataset": True, "raise_on_max_retries": 5, "workers": 4},
    "data_writer": {"disable_compression": True},
}


class _OurSettings(DictionaryProvider):
    def __init__(self) -> None:
        super().__init__()
        self._config_doc = dict(_SETTINGS)


class IsolatedContext(RunContext):
    """A run context of dlt with our settings and no others. dlt's files go to *folder*."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = str(folder)
        self._depth = 0

    @property
    @override
    def global_dir(self) -> str:
        return self._folder

    @property
    @override
    def run_dir(self) -> str:
        return self._folder

    @property
    @override
    def local_dir(self) -> str:
        return self._folder

    @property
    @override
    def data_dir(self) -> str:
        return self._folder

    @override
    def initial_providers(self) -> list[Any]:
        return [_OurSettings()]

    @override
    def initialize_runtime(self, runtime_config: RuntimeConfiguration | None = None) -> None:
        config = runtime_config or RuntimeConfiguration()
        config.dlthub_telemetry = False
        config.__is_resolved__ = True
        self._runtime_config = config

    @property
    def is_entered_again(self) -> bool:
        """Whether one call of dlt is within another."""
        return self._depth > 1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Use this context in the block, in place of the process's own, and without a log."""
        if self._depth:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
            return
        container = Container()
        if PluggableRunContext not in container:
            container[PluggableRunContext] = PluggableRunContext(self)
        plugged = container[PluggableRunContext]
        kept = plugged.context, plugged.providers, dlt_logger.LOGGER
        intercepted = dlt_signals.intercepted_signals
        plugged.context, plugged.providers = (
            self,
            ConfigProvidersContainer(self.initial_providers()),
        )
        dlt_logger.LOGGER = None  # type: ignore[assignment]  # As before dlt creates it.
        # dlt would wait for running jobs, and forget the signal if they succeed.
        dlt_signals.intercepted_signals = nullcontext  # type: ignore[assignment]
        self._depth = 1
        try:
            yield
        finally:
            self._depth = 0
            plugged.context, plugged.providers, dlt_logger.LOGGER = kept
            dlt_signals.intercepted_signals = intercepted
