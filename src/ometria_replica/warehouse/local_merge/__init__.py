"""The merge for remotes: rows and state are copied into a DuckDB in memory, and merged there."""
