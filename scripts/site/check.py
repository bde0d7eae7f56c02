"""
Check a built site: every page can be reached, no link is dead, nothing comes from another host.

    python -m scripts.site.check site          exits 1 and lists what is wrong
    python -m scripts.site.check site ADDRESS  a site that was built for https://host/path/
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

LOADED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "video": ("src", "poster"),
}
"""Attributes whose files a browser loads with the page, by element."""

HINTS = {"canonical", "alternate", "edit", "next", "prev"}
"""Relations of a ``link`` that load nothing."""

_LOADED_BY_CSS = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)")


@dataclass
class _Page:
    """What a page holds, as far as it is checked."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = _Page()
        self._content = 0

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        page = self.page
        if "id" in values:
            page.ids.append(values["id"])
        if tag == "a" and "name" in values:
            page.ids.append(values["name"])
        if tag == "a" and "href" in values:
            page.links.append(values["href"])
        if (
            values.get("data-md-component") == "source"
            or "mermaid" in values.get("class", "").split()
        ):
            page.problems.append(f"the theme's script asks another host because of {tag}")
        if tag == "html" and not values.get("lang"):
            page.problems.append("no language is set")
        if tag == "img" and not values.get("alt"):
            page.problems.append(f"picture without a description: {values.get('src')}")
        if re.fullmatch(r"h[1-6]", tag):
            page.headings.append(int(tag[1]))
        if tag == "link" and set(values.get("rel", "").split()) & HINTS:
            return
        page.loaded += [
            part.split()[0]
            for name in LOADED.get(tag, ())
            if values.get(name)
            for part in (values[name].split(",") if name == "srcset" else [values[name]])
        ]
        page.loaded += _LOADED_BY_CSS.findall(values.get("style", ""))


def problems(site: Path, served_at: str = "/") -> list[str]:
    """
    List what is wrong with the site in a folder; an empty list means that it is whole.

    *served_at* is the path of its address: the page of errors has links that begin with it.
    """
    site = site.resolve()
    pages = sorted(site.rglob("*.html"))
    if not pages:
        return [f"{site} has no page"]

    @cache
    def read(path: Path) -> _Page:
        reader = _Reader()
        reader.feed(path.read_text(encoding="utf-8"))
        reader.close()
        return reader.page

    found: list[str] = []
    reached = {site / "404.html"}
    for path in pages:
        page = read(path)
        where = path.relative_to(site)
        found += [f"{where}: {problem}" for problem in page.problems]
        found += [f"{where}: loads {address}" for address in page.loaded if _elsewhere(address)]
        twice = sorted({name for name in page.ids if page.ids.count(name) > 1})
        found += [f"{where}: two elements have the id {name}" for name in twice]
        if page.headings.count(1) != 1:
            found.append(f"{where}: {page.headings.count(1)} headings of the first level")
        for address in {*page.links, *page.loaded}:
            if _elsewhere(address) or not address:
                continue
            target = _target(site, path, address, served_at)
            if target is None or not target.is_file():
                found.append(f"{where}: dead link to {address}")
                continue
            reached.add(target)
            anchor = unquote(urlsplit(address).fragment)
            if anchor and target.suffix == ".html" and anchor not in read(target).ids:
                found.append(f"{where}: no such place: {address}")
    found += [
        f"{path.relative_to(site)}: no link leads here" for path in pages if path not in reached
    ]
    for path in sorted(site.rglob("*.css")):
        addresses = _LOADED_BY_CSS.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {address}" for address in addresses]
    return found


def _elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in {"http", "https", "mailto", "data", "javascript"}


def _target(site: Path, page: Path, address: str, served_at: str) -> Path | None:
    """Find the file that a link leads to, or None if that is outside of the site."""
    place = unquote(urlsplit(address).path)
    if not place:
        return page
    absolute = place.startswith("/")
    if absolute and not place.startswith(served_at):
        return None
    place = place.removeprefix(served_at) if absolute else place
    target = ((site if absolute else page.parent) / place).resolve()
    if not target.is_relative_to(site):
        return None
    return target / "index.html" if target.is_dir() else target


def main() -> int:
    """Check the site in the folder of the first argument, built for the address of the second."""
    site, address = Path(sys.argv[1]), "".join(sys.argv[2:3])
    found = problems(site, f"{urlsplit(address).path.rstrip('/')}/")
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        print(f"{len(found)} problems in {site}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
