"""All communication with Ometria: its API and its export files."""

from __future__ import annotations
