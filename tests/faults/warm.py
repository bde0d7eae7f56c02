"""What each child would do again: imported once by the server from which they are forked."""

from __future__ import annotations

from ometria_replica.ometria.certificates import trusted

trusted(None, None)
