"""``python -m ometria_simulator`` is the command ``ometria-simulator``."""

from __future__ import annotations

import sys

from ometria_simulator.cli import main

sys.exit(main())
