"""Puts the list of components that `make dist` wrote into the wheel (PEP 770)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SBOM = "sbom/ometria-replica.cdx.json"


class ComponentsHook(BuildHookInterface[Any]):
    """Adds the list where there is one: `pip install .` in a clone needs none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the list to the wheel that hatchling is about to build."""
        if version == "standard" and (Path(self.root) / SBOM).is_file():
            build_data["sbom_files"].append(SBOM)
