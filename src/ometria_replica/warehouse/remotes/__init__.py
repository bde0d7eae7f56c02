"""Targets that cannot run the merge statements: lakes, and warehouses loaded by dlt."""
