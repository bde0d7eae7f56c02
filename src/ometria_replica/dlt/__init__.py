"""
The five tables as a dlt source, for projects that already load with dlt.

    import dlt
    from ometria_replica.dlt import ometria

    dlt.pipeline("ometria", destination="duckdb", dataset_name="ometria").run(ometria())
"""

from __future__ import annotations

try:
    import dlt as _dlt  # noqa: F401 -- Only to name it in the message.
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "ometria_replica.dlt needs dlt, which is not installed: pip install 'ometria-replica[dlt]'",
        name=_error.name,
    ) from _error

from ometria_replica.dlt.source import ometria, ometria_accounts

__all__ = ["ometria", "ometria_accounts"]
