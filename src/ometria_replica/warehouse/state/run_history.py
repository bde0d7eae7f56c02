"""The history of runs, each with its report."""

from __future__ import annotations

from dataclasses import dataclass

from ometria_replica.batch import Run
from ometria_replica.failpoints import step
from ometria_replica.warehouse.sessions import Part, reads, writes
from ometria_replica.warehouse.state_tables import RUNS


@dataclass(frozen=True)
class RunHistory(Part):
    """The runs that have written into one warehouse."""

    @writes("recording the run", "the history")
    def record(self, run: Run, *, may_be_known: bool = False) -> None:
        """
        Add a run to the history.

        Where a look at the history costs, a run that *may_be_known* there, because another run
        has taken it for ended, says so.
        """
        self._add(run, may_be_known=may_be_known or self._engine.rewrites_unchanged)

    def _add(self, run: Run, *, may_be_known: bool = False) -> None:
        row = [run.run_id, run.started_at, run.finished_at, run.outcome, run.version, run.report]
        with step("history"):
            if may_be_known:
                self._engine.replace(RUNS, row)
            else:
                self._engine.insert(RUNS, row)

    @writes("recording a run that did not end", "the history")
    def record_unended(self, run: Run) -> None:
        """Add a run to the history, unless it is there: then it ended, except for its lease."""
        known = f"SELECT 1 FROM {self._readable(RUNS)} WHERE run_id = ?"
        if not self._engine.rows(known, [run.run_id]):
            self._add(run)

    @reads("reading the run history")
    def newest(self, limit: int) -> list[Run]:
        """Read the newest runs, newest first."""
        return [
            Run(*row)
            for row in self._engine.rows(
                "SELECT run_id, started_at, finished_at, outcome, version, report"
                f" FROM {self._readable(RUNS)}"
                f" ORDER BY started_at DESC, run_id DESC LIMIT {limit:d}"
            )
        ]
