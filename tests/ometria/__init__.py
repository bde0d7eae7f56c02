"""What is read from Ometria: requests, pages that drift, windows, the feed."""

from __future__ import annotations
