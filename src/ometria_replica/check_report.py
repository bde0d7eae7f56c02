"""The report of a check, as data, text and JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ometria_replica.doctor.findings import exit_code
from ometria_replica.json_documents import as_json, plain_document
from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ometria_replica.doctor.findings import Finding, Level

_LEVELS: tuple[Level, ...] = ("pass", "warn", "fail")
_WIDTH = 100
_INDENT = " " * 8


_OF_ACCOUNTS = ("api", "feed", "check")


@dataclass(frozen=True)
class CheckReport:
    """The *findings* of a check, in the order of the tests. If *strict*, a warning exits with 4."""

    findings: tuple[Finding, ...]
    strict: bool = False

    @property
    def level(self) -> Level:
        """The worst level of a finding: ``pass``, ``warn`` or ``fail``."""
        return max((each.level for each in self.findings), key=_LEVELS.index, default="pass")

    @property
    def exit_code(self) -> int:
        """The exit code of ``check``: 0, that of the error that a sync would raise, or 4."""
        return exit_code(self.findings, strict=self.strict)

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to plain data: the document of ``check --json``."""
        counts = Counter(finding.level for finding in self.findings)
        names = ("code", "level", "source_id", "text", "mend")
        fields = {
            "level": self.level,
            "exit_code": self.exit_code,
            "counts": {level: counts[level] for level in _LEVELS},
            "findings": [{name: getattr(each, name) for name in names} for each in self.findings],
        }
        return plain_document("check", fields)

    def to_json(self) -> str:
        """Write the report as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write the report as text: a section for each area, and a line that sums up."""
        lines: list[str] = []
        heading = ""
        for finding in self.findings:
            if heading != (heading := heading_of(finding)):
                lines += ["", heading] if lines else [heading]
            lines.append(finding_as_text(finding))
        return "\n".join([*lines, "", summary_as_text(self.findings)])


def heading_of(finding: Finding) -> str:
    """Name the section that a finding is in."""
    area = finding.code.partition(".")[0]
    if finding.source_id is not None and area in _OF_ACCOUNTS:
        return f"Account {finding.source_id}"
    return area.capitalize()


def finding_as_text(finding: Finding) -> str:
    """Write the level and what was found and, below it, the mend."""
    is_named = finding.source_id is None or heading_of(finding).endswith(finding.source_id)
    told = _wrapped(finding.text if is_named else f"{finding.source_id}: {finding.text}")
    lines = [f"  {finding.level}  {told[0]}"]
    lines += [f"{_INDENT}{line}" for line in told[1:]]
    for line in (finding.mend or "").splitlines():
        first, *others = _wrapped(line)
        lines += [f"{_INDENT}> {first}", *(f"{_INDENT}  {each}" for each in others)]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    """Part a text into lines; what has no space, such as an address, stays whole."""
    width = _WIDTH - len(_INDENT) - 2
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def summary_as_text(findings: Sequence[Finding]) -> str:
    """Say in a line how it went."""
    counts = Counter(finding.level for finding in findings)
    tests = counted(len(findings), "test")
    if not counts["warn"] and not counts["fail"]:
        return f"All right: {tests} passed."
    failures, warnings = counted(counts["fail"], "failure"), counted(counts["warn"], "warning")
    found = [*([failures] if counts["fail"] else []), *([warnings] if counts["warn"] else [])]
    told = f"{' and '.join(found)} in {tests}; what to do is below each."
    if counts["fail"]:
        return f"Not all right: {told} A sync would fail or leave out tables."
    return f"Good enough for a sync: {told}"
