"""
The tables as a Singer tap, built with the Meltano SDK.

The program is ``tap-ometria``; in Python:

    from ometria_replica.singer import OmetriaTap

    OmetriaTap(config={"api_key": "..."}).sync_all()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ometria_replica.singer.tap import OmetriaTap

__all__ = ["OmetriaTap"]


def __getattr__(name: str) -> Any:
    """Import the tap when it is asked for: the modules below it need no SDK."""
    if name != "OmetriaTap":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from ometria_replica.singer.tap import OmetriaTap  # noqa: PLC0415 -- As above.
    except ModuleNotFoundError as error:
        if error.name != "singer_sdk":
            raise
        raise ModuleNotFoundError(
            "ometria_replica.singer needs the Meltano SDK, which is not installed:"
            " pip install 'ometria-replica[singer]'",
            name=error.name,
        ) from error
    return OmetriaTap
