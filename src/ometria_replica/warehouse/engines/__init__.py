"""Databases that run the merge statements themselves: one file for each."""
