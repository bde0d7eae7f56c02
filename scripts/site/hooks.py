"""
The site, where it differs from the Markdown files in the repository.

MkDocs calls these functions. They make the navigation from the lists of docs/index.md, add the
pages of the repository's first folder, such as CHANGELOG.md, and turn links to files outside of
docs/ and diagrams in Mermaid into what a site can show. Each warning stops a strict build.
"""

from __future__ import annotations

import hashlib
import html
import logging
import os
import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # MkDocs loads this file by its path, and none of its package.

from mkdocs.structure.files import File, Files  # noqa: E402 -- After the path is set.
from scripts.site import landing, links, nav, outline, phones, tabs  # noqa: E402 -- As above.

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.plugins.ometria_replica")

DOCS = ROOT / "docs"
LABELS = {"changelog.md": "Changelog", "contributing.md": "Contributing"}
"""How the navigation calls pages whose heading is no label."""

_FENCE = re.compile(r"^(`{3,})([\w-]+) [\w -]+$", re.MULTILINE)
_MERMAID = re.compile(
    r"^(?P<before>\S[^\n]*:)?(?P<space>\n+)```mermaid\n(?P<text>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)
_IN_TABLE = re.compile(r"(?<=[|( ,])`([^`\n|]*\\\|[^`\n]*)`(?=[^\n]*\|$)", re.MULTILINE)
"""Code in the cell of a table with a ``|``, which has a backslash before it there."""

_HEADING = re.compile(r"^# (.*)$", re.MULTILINE)


def of_repository() -> dict[str, str]:
    """Name the Markdown files beside docs/, and the page of the site for each."""
    names = sorted(path.name for path in ROOT.glob("*.md"))
    return {name: f"{name.lower()}" if name != "README.md" else "index.md" for name in names}


def heading(text: str) -> str:
    """Read the heading of a page, without the marks of Markdown."""
    found = _HEADING.search(text)
    return found[1].replace("`", "").strip() if found else ""


def read(path: Path) -> str:
    """Read a page."""
    return path.read_text(encoding="utf-8")


def version() -> str:
    """Read the version of the program."""
    named = runpy.run_path(str(ROOT / "src" / "ometria_replica" / "version.py"))
    return str(named["__version__"])


def repository() -> str | None:
    """Return the address of the repository's files, or None without one."""
    address = os.environ.get("REPO_URL", "").rstrip("/")
    return f"{address}/blob/main" if address else None


def in_site(text: str, source: str, placed: str) -> str:
    """Rewrite the links of a page of the repository for its place in the site."""
    folders = {str(path.relative_to(ROOT).as_posix()) for path in DOCS.rglob("*") if path.is_dir()}
    return links.rewrite(
        text,
        source,
        placed,
        pages=of_repository(),
        folders=folders,
        repository=repository(),
    )


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the navigation, and the version."""
    config.site_name = f"{config.site_name} {version()}"
    pages = [str(path.relative_to(DOCS).as_posix()) for path in sorted(DOCS.rglob("*.md"))]
    sections = nav.read_sections(read(DOCS / "index.md"))
    for missing in set(nav.SECTIONS) - {section.title for section in sections}:
        log.warning("docs/index.md has no section '%s'", missing)
    for page in nav.unlisted(sections, pages):
        log.warning("docs/index.md has no line for docs/%s: add one to a list", page)
    titles = {page: heading(read(DOCS / page)) for page in pages}
    project = {
        LABELS.get(page) or heading(read(ROOT / name)): page
        for name, page in of_repository().items()
        if page != "index.md"
    }
    listed = {page for section in sections for page in section.pages}
    others = {
        titles[page]: page
        for page in pages
        if "/" not in page and page not in {*listed, "index.md"}
    }
    config.nav = nav.navigation(sections, pages, titles, {**others, **project})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the overview of each section, and the pages beside docs/."""
    for section in nav.read_sections(read(DOCS / "index.md")):
        place = f"{nav.SECTIONS[section.title]}index.md"
        text = in_site(nav.overview(section), "docs/index.md", place)
        files.append(File.generated(config, place, content=text))
    for name, place in of_repository().items():
        if place != "index.md":
            text = in_site(read(ROOT / name), name, place)
            files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Turn into what the site can show: links out of docs/, marks of fences, Mermaid."""
    place = page.file.src_uri
    written = page.file.generated_by is None
    text = in_site(markdown, f"docs/{place}", place) if written else markdown
    text = _MERMAID.sub(lambda found: diagram(found, page), text)
    page.meta["as_written"] = tabs.without_labels(text)
    if place == "index.md":
        page.meta["hide"] = ["navigation", "toc", "footer"]
    return tabs.to_tabs(_FENCE.sub(r"\1\2", _IN_TABLE.sub(_escaped, text)))


def on_page_content(content: str, *, page: Page, **_: object) -> str:
    """Check that a page is on the site what it is on a forge, and mark the first one."""
    for difference in outline.differences(page.meta.pop("as_written"), content):
        log.warning("%s reads otherwise than on a forge: %s", page.file.src_uri, difference)
    content = phones.mark(content)
    return landing.arrange(content) if page.file.src_uri == "index.md" else content


def _escaped(code: re.Match[str]) -> str:
    """Write code with a ``|`` as HTML: MkDocs would show the backslash before it."""
    return f"<code>{html.escape(code[1].replace(chr(92) + '|', '|')).replace('|', '&#124;')}</code>"


def diagram(found: re.Match[str], page: Page) -> str:
    """Show the picture that `make diagram` has drawn from a text in Mermaid."""
    before, space, text = found["before"] or "", found["space"], found["text"]
    digest = hashlib.sha256(text.encode()).hexdigest()
    up = "../" * page.file.src_uri.count("/")
    for picture in sorted((DOCS / "assets").glob("*.svg")):
        with picture.open(encoding="utf-8") as file:
            if digest in file.readline():
                described = before.removesuffix(":") or page.title
                return f"{before}{space}![{described}]({up}assets/{picture.name})"
    log.warning("%s has a diagram that is not drawn: run `make diagram`", page.file.src_uri)
    return f"{before}{space}```\n{text}\n```"
