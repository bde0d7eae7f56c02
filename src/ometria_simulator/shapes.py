"""The forms of numbers and times in which a record of the shop is shown."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from ometria_simulator.moments import TimestampForm

MoneyForm = Literal["shortest", "two_decimals", "text"]
"""``12.5``, ``12.50`` or ``"12.50"``: no source shows an amount of an order."""

Amount: TypeAlias = int | float | str | Decimal
"""An amount as shown; a Decimal is a JSON number that keeps its zeros."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The forms of one response; the defaults are those of profiles and lists."""

    timestamp_form: TimestampForm = "iso"
    money_form: MoneyForm = "shortest"
    line_items_name: str = "lineitems"
    order_customer_id: Literal["customer_id", "profile_id"] = "customer_id"


SHAPE = Shape()


def money(pence: int, form: MoneyForm) -> Amount:
    """Show an amount of *pence*; the shortest form of a whole number has no point."""
    if form == "shortest":
        return pence // 100 if pence % 100 == 0 else pence / 100
    exact = Decimal(pence).scaleb(-2)
    return str(exact) if form == "text" else exact


def pence_of(amount: float | str | Decimal) -> int:
    """Read an amount as pence."""
    return int((Decimal(str(amount)) * 100).to_integral_value())
