"""Links of a Markdown page as the site needs them: some lead out of docs/."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_CODE = re.compile(
    r"^(?P<fence>`{3,})[^`]*$.*?^(?P=fence)`*[ ]*$"
    r"|(?<!`)(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`)",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"(?P<bang>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)")
_MASK = re.compile("\ue000([0-9]+)\ue001")


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change a page, except its code: a text in code looks like a link, and is none."""
    codes: list[str] = []

    def mask(code: re.Match[str]) -> str:
        codes.append(code.group())
        return f"\ue000{len(codes) - 1}\ue001"

    return _MASK.sub(lambda kept: codes[int(kept[1])], change(_CODE.sub(mask, text)))


def rewrite(
    text: str,
    source: str,
    placed: str,
    *,
    pages: Mapping[str, str],
    folders: Collection[str],
    repository: str | None,
) -> str:
    """
    Rewrite the links of a page that lead to files of the repository outside of docs/.

    *source* is the page in the repository (``docs/how-to/query.md``), *placed* its place in the
    site (``how-to/query.md``). *pages* says for files of the repository, such as ``CHANGELOG.md``,
    which page of the site has them. A link to any other file, or to one of *folders*, leads to
    *repository*, the address of its files, or becomes plain text if that is None.
    """

    def link(found: re.Match[str]) -> str:
        target, _, anchor = found["target"].partition("#")
        if not target or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return found.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = pages.get(path)
        if inside is None and path.startswith("docs/") and path not in folders:
            inside = path.removeprefix("docs/")
        after = f"#{anchor}" if anchor else ""
        if inside is not None:
            there = posixpath.relpath(inside, posixpath.dirname(placed) or ".")
            return f"{found['bang']}[{found['text']}]({there}{after})"
        if repository is not None:
            return f"{found['bang']}[{found['text']}]({repository.rstrip('/')}/{path}{after})"
        return found["text"]

    return outside_code(text, lambda prose: _LINK.sub(link, prose))
