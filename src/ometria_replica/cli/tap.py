"""The program ``tap-ometria``: the Singer tap, with the exit codes of ``ometria-replica``."""

from __future__ import annotations

import logging
import os
import sys
import traceback

from ometria_replica import stopping
from ometria_replica.cli.output import OutputClosed, guard_streams
from ometria_replica.errors import ReplicaError

logger = logging.getLogger("tap-ometria")


def main() -> None:
    """Run the tap; log each ReplicaError as a message and exit with its code."""
    guard_streams()
    stopping.listen()
    try:
        from ometria_replica.singer import OmetriaTap

        OmetriaTap.cli()
    except ReplicaError as error:
        logger.error("%s", error)  # noqa: TRY400 -- The message says all, and the traceback nothing.
        raise SystemExit(error.exit_code) from None
    except ModuleNotFoundError as error:
        if error.name != "singer_sdk":
            raise
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    except stopping.Stopped as stop:
        logger.error("Stopped. The last state holds; the next run continues from there.")  # noqa: TRY400 -- As above.
        sys.stderr.flush()
        os._exit(stop.exit_code)  # Requests in flight are dropped.
    except OutputClosed as closed:
        raise SystemExit(closed.exit_code) from None
    except Exception as error:  # noqa: BLE001 -- Its message may quote personal data.
        traceback.print_tb(error.__traceback__)
        logger.error(  # noqa: TRY400 -- As above.
            "Bug in tap-ometria: %s (traceback above). The last state holds. Please report it.",
            type(error).__name__,
        )
        raise SystemExit(1) from None
