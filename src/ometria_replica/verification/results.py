"""What a verification found in one table, as its report has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ometria_replica.verification.findings import GONE, NEWER, REPAIRED
from ometria_replica.verify_report import Differing, TableVerified

if TYPE_CHECKING:
    from ometria_replica.verification.nested import InsideVerification
    from ometria_replica.verification.tables import TableVerification

KINDS = ("missing", "stale", "extra")


def verified(work: TableVerification | InsideVerification) -> TableVerified:
    """Report what was found in a table, without what it took."""
    findings, read = work.findings, work.read
    counts = {kind: findings.count(kind) for kind in KINDS}
    differences = [
        Differing(kind, each.key, each.columns, each.id)
        for kind in KINDS
        for each in findings.named(kind)
    ]
    differences += [
        Differing(NEWER, each.key, each.columns, each.id) for each in findings.named("", NEWER)
    ]
    return TableVerified(
        source_id=read.account.source_id,
        table=read.table.name,
        unit=work.plan.unit,
        parts=work.parts,
        parts_total=work.parts_total,
        checked=findings.records.checked(),
        missing=counts["missing"],
        stale=counts["stale"],
        extra=counts["extra"],
        newer=findings.count("", NEWER),
        gone=findings.count("", GONE),
        repaired=findings.count("", REPAIRED),
        unreadable=tuple(work.unreadable),
        waiting=work.waiting,
        columns=findings.columns(),
        differences=tuple(differences),
        remarks=tuple(work.remarks),
    )
