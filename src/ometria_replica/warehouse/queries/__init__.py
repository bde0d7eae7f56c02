"""Queries of a user, which can only read: one file for each kind of warehouse."""
