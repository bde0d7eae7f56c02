"""The documentation as data: pages, their blocks of code, their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
MADE = {
    DOCS / "reference" / name
    for name in ("commands.md", "json.md", "marts.md", "settings.md", "tables.md")
}
BY_HAND = [page for page in PAGES if page not in MADE]

_BLOCK = re.compile(r"^```([\w -]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A block of code on a page, *number* counted from 1."""

    page: Path
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}#{self.number}"


def blocks(language: str) -> list[Block]:
    """Find the blocks written in *language*, such as ``sql duckdb``, on every page."""
    return [
        Block(page, number, found.group(1), found.group(2))
        for page in PAGES
        for number, found in enumerate(_BLOCK.finditer(read(page)), start=1)
        if found.group(1) == language
    ]


def links(page: Path) -> list[str]:
    """Find the targets of a page's links, except in code."""
    return _LINK.findall(_BLOCK.sub("", read(page)))


def read(page: Path) -> str:
    """Read a page."""
    return page.read_text(encoding="utf-8")


def written_by_hand() -> str:
    """Join all pages that are not generated."""
    return "\n".join(read(page) for page in BY_HAND)
