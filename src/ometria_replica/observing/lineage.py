"""
Events of a run for OpenLineage: of the run itself, and of each table as a job below it.

Each begins with START, and ends with COMPLETE, FAIL, or ABORT after a signal. The events of a table
name its source and the table in the warehouse, with its columns; the last one counts the rows.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import (
    InputDataset,
    Job,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
)
from openlineage.client.facet_v2 import (
    datasource_dataset,
    documentation_dataset,
    documentation_job,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    tags_run,
)
from openlineage.client.uuid import generate_static_uuid

from ometria_replica.comments import comments
from ometria_replica.errors import ConfigError
from ometria_replica.observer import Ending, RunEnded, RunStarted, TableEnded, TableStarted
from ometria_replica.observing.datasets import source_name, table_name
from ometria_replica.observing.texts import shown
from ometria_replica.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from ometria_replica.config import AccountSettings
    from ometria_replica.observer import Event, Place
    from ometria_replica.report import TableReport
    from ometria_replica.schema import Table

logger = logging.getLogger(__name__)

PRODUCER = f"pkg:pypi/ometria-replica@{__version__}"
"""A package URL: the specification asks for a URI."""
NAMESPACE = "ometria-replica"
"""Of the jobs, unless ``OPENLINEAGE_NAMESPACE`` names another."""

MOST_WAITING = 1_000
"""Events that wait to be sent, at 20 kB each; more are dropped."""

_STATES = {
    "succeeded": RunState.COMPLETE,
    "failed": RunState.FAIL,
    "stopped": RunState.ABORT,
}


def opened() -> Lineage | None:
    """
    Make the observer that OpenLineage's own settings describe; None if they switch it off.

    Raises ConfigError if they name no address.
    """
    before = set(os.environ)
    try:
        client = OpenLineageClient(config={"facets": _FACETS})
        kind = (client.config.transport or {}).get("type") or os.environ.get("OPENLINEAGE_URL")
    except Exception as error:  # Its message may quote an address, or a key.
        raise ConfigError(
            f"lineage: OpenLineage's client refuses its settings ({type(error).__name__}). Check"
            " OPENLINEAGE_URL, the other variables of that kind, and openlineage.yml."
        ) from error
    finally:
        for name in set(os.environ) - before:  # The client notes its settings, and a key, there.
            del os.environ[name]
    if client.transport.kind == "noop":
        return None
    if not kind:
        raise ConfigError(
            "lineage: is set, and OPENLINEAGE_URL is not. Set it to the address of your lineage"
            " service, such as http://localhost:5000, or write an openlineage.yml."
        )
    return Lineage(Sender(client.emit))


_FACETS = {"source_code_location": {"disabled": True}}
"""Without it, the client would send the address of the git repository around the current folder."""


class Lineage:
    """Makes OpenLineage's events of those of a run, and sends them in a thread of its own."""

    what = "OpenLineage events"
    place = "OPENLINEAGE_URL"

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._started: RunStarted | None = None
        self._open: dict[Place, TableStarted] = {}

    def __call__(self, event: Event) -> None:
        """Send an event of a run that writes: a dry run leaves every table as it is."""
        if isinstance(event, RunStarted) and not event.dry_run:
            self._started = event
        started = self._started
        if started is None:
            return
        jobs = _Jobs(started)
        match event:
            case RunStarted():
                self._sender.send(jobs.of_run(RunState.START, event.began_at))
            case TableStarted():
                self._open[event.place] = event
                self._sender.send(jobs.of_table(event.place, RunState.START, event.began_at))
            case TableEnded():
                if self._open.pop(event.place, None) is not None:
                    self._sender.send(_ended_table(jobs, event))
            case RunEnded():
                self._end(jobs, event)

    def close(self) -> None:
        """Send what is left."""
        self._sender.close()

    @property
    def failed(self) -> bool:
        """Whether events could not be sent."""
        return self._sender.failed

    def _end(self, jobs: _Jobs, event: RunEnded) -> None:
        """End the run, and before it the tables of threads that a signal has cut off."""
        at = event.began_at + event.seconds
        for place in list(self._open):
            del self._open[place]
            self._sender.send(jobs.of_table(place, RunState.ABORT, at))
        state = _STATES[event.ending.ended]
        self._sender.send(jobs.of_run(state, at, event.ending))


