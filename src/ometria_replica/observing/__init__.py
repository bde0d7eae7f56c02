"""
Observers of a run: traces for OpenTelemetry, and lineage for OpenLineage.

They are off by default, and then nothing of them is imported.
"""

from __future__ import annotations

from ometria_replica.observing.observers import OBSERVED_BY, observing

__all__ = ["OBSERVED_BY", "observing"]
