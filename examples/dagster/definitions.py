"""The tables of an Ometria account as assets of Dagster: see docs/how-to/dagster.md."""

from __future__ import annotations

from datetime import timedelta

from ometria_replica.dagster import ometria_definitions

defs = ometria_definitions(max_age=timedelta(hours=3), cron_schedule="0 * * * *")