class Sender:
    """Sends events in their order, in a thread: *emit* waits for the answer to each."""

    def __init__(self, emit: Callable[[RunEvent], object]) -> None:
        self.failed = False
        self._emit = emit
        self._waiting: queue.Queue[RunEvent | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="lineage", daemon=True)
        self._thread.start()

    def send(self, event: RunEvent) -> None:
        """Send *event* in its turn; drop it if too many wait."""
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            self.failed = True

    def close(self) -> None:
        """Wait until all are sent, or have failed."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._emit(event)
            except Exception as error:  # noqa: BLE001 -- Of any transport that the user has chosen.
                self.failed = True
                logger.info("an OpenLineage event could not be sent: %s", type(error).__name__)


@dataclass(frozen=True)
class _Jobs:
    """The jobs of a run, and their events."""

    started: RunStarted

    def of_run(self, state: RunState, at: float, ending: Ending | None = None) -> RunEvent:
        """Make an event of the run itself."""
        facets = self._run_facets(ending)
        if (parent := _parent_of_environment()) is not None:
            facets["parent"] = parent
        what = "Replicate Ometria into the warehouse"
        return _event(state, at, Run(self._run_id(), facets), self._job("sync", what, "RUN"))

    def of_table(
        self,
        place: Place,
        state: RunState,
        at: float,
        ending: Ending | None = None,
        report: TableReport | None = None,
    ) -> RunEvent:
        """Make an event of a table, below the run; with its *report* once it has ended."""
        account, table = self._table(place)
        facets = self._run_facets(ending)
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(self._run_id()),
            job=parent_run.Job(_namespace(), "sync"),
            producer=PRODUCER,
        )
        name = f"sync.{place.source_id}.{place.table}"
        job = self._job(name, f"Replicate {place.table} of {place.source_id}", "TABLE")
        event = _event(state, at, Run(self._run_id(place), facets), job)
        if table is not None:
            source = source_name(account, table, self.started.catalog)
            target = table_name(self.started.config.warehouse.url, table)
            event.inputs = [_input(source.namespace, source.name, report)]
            event.outputs = [_output(target.namespace, target.name, table, report)]
        return event

    def _table(self, place: Place) -> tuple[AccountSettings, Table | None]:
        """Find the account and the table, as its settings want it."""
        accounts = self.started.config.accounts
        account = next(each for each in accounts if each.source_id == place.source_id)
        tables = self.started.catalog.for_account(account)
        return account, next((each for each in tables if each.name == place.table), None)

    def _run_id(self, place: Place | None = None) -> str:
        """Make the UUID of the run, or of a table in it: always the same, in the order of time."""
        instant = datetime.fromtimestamp(self.started.began_at, UTC)
        parts = [self.started.run_id, *(place or ())]
        return str(generate_static_uuid(instant, "\n".join(parts).encode()))

    def _run_facets(self, ending: Ending | None) -> dict[str, Any]:
        facets: dict[str, Any] = {
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
                version=__version__, name="ometria-replica", producer=PRODUCER
            ),
            "tags": tags_run.TagsRunFacet(
                [tags_run.TagsRunFacetFields("run_id", self.started.run_id, "OMETRIA_REPLICA")],
                producer=PRODUCER,
            ),
        }
        if ending and ending.ended == "failed" and ending.reason:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                shown(ending.reason), "Python", producer=PRODUCER
            )
        return facets

    def _job(self, name: str, what: str, kind: str) -> Job:
        return Job(
            _namespace(),
            name,
            {
                "jobType": job_type_job.JobTypeJobFacet(
                    processingType="BATCH",
                    integration="OMETRIA_REPLICA",
                    jobType=kind,
                    producer=PRODUCER,
                ),
                "documentation": documentation_job.DocumentationJobFacet(
                    f"{what}.", producer=PRODUCER
                ),
            },
        )


def _ended_table(jobs: _Jobs, event: TableEnded) -> RunEvent:
    at, state = event.began_at + event.seconds, _STATES[event.ending.ended]
    return jobs.of_table(event.place, state, at, event.ending, event.report)


def _event(state: RunState, at: float, run: Run, job: Job) -> RunEvent:
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
    return RunEvent(eventTime=moment, eventType=state, run=run, job=job, producer=PRODUCER)


def _input(namespace: str, name: str, report: TableReport | None) -> InputDataset:
    facets: dict[str, Any] = {"dataSource": _data_source(namespace)}
    counts: dict[str, Any] = {}
    if report is not None:
        counts["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
            rowCount=report.records,
            fileCount=report.files or None,
            producer=PRODUCER,
        )
    return InputDataset(namespace, name, facets=facets, inputFacets=counts)


def _output(namespace: str, name: str, table: Table, report: TableReport | None) -> OutputDataset:
    said = comments(table)
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            column.name, column.type, said.get(column.name), place
        )
        for place, column in enumerate(table.all_columns, 1)
    ]
    facets: dict[str, Any] = {
        "dataSource": _data_source(namespace),
        "schema": schema_dataset.SchemaDatasetFacet(fields, producer=PRODUCER),
    }
    if "" in said:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(
            said[""], producer=PRODUCER
        )
    counts: dict[str, Any] = {}
    if report is not None:
        counts["outputStatistics"] = (
            output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=report.inserted + report.updated, producer=PRODUCER
            )
        )
    return OutputDataset(namespace, name, facets=facets, outputFacets=counts)


def _data_source(namespace: str) -> datasource_dataset.DatasourceDatasetFacet:
    return datasource_dataset.DatasourceDatasetFacet(namespace, namespace, producer=PRODUCER)


def _namespace() -> str:
    return os.environ.get("OPENLINEAGE_NAMESPACE") or NAMESPACE


def _parent_of_environment() -> parent_run.ParentRunFacet | None:
    """Read the job that has started us, which schedulers give as ``namespace/name/run id``."""
    namespace, _, rest = os.environ.get("OPENLINEAGE_PARENT_ID", "").partition("/")
    name, _, run_id = rest.rpartition("/")
    with suppress(ValueError):  # No UUID: it is not of a scheduler that we know.
        return parent_run.ParentRunFacet(
            run=parent_run.Run(run_id), job=parent_run.Job(namespace, name), producer=PRODUCER
        )
    return None
