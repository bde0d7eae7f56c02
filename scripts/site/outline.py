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
"""Elements that make up a page. A list that is nested in another counts as ``ul in li``."""


class _Counter(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._open: list[str] = []
        self._skipped = 0

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"img", "br", "hr", "input", "col", "wbr"}:
            self.counts[tag] += tag in COUNTED
            return
        classes = (dict(attrs).get("class") or "").split()
        self._open.append(tag)
        if tag == "a" and ("headerlink" in classes or not dict(attrs).get("href")):
            return  # Of the site itself.
        if tag in COUNTED and not (tag == "p" and "li" in self._open):
            nested = tag in {"ul", "ol", "pre", "table"} and "li" in self._open
            self.counts[f"{tag} in li" if nested else tag] += 1

    @override
    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass


def outline(html: str) -> Counter[str]:
    """Count the elements of a page."""
    counter = _Counter()
    counter.feed(html)
    counter.close()
    return +counter.counts


def differences(markdown: str, html: str) -> list[str]:
    """Compare a page's Markdown, read as CommonMark with tables, with what the site made of it."""
    forge = outline(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    site = outline(html)
    return [
        f"{site[tag]} {tag} instead of {forge[tag]}"
        for tag in sorted({*forge, *site})
        if forge[tag] != site[tag]
    ]
