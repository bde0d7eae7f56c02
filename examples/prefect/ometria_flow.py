"""Sync an Ometria account with Prefect 3: see docs/how-to/prefect.md."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from ometria_replica import ReplicaError, load_config, sync


def passes_by_itself(_task: object, _run: object, state: Any) -> bool:
    """Say whether a failed task is tried again: Busy, Unreachable and Unavailable are."""
    try:
        state.result()
    except ReplicaError as error:
        return error.exit_code == 75
    except Exception:  # noqa: BLE001 -- A bug, or a worker that is gone: a person should look.
        return False
    return False


@task(retries=3, retry_delay_seconds=300, retry_condition_fn=passes_by_itself)
def sync_tables(tables: list[str]) -> dict[str, Any]:
    """Sync *tables*, none for all, and return the report as plain data."""
    report = sync(load_config(), tables)
    get_run_logger().info(report.headline)
    create_markdown_artifact(f"```\n{report.to_text()}\n```", key="ometria-sync")
    return report.to_dict()


@flow(name="ometria-replica", log_prints=True)
def ometria_replica(tables: list[str] | None = None) -> int:
    """Read what is new in Ometria; return how many rows are new or changed."""
    report = sync_tables(tables or [])
    return sum(table["inserted"] + table["updated"] for table in report["tables"])


if __name__ == "__main__":
    ometria_replica()
