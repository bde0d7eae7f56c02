"""The sections of what the tables say: email, campaigns, bounces, unsubscribes, lists, consent."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ometria_replica.html_report.charts import Bar, bars, steps
from ometria_replica.html_report.parts import (
    NOTHING,
    Cell,
    Grid,
    Panel,
    Section,
    by_step,
    name,
    number,
    outside,
    percent,
    ranked,
    rate,
)
from ometria_replica.html_report.statement import KINDS
from ometria_replica.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from markupsafe import Markup

    from ometria_replica.html_report.figures import Figures, Row
    from ometria_replica.html_report.periods import Period

_CHARTS_OF_TYPES, _CHARTS_OF_LISTS = 8, 6

_NAMES = {
    word: name
    for name, words in zip(("Sends", "Opens", "Clicks", "Bounces"), KINDS.values(), strict=True)
    for word in words
}


def email(figures: Figures) -> Section:
    """Show events of email over time, by their type."""
    period = figures.period
    text = f"Events in `email_events` {_since(period)}. Each chart has its own scale."
    if not (found := figures.of("events")):
        return _empty(figures, "email", "Email over time", text, "email_events")
    period = period.from_first(row.day for row in found)
    by_type = _by_label(found, "(no type)", "(other types)")
    columns = {kind: period.sums(_days(rows)) for kind, rows in by_type.items()}
    order = sorted(columns, key=lambda kind: (_rank(kind), -sum(columns[kind].values()), kind))
    panels = tuple(
        _counted(
            period,
            _NAMES.get(kind, kind),
            columns[kind],
            of=f"of type {kind}, " if kind in _NAMES else "",
        )
        for kind in order[:_CHARTS_OF_TYPES]
        if any(columns[kind].values())
    )
    return Section(
        "email",
        "Email over time",
        text,
        panels,
        (by_step(period, {kind: columns[kind] for kind in order}, "Events"),),
        _outside(period, found, "event"),
    )


def _rank(kind: str) -> int:
    """Put sends, opens, clicks and bounces first, in this order."""
    return next((place for place, words in enumerate(KINDS.values()) if kind in words), len(KINDS))


def campaigns(figures: Figures) -> Section:
    """Show how many of the messages of each campaign were opened, clicked and bounced."""
    text = (
        f"Messages sent {_since(figures.period)}, and the share of them with at least one open,"
        " click or bounce: the 20 campaigns with the most messages, by click rate. Mail programs"
        " that load pictures by themselves count as opens. A campaign is a title, and titles can be"
        " edited in Ometria."
    )
    found = [row for row in figures.of("campaigns") if row.numbers[2]]
    if not found:
        note = "No event says that a message was sent, so there are no rates."
        if not figures.of("events"):
            return _empty(figures, "campaigns", "Campaigns by rate", text, "email_events")
        return Section("campaigns", "Campaigns by rate", text, notes=(note,))
    named = sorted(
        (row for row in found if row.numbers[0]),
        key=lambda row: (-row.numbers[4] / row.numbers[2], row.numbers[0]),
    )
    rest = [row for row in found if not row.numbers[0]]
    largest = [max(row.numbers[at] / row.numbers[2] for row in named) for at in (3, 4, 5)]
    most = max(row.numbers[2] for row in named)
    rows = [_campaign(row, row.label or "(no title)", most, largest) for row in named]
    for row in rest:
        others = counted(row.numbers[1], "other campaign")
        rows.append(_campaign(row, others))
    heads = ("Campaign", "Type", "Messages", "Opened", "Clicked", "Bounced")
    grid = Grid(heads, tuple(rows), names=2)
    return Section(
        "campaigns", "Campaigns by rate", text, grids=(grid,), notes=_counted_in(figures)
    )


def _counted_in(figures: Figures) -> tuple[str, ...]:
    """Say where campaigns were counted, if there is a mart of sends."""
    if figures.sends.is_current:
        return ("Counted in the mart `ometria_marts.email_sends`, which has all events.",)
    if figures.sends.because:
        note = (
            "Counted in `email_events`, and not in the mart `ometria_marts.email_sends`, since"
            f" {figures.sends.because}: `ometria-replica models build` builds it."
        )
        return (note,)
    return ()


def _campaign(
    row: Row, title: str, most: int = 0, largest: Sequence[float] = (0, 0, 0)
) -> tuple[Cell, ...]:
    """Make the row of a campaign, or of all others; without *most*, it has no bars."""
    _, _, sent, *happened = row.numbers
    rates = [
        rate(count, sent, top) if most else Cell(percent(count / sent))
        for count, top in zip(happened, largest, strict=True)
    ]
    return (name(title), name(row.part or NOTHING), number(sent, most or None), *rates)


def bounces(figures: Figures) -> Section:
    """Show bounces by class."""
    text = (
        f"Bounces {_since(figures.period)}, by `bounce_class` as the export has it. Ometria does"
        " not document the classes."
    )
    if not (found := figures.of("bounces")):
        return _empty(
            figures, "bounces", "Bounces by class", text, "email_events", none="No bounce."
        )
    _, total, classes = found[0].numbers
    counts = [(row.label or "(no class)", row.numbers[0]) for row in found]
    grid = ranked("Class", "Bounces", counts, total, classes - len(found))
    return Section("bounces", "Bounces by class", text, grids=(grid,))


def unsubscribes(figures: Figures) -> Section:
    """Show unsubscribes by reason, over time."""
    period = figures.period
    text = (
        f"Rows of `unsubscribes` {_since(period)}, by their reason. Ometria leaves out those that"
        " were made through its API. All charts but the first share one scale."
    )
    if not (found := figures.of("unsubscribes")):
        return _empty(figures, "unsubscribes", "Unsubscribes", text, "unsubscribes")
    period = period.from_first(row.day for row in found)
    by_reason = _by_label(found, "(no reason)", "(other reasons)")
    columns = {reason: period.sums(_days(rows)) for reason, rows in by_reason.items()}
    order = sorted(columns, key=lambda reason: (-sum(columns[reason].values()), reason))
    whole = period.sums(_days(found))
    top = max((max(columns[reason].values()) for reason in order), default=0)
    panels = [_counted(period, "All reasons", whole)]
    panels += [
        _counted(period, reason, columns[reason], top=top)
        for reason in order
        if any(columns[reason].values())
    ]
    grid = by_step(
        period, {"All": whole, **{reason: columns[reason] for reason in order}}, "Unsubscribes"
    )
    notes = _outside(period, found, "unsubscribe")
    return Section("unsubscribes", "Unsubscribes", text, tuple(panels), (grid,), notes)


def lists(figures: Figures) -> Section:
    """Show the sizes of lists over time, as who entered and left them says."""
    period = figures.period
    text = (
        "Members of the largest lists, counted from `member_lists`: a profile is a member from an"
        " enter to the next exit. Members from before the first change that Ometria still has are"
        " not counted, so a list may be larger. Each chart has its own scale."
    )
    if not (found := figures.of("lists")):
        return _empty(figures, "lists", "Lists over time", text, "member_lists")
    period = period.from_first(row.day for row in found)
    by_list: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in found:
        by_list[row.source or "", row.part or ""].append(row)
    several = len(figures.status.accounts) > 1
    shown = sorted(by_list.items(), key=lambda each: (-each[1][0].numbers[2], each[0]))
    panels, rows = [], []
    largest = shown[0][1][0].numbers[2]
    for place, ((source, list_id), changes) in enumerate(shown):
        title = f"{changes[0].label or 'List'} ({list_id})"
        title = f"{title}, {source}" if several else title
        entered, went, members, _ = changes[0].numbers
        inside = [row for row in changes if period.holds(row.day)]
        entered, went = (sum(row.numbers[at] for row in inside) for at in (0, 1))
        if place < _CHARTS_OF_LISTS:
            chart = _sizes(period, changes)
            panels.append(Panel(title, f"{members:,}", "members by these changes", chart))
        rows.append((name(title), number(members, largest), number(entered), number(went)))
    heads = ("List", "Members", f"Entered {_since(figures.period)}", "Left")
    more = found[0].numbers[3] - len(shown)
    notes = (f"{counted(more, 'smaller list is', 'smaller lists are')} not shown.",) if more else ()
    grid = Grid(heads, tuple(rows), summary=f"The {len(rows)} largest lists, as numbers")
    return Section("lists", "Lists over time", text, tuple(panels), (grid,), notes)


def _sizes(period: Period, changes: Sequence[Row]) -> Markup:
    moved: dict[date, int] = defaultdict(int)
    for row in changes:
        if row.day is not None and row.day <= period.last:
            moved[max(row.day, period.first)] += row.numbers[0] - row.numbers[1]
    size, points = 0, []
    for day in sorted({period.first, *moved, period.last}):
        size += moved.get(day, 0)
        points.append((day, size))
    return steps(period, points)


def consents(figures: Figures) -> Section:
    """Show consent to marketing, and when profiles opted in and out."""
    period = figures.period
    text = (
        "Profiles by `marketing_optin`, as received, and the newest opt-in and opt-out of each"
        f" profile by its dates, {_since(period)}: Ometria keeps only the newest."
    )
    dates = [*figures.of("optin"), *figures.of("optout")]
    if not (answers := figures.of("consents")):
        return _empty(figures, "consents", "Consent to marketing", text, "profiles")
    period = period.from_first(row.day for row in dates)
    _, total, kinds = answers[0].numbers
    counts = [(row.label or "(no value)", row.numbers[0]) for row in answers]
    grids = [ranked("marketing_optin", "Profiles", counts, total, kinds - len(answers))]
    columns = {
        title: period.sums(_days(figures.of(figure)))
        for title, figure in (("Opt-ins", "optin"), ("Opt-outs", "optout"))
    }
    panels = tuple(
        _counted(period, title, sums) for title, sums in columns.items() if any(sums.values())
    )
    if panels:
        grids.append(by_step(period, columns, "Opt-ins and opt-outs"))
    later = outside(period, _days(dates))
    notes = (f"{counted(later, 'date')} in the future not shown.",) if later else ()
    return Section("consents", "Consent to marketing", text, panels, tuple(grids), notes)


def _counted(
    period: Period,
    title: str,
    sums: Mapping[date, int],
    *,
    of: str = "",
    top: float | None = None,
) -> Panel:
    chart = bars(period, [Bar(day, count) for day, count in sums.items()], top=top)
    return Panel(title, f"{sum(sums.values()):,}", f"{of}by {period.step}", chart)


def _by_label(rows: Sequence[Row], empty: str, others: str) -> Mapping[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[others if row.label is None else row.label or empty].append(row)
    return found


def _days(rows: Sequence[Row]) -> list[tuple[date | None, int]]:
    return [(row.day, row.numbers[0]) for row in rows]


def _outside(period: Period, rows: Sequence[Row], noun: str) -> tuple[str, ...]:
    later = outside(period, _days(rows))
    return (f"{counted(later, noun)} with a time in the future not shown.",) if later else ()


def _since(period: Period) -> str:
    return f"since {period.first.day} {period.first:%B %Y}"


def _empty(
    figures: Figures, id_: str, title: str, text: str, table: str, *, none: str = ""
) -> Section:
    """Make a section that says why it has no figures."""
    if not figures.rows_of(table):
        note = f"`{table}` has no rows yet, or is not replicated."
    elif not figures.counts:
        note = "This program runs no queries in this kind of warehouse."
    else:
        note = none or "Nothing in this time."
    return Section(id_, title, text, notes=(note,))
