"""The first page of the site: parts beside each other where there is room."""

from __future__ import annotations

import re

_PART = re.compile(r"^(?=<h2[ >])", re.MULTILINE)
_CARD = re.compile(r"^(?=<h3[ >])", re.MULTILINE)


def arrange(content: str) -> str:
    """Wrap each part of the page, and each list below a heading of the third level, in a box."""
    top, *parts = _PART.split(content)
    boxes = "".join(_part(part) for part in parts)
    return f'<div class="home"><div class="home__top">{top}</div>{boxes}</div>'


def _part(part: str) -> str:
    heading, *cards = _CARD.split(part)
    inside = "".join(f'<div class="home__card">{card}</div>' for card in cards)
    boxes = f'<div class="home__cards">{inside}</div>' if cards else ""
    return f'<section class="home__part">{heading}{boxes}</section>'
