"""Everything that talks to Ometria, its API and its feed. Nothing else does."""

from __future__ import annotations
