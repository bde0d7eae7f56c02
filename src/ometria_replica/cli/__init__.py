"""The command line: each command parses, calls one function, prints, and gives an exit code."""

from __future__ import annotations

from ometria_replica.cli.program import app, main

__all__ = ["app", "main"]
