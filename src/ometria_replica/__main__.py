"""Lets `python -m ometria_replica` be the command."""

from __future__ import annotations

from ometria_replica.cli import main

main()
