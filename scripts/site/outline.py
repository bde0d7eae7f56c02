"""What a page consists of, to see that the site shows it as a forge does."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from typing_extensions import override

COUNTED = {
    *("h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "td", "th", "p"),
    *("blockquote", "pre", "em", "strong", "img", "a"),
}
"""Elements that make up a page. One that is nested in a list counts as ``ul in li``."""

_EMPTY = {"br", "col", "hr", "img", "input", "wbr"}
_OF_THE_SITE = {"headerlink", "tabbed-labels"}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.texts: list[str] = []
        self._open: list[tuple[str, bool]] = []  # Each element's name, and whether it counts.

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        counts = not self._open or self._open[-1][1]
        counts = counts and not _OF_THE_SITE & {*(dict(attrs).get("class") or "").split()}
        inside = {name for name, _ in self._open}
        if tag not in _EMPTY:
            self._open.append((tag, counts))
        if not counts or tag not in COUNTED:
            return
        if tag == "p" and "li" in inside:
            return  # Only the space around a list's entries depends on it.
        nested = tag in {"ul", "ol", "pre", "table"} and "li" in inside
        self.counts[f"{tag} in li" if nested else tag] += 1

    @override
    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    @override
    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1][1]:
            self.texts.append(data)


def _read(html: str) -> tuple[Counter[str], str]:
    """Count the elements of a page, and join its text without spaces."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.counts, "".join("".join(reader.texts).split())


def differences(markdown: str, html: str) -> list[str]:
    """Compare a page's Markdown, read as CommonMark with tables, with what the site made of it."""
    forge, expected = _read(
        MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown)
    )
    site, text = _read(html)
    found = [
        f"{site[tag]} {tag} instead of {forge[tag]}"
        for tag in sorted({*forge, *site})
        if forge[tag] != site[tag]
    ]
    if text != expected:
        pairs = zip(text, expected, strict=False)
        at = next((at for at, (one, other) in enumerate(pairs) if one != other), 0)
        shown = slice(max(0, at - 20), at + 40)
        found.append(f"text {text[shown]!r} instead of {expected[shown]!r}")
    return found
