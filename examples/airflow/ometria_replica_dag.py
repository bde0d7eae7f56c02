"""Sync an Ometria account once an hour with Airflow 3: see docs/how-to/airflow.md."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, Metadata, dag, task
from airflow.sdk.exceptions import AirflowFailException

WAREHOUSE = Asset("ometria_replica", group="ometria")


@dag(
    schedule="@hourly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,  # An account has one rate limit, and a DuckDB file one writer.
    tags=["ometria"],
)
def ometria_replica() -> None:
    """Read what is new in Ometria, then look whether all is right."""

    @task(
        retries=3,
        retry_delay=timedelta(minutes=5),
        retry_exponential_backoff=True,
        outlets=[WAREHOUSE],
    )
    def sync_ometria() -> Any:
        """Sync; what passes by itself is retried, and anything else fails at once."""
        from ometria_replica import ReplicaError, load_config, sync

        try:
            report = sync(load_config())
        except ReplicaError as error:
            if error.exit_code == 75:  # Busy, Unreachable, Unavailable.
                raise
            raise AirflowFailException(str(error)) from error
        print(report.to_text())
        counts = {table.table: table.inserted + table.updated for table in report.tables}
        yield Metadata(WAREHOUSE, extra={"run_id": report.run_id, "changed": counts})
        return report.to_dict()

    @task
    def look(report: dict[str, Any]) -> str:
        """Fail if a table is older than three hours; the report came by XCom."""
        from ometria_replica import load_config, status

        rejected = sum(
            table["records_rejected"] + table["values_rejected"] for table in report["tables"]
        )
        print(f"Run {report['run_id']}: {rejected} rejected.")
        found = status(load_config(), max_age=timedelta(hours=3))
        if not found.is_all_right:
            raise AirflowFailException(found.to_text())
        return found.to_text()

    look(sync_ometria())


ometria_replica()
