"""
The tables as a Singer tap, built with the Meltano SDK.

The program is `tap-ometria`; in Python:

    from ometria_replica.singer import OmetriaTap

    OmetriaTap(config={"api_key": "..."}).sync_all()
"""

from __future__ import annotations

try:
    import singer_sdk as _sdk  # noqa: F401 -- Only to name it in the message.
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        "ometria_replica.singer needs the Meltano SDK, which is not installed:"
        " pip install 'ometria-replica[singer]'",
        name=_error.name,
    ) from _error

from ometria_replica.singer.tap import OmetriaTap

__all__ = ["OmetriaTap"]
