"""
Checks of plain values: each takes a raw value and returns the clean one, or raises Invalid.

Messages never repeat a text value, because a key may have been pasted into the wrong line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ometria_replica.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUESTS_PER_SECOND: Final = 1000
LEAST_MEMORY: Final = 100_000_000
MOST_THREADS: Final = 1024
MOST_PARALLEL: Final = 100
ANSWER_BYTES: Final = (1_000_000, 10**12)  # 250 profiles of 4 kB: less could fit no page.
DAY: Final = 86_400
LEAST_HASH_KEY: Final = 16


class Invalid(ValueError):
    """
    One value is wrong. The message says what is allowed; the reader adds the place.

    A value with several problems gives a message of each.
    """


def check_text(value: object) -> str:
    """Whole numbers are allowed too: ``account_id = 1042`` needs no quotes."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = _digits(value)
    if not isinstance(value, str):
        raise Invalid(f"must be text, not {kind_of(value)}")
    if not value.strip():
        raise Invalid("must not be empty")
    if not value.isprintable():
        raise Invalid("must not hold control characters or line breaks")
    return value


def _digits(value: int) -> str:
    try:
        return str(value)
    except ValueError:  # Python does not convert integers of more than 4,300 digits.
        raise Invalid("is a number with too many digits") from None


def kind_of(value: object) -> str:
    """Name the TOML type of a value, for messages, which must not repeat the value."""
    names = ((bool, "a boolean"), ((int, float), "a number"), (str, "text"), (list, "a list"))
    return next(
        (name for types, name in names if isinstance(value, types)),
        "a table" if isinstance(value, dict) else "a date or time",
    )


def check_one_of(*allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise Invalid(f"must be one of {', '.join(allowed)}{hint}")

    return check


def check_boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid(f"must be true or false, not {kind_of(value)}")
    return value


def check_switch(value: object) -> bool:
    if isinstance(value, str) and value.lower() in {"true", "false"}:  # Of the environment.
        return value.lower() == "true"
    return check_boolean(value)


def check_rate(value: object) -> float:
    try:
        # A number in the file, text in the environment.
        number = 0.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    if not 0 < number <= MAX_REQUESTS_PER_SECOND:
        raise Invalid(f"must be a number above 0 and at most {MAX_REQUESTS_PER_SECOND}")
    return number


def check_whole_bytes(bounds: tuple[int, int]) -> Callable[[object], int]:
    lowest, highest = bounds

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise Invalid(f"must be a whole number of bytes, from {lowest} to {highest}")
        return value

    return check


def check_memory(value: object) -> str:
    allowed = "must be a size such as 512MB or 4GB, at least 100MB"
    found = (
        re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([MGT]i?B)\s*", value)
        if isinstance(value, str)
        else None
    )
    if found is None:
        raise Invalid(allowed)
    number, unit = found.groups()
    size = float(number) * (1024 if "i" in unit else 1000) ** (2 + "MGT".index(unit[0]))
    if size < LEAST_MEMORY:
        raise Invalid(allowed)
    return f"{number}{unit}"


def check_threads(value: object) -> int:
    return _from_one_to(MOST_THREADS, value)


def check_parallel(value: object) -> int:
    return _from_one_to(MOST_PARALLEL, value)


def _from_one_to(most: int, value: object) -> int:
    """Read a number in the file, or text in the environment."""
    if isinstance(value, str) and (digits := re.fullmatch(r"\s*([0-9]{1,4})\s*", value)):
        value = int(digits[1])  # int() reads less white space than \s.
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Invalid(f"must be a whole number from 1 to {most}")
    return value


def check_seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= DAY:
        raise Invalid(f"must be a number of seconds, from 0 to {DAY}")
    return float(value)


def check_share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Invalid("must be a number from 0 to 1")
    return float(value)


def check_days(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Invalid("must be a whole number of days, at least 1")
    return value


def check_key(value: object) -> str:
    text = value if isinstance(value, str) else ""
    if not text:
        raise Invalid("must not be empty")
    if not all("!" <= character <= "~" for character in text):
        raise Invalid(
            "must be printable ASCII without white space: it contains a line break, a space or"
            " another character"
        )
    return text


def check_parameter(value: object) -> str:
    text = check_text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text):
        raise Invalid("must be the name of a query parameter: letters, digits and _ . -")
    return text


def check_arn(value: object) -> str:
    text = check_text(value)
    if not text.startswith("arn:"):
        raise Invalid("must be the role's ARN, such as arn:aws:iam::123456789012:role/reader")
    return text


def check_hash_key(value: object) -> str:
    text = check_key(value)
    if len(text) < LEAST_HASH_KEY:
        raise Invalid(
            f"must have at least {LEAST_HASH_KEY} characters, since a short secret can be"
            " guessed: make one with `openssl rand -hex 32`"
        )
    return text
