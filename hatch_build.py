"""
What a build adds: the list of components that `make dist` wrote (PEP 770), and the README.

With an address of the repository in ``REPO_URL``, the README's links to files of the repository
lead there, to those of the version that is built: an index shows the README without the files.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

README = "README.md"
SBOM = "sbom/ometria-replica.cdx.json"


class ComponentsHook(BuildHookInterface[Any]):
    """Adds the list where there is one: `pip install .` in a clone needs none."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the list to the wheel that hatchling is about to build."""
        if version == "standard" and (Path(self.root) / SBOM).is_file():
            build_data["sbom_files"].append(SBOM)


class ReadmeHook(MetadataHookInterface):
    """Gives the README as the description of the project."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set it in the *metadata* of the project."""
        text = (Path(self.root) / README).read_text(encoding="utf-8")
        address = os.environ.get("REPO_URL", "").rstrip("/")
        if address:
            text = with_links_to(text, address, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_links_to(text: str, address: str, tag: str) -> str:
    """Make links to files absolute: to those of *tag* at *address*, and images to their bytes."""

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link[1].endswith((".png", ".svg")) else "blob"
        return f"]({address}/{kind}/{tag}/{link[1]})"

    return re.sub(r"\]\((?!#|[a-z]+:)([^()\s]+)\)", absolute, text)
