"""Texts that belong together, in sets that have none in common."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class DisjointSets:
    """Sets of texts, each with one that names it. At first each text is a set of its own."""

    _owners: dict[str, str] = field(default_factory=dict)

    def name(self, text: str) -> str:
        """Name the set of a text."""
        owners = self._owners
        while (owner := owners.setdefault(text, text)) != text:
            owners[text] = text = owners[owner]
        return text

    def join(self, text: str, other: str) -> None:
        """Make one of the sets of two texts; the set of *other* gives its name."""
        self._owners[self.name(text)] = self.name(other)
