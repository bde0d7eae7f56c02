"""The README as an index shows it, without the files beside it."""

from __future__ import annotations

import re
import runpy
from typing import Any

import pytest
from scripts.locks import ROOT

LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("address", ["", "https://git.example.com/shop/replica/"])
def test_links_of_the_readme_lead_to_the_repository_if_it_has_an_address(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the files of the version that is built, and to images as such."""
    monkeypatch.setenv("REPO_URL", address)
    hook = runpy.run_path(str(ROOT / "hatch_build.py"))["ReadmeHook"](str(ROOT), {})
    metadata: dict[str, Any] = {"version": "1.2.3"}

    hook.update(metadata)

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = metadata["readme"]["text"]
    links, before = LINK.findall(text), LINK.findall(readme)
    at = "https://git.example.com/shop/replica"
    assert len(links) == len(before) > 20
    for link, was in zip(links, before, strict=True):
        kind = "raw" if was.endswith(".png") else "blob"
        assert link == (f"{at}/{kind}/v1.2.3/{was}" if address and ":" not in was else was)
