"""Rewrite stored rows whose columns the settings now exclude or hash."""
