"""The navigation of the site, read from the lists of docs/index.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECTIONS = {
    "Tutorials": "tutorial/",
    "How-to guides": "how-to/",
    "Reference": "reference/",
    "Explanation": "explanation/",
}
"""The headings of docs/index.md that list pages, and the folder that each lists."""

DECISIONS = "decisions/"

_ROW = re.compile(r"^- \[(?P<label>[^\]]+)\]\((?P<page>[^)#\s]+\.md)\)")


@dataclass
class Group:
    """Pages under one heading, by label; *title* is empty for those right below the section's."""

    title: str
    pages: dict[str, str] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)


@dataclass
class Section:
    """A section of docs/index.md: its title and its groups, the one without a title first."""

    title: str
    groups: list[Group]

    @property
    def pages(self) -> list[str]:
        """List the pages of all groups."""
        return [page for group in self.groups for page in group.pages.values()]


def read_sections(index: str) -> list[Section]:
    """Read the sections of docs/index.md that :data:`SECTIONS` names, in their order there."""
    found: list[Section] = []
    inside = False
    for line in index.splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ").strip()
            inside = title in SECTIONS
            if inside:
                found.append(Section(title, [Group("")]))
        elif inside and line.startswith("### "):
            found[-1].groups.append(Group(line.removeprefix("### ").strip()))
        elif inside:
            group = found[-1].groups[-1]
            group.text.append(line)
            row = _ROW.match(line)
            if row and not row["page"].startswith(("../", DECISIONS)):
                label = row["label"].replace("`", "")
                group.pages[label[:1].upper() + label[1:]] = row["page"]
    return found


def unlisted(sections: Iterable[Section], pages: Iterable[str]) -> list[str]:
    """List the pages of the sections' folders that no section lists."""
    listed = {page for section in sections for page in section.pages}
    folders = tuple(SECTIONS.values())
    return sorted(
        page
        for page in pages
        if page.startswith(folders) and page not in listed and page not in overviews()
    )


def overviews() -> dict[str, str]:
    """Name the overview page of each section, which the site adds: ``how-to/index.md``."""
    return {f"{folder}index.md": title for title, folder in SECTIONS.items()}


def overview(section: Section) -> str:
    """Write a section's overview page: its lists, with the links as docs/index.md has them."""
    lines = [f"# {section.title}", ""]
    for group in section.groups:
        if group.title:
            lines += [f"## {group.title}", ""]
        lines += [*group.text, ""]
    return "\n".join(lines)


def navigation(
    sections: Iterable[Section],
    pages: Iterable[str],
    titles: Mapping[str, str],
    project: Mapping[str, str],
) -> list[dict[str, Any]]:
    """
    Build the navigation as mkdocs.yml writes it.

    *pages* are all pages below docs/, *titles* the headings of the decisions, and *project* the
    pages about the project itself by label. A page that no list names comes last in the section
    of its folder, so that a reader finds it until docs/index.md lists it.
    """
    sections, pages = list(sections), sorted(pages)
    missing = unlisted(sections, pages)
    whole: list[dict[str, Any]] = [{"Home": "index.md"}]
    for section in sections:
        folder = SECTIONS[section.title]
        entries: list[object] = [f"{folder}index.md"]
        for group in section.groups:
            rows: list[object] = [{label: page} for label, page in group.pages.items()]
            entries += [{group.title: rows}] if group.title and rows else rows
        entries += [page for page in missing if page.startswith(folder)]
        whole.append({section.title: entries})
    decisions: list[object] = [
        {titles[page]: page}
        for page in reversed(pages)
        if page.startswith(DECISIONS) and page != f"{DECISIONS}index.md"
    ]
    if f"{DECISIONS}index.md" in pages:
        whole.append({"Decisions": [f"{DECISIONS}index.md", *decisions]})
    whole += [{label: page} for label, page in project.items()]
    return whole
