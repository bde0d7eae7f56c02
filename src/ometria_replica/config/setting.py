"""How a setting is described: its default, type, check, environment variable and meaning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from ometria_replica.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Reference = Literal["none", "allowed", "required", "secret"]

RENAMED: Final = {"sweep_every_days": "detect_deletes_every_days"}
"""The present name of each setting that was renamed."""


@dataclass(frozen=True)
class Setting:
    """
    The description of one key.

    *check* turns the raw value into the value, or raises Invalid. *env* overrides the file.
    If the key is not set, the S3 client reads the variables in *aws* itself. *reference* says
    whether the raw value may be ``env:NAME`` or ``file:/path``, which is followed before the
    check; a secret must be one if it is ``required``, and may be one if it is ``secret``. *unset*
    is what the page shows if there is no default, and *example* a value in TOML, for a file that
    shows a setting without one.
    """

    check: Callable[[object], object]
    type: str
    meaning: str
    env: str | None = None
    aws: tuple[str, ...] = ()
    reference: Reference = "none"
    unset: str = "none"
    example: str = ""


def setting(
    check: Callable[[object], object],
    type: str,  # noqa: A002  # The name of the column on the page.
    meaning: str,
    default: Any = dataclasses.MISSING,
    *,
    env: str | None = None,
    aws: tuple[str, ...] = (),
    reference: Reference = "none",
    unset: str = "none",
    example: str = "",
) -> Any:
    """Declare a field of a dataclass as a setting: see :class:`Setting`."""
    known = Setting(check, type, meaning, env, aws, reference, unset, example)
    return field(default=default, metadata={"setting": known})


def access_setting(
    check: Callable[[object], object],
    type: str,  # noqa: A002  # As above.
    meaning: str,
    *aws: str,
    example: str = "",
) -> Any:
    """Describe a setting of the S3 client, which finds the value itself if it is not set."""
    reference: Reference = "required" if type == "secret" else "none"
    return setting(
        check,
        type,
        meaning,
        None,
        aws=aws,
        reference=reference,
        unset="the AWS chain",
        example=example,
    )


def dialect_setting(check: Callable[[object], object], type: str, meaning: str) -> Any:  # noqa: A002  # As above.
    """Describe a setting that is detected in each file if it is not set."""
    return setting(check, type, meaning, None, unset="detected")


def settings_of(kind: type) -> dict[str, Setting]:
    """Return the settings of a class by key, in the order of the page."""
    return {
        each.name: each.metadata["setting"]
        for each in dataclasses.fields(kind)
        if "setting" in each.metadata
    }


def renamed_or_near(name: str, known: Iterable[str]) -> str:
    """Return what a setting is called now, or the nearest one, as the end of a message."""
    return f": it is now {RENAMED[name]}" if name in RENAMED else did_you_mean(name, known)
