"""Erasures as data, text and JSON: what was found, receipts, and the export of what is held."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any

from ometria_replica.json_documents import as_json, document, plain_document
from ometria_replica.text import aligned, counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ometria_replica.erasing import Erased
    from ometria_replica.warehouse.erasure.people import Found
    from ometria_replica.warehouse.erasure.receipts import Receipt


@dataclass(frozen=True)
class HeldRows:
    """
    How much an account holds of the people who were asked for, in numbers.

    *people* hang together by their ids: *profiles*, *addresses* and *customers*, and at most
    *most_profiles* of one person. *rows* counts by table. *quoted* texts of other people's rows
    have an address in them. *not_followed* are the excluded columns, by which no row can be found.
    """

    source_id: str
    people: int
    profiles: int
    addresses: int
    customers: int
    most_profiles: int
    rows: dict[str, int]
    rejects: int
    quoted: int
    not_followed: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Found) -> HeldRows:
        """Count what was found."""
        return cls(
            source_id=found.source_id,
            people=len(found.people),
            profiles=found.ids("profile"),
            addresses=found.ids("address"),
            customers=found.ids("customer"),
            most_profiles=found.most_profiles,
            rows=found.rows,
            rejects=len(found.rejects),
            quoted=found.quoted,
            not_followed=found.not_followed,
        )


@dataclass(frozen=True)
class ErasePreview:
    """What an erasure would remove, by account; with *blank*, events would stay without people."""

    accounts: tuple[HeldRows, ...]
    blank: bool = False

    @classmethod
    def of(cls, found: Sequence[Found], *, blank: bool = False) -> ErasePreview:
        """Count what was found in each account."""
        return cls(tuple(map(HeldRows.of, found)), blank)

    def to_dict(self) -> dict[str, Any]:
        """Convert the preview to plain data: the document of ``erase --dry-run --json``."""
        accounts = [asdict(each) for each in self.accounts]
        return plain_document("erase-dry-run", {"accounts": accounts})

    def to_json(self) -> str:
        """Write the preview as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write the preview as text, in numbers; the data is not shown."""
        return "\n\n".join(_found(each, blank=self.blank) for each in self.accounts)


@dataclass(frozen=True)
class Erasure:
    """The *receipts* of an erasure, one for each account, without personal data."""

    receipts: tuple[Receipt, ...]

    def to_dict(self) -> dict[str, Any]:
        """Convert the receipts to plain data: the document of ``erase --json``."""
        return plain_document("erase", {"receipts": [asdict(each) for each in self.receipts]})

    def to_json(self) -> str:
        """Write the receipts as a JSON document."""
        return as_json(self.to_dict())

    def to_text(self) -> str:
        """Write the receipts as text."""
        return _erased_as_text(self.receipts)


def _found(found: HeldRows, *, blank: bool) -> str:
    ids = _ids(found.profiles, found.addresses, found.customers)
    lines = [f"{found.source_id}: {counted(found.people, 'person', 'people')}, with {ids}."]
    if found.most_profiles > 1:
        lines.append(
            f"Warning: {found.most_profiles:,} profiles hang together, by an address or a customer"
            " id that they share. Make sure that they are one person."
        )
    if found.not_followed:
        lines.append(
            f"Not followed, since the settings exclude it: {', '.join(found.not_followed)}."
        )
    rows = {**found.rows, "rejects": found.rejects}
    lines += aligned([["table", "rows"], *([name, f"{n:,}"] for name, n in rows.items())])
    if found.quoted:
        lines.append(f"An address is quoted in {counted(found.quoted, 'text')} of others' rows.")
    if blank:
        lines.append("Events stay without personal data; profiles and rejects are removed.")
    if not any(rows.values()) and not found.quoted:
        lines.append("Nothing is held. An erasure still keeps later syncs from loading these ids.")
    return "\n".join(lines)


def _erased_as_text(receipts: Sequence[Receipt]) -> str:
    lines = []
    for each in receipts:
        ids = _ids(each.profiles, each.addresses, each.customers)
        rows = [f"{n:,} of {name}" for name, n in each.rows.items() if n]
        if each.rejects:
            rows.append(counted(each.rejects, "reject"))
        done = "removed" if each.outcome == "removed" else "removed or blanked"
        what = [f"{done} {', '.join(rows)}"] if rows else []
        if each.quoted:
            what.append(f"an address masked in {counted(each.quoted, 'text')} of others' rows")
        people = counted(each.people, "person", "people")
        told = "; ".join(what) or "nothing was held"
        lines.append(f"{each.source_id}: {people} erased, with {ids}: {told}.")
    lines.append("No sync loads them again. Erase them in Ometria too: this is a copy.")
    lines += dict.fromkeys(each.remains for each in receipts if each.remains)
    return "\n".join(lines)


def erasures_as_text(erased: Sequence[Erased]) -> str:
    """Write a line for each erasure, and how many people are suppressed."""
    lines = [["erased (UTC)", "source", "outcome", "people", "rows", "rejects", "state"]]
    lines += [
        [
            f"{each.erased_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
            each.source_id,
            each.outcome,
            f"{each.people:,}",
            f"{sum(each.rows.values()):,}",
            f"{each.rejects:,}",
            _state(each),
        ]
        for source in erased
        for each in source.receipts
    ]
    table = aligned(lines, left=3) if len(lines) > 1 else ["Nobody was erased."]
    suppressed = [
        f"{each.source_id}: {counted(each.suppressed, 'person is', 'people are')} suppressed."
        for each in erased
        if each.suppressed
    ]
    return "\n".join([*table, *suppressed])


def _state(receipt: Receipt) -> str:
    if receipt.finished_at is None or receipt.remains is None:
        return "did not end: erase again"
    return "ended"


def erasures_as_json(erased: Sequence[Erased]) -> str:
    """Write the receipts, and the numbers of suppressed people, by account."""
    receipts = [asdict(each) for source in erased for each in source.receipts]
    suppressed = [{"source_id": each.source_id, "people": each.suppressed} for each in erased]
    return document("erase-list", {"receipts": receipts, "suppressed": suppressed})


def allowed_as_text(allowed: Mapping[str, int]) -> str:
    """Write how many people may be loaded again."""
    lines = [
        f"{source_id}: {counted(number, 'person', 'people')} may be loaded again."
        for source_id, number in allowed.items()
    ]
    lines.append(
        "The next sync brings only what is new or changes. For the rest, run"
        " `ometria-replica sync --full`, and `ometria-replica state rewind email_events` first."
    )
    return "\n".join(lines)


def allowed_as_json(allowed: Mapping[str, int]) -> str:
    """Write how many people may be loaded again, an object for each account."""
    accounts = [{"source_id": name, "people": number} for name, number in allowed.items()]
    return document("erase-allow", {"accounts": accounts})


def held_as_json(held: Mapping[str, Mapping[str, Sequence[Mapping[str, object]]]]) -> str:
    """Write all that is held of people, by account and by table."""
    return as_json(held, ascii_only=False)


def exported_as_text(file: str, rows: Mapping[str, Mapping[str, int]]) -> str:
    """Write how much was exported."""
    numbers = [
        f"{source_id}: {counted(sum(by_table.values()), 'row')}"
        for source_id, by_table in rows.items()
    ]
    return f"{', '.join(numbers)} written to {file}, which only you can read."


def exported_as_json(file: str, rows: Mapping[str, Mapping[str, int]]) -> str:
    """Write how much was exported: the file, and rows by account and table."""
    accounts = [{"source_id": name, "rows": by_table} for name, by_table in rows.items()]
    return document("erase-export", {"file": file, "accounts": accounts})


def _ids(profiles: int, addresses: int, customers: int) -> str:
    return (
        f"{counted(profiles, 'profile')}, {counted(addresses, 'address', 'addresses')} and"
        f" {counted(customers, 'customer id')}"
    )
