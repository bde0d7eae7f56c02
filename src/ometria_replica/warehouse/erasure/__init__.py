"""Erasure: find what is held of a person, remove it, and keep it from coming back."""
