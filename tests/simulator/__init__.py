"""The simulator is a product: these tests say what it promises."""

from __future__ import annotations
