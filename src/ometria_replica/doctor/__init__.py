"""Tests everything that a sync needs, and changes nothing: the command ``check``."""
