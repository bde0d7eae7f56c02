"""What a sync or a backfill would read and rewrite, before it runs: the command ``plan``."""
