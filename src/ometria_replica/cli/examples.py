"""Examples of each command, for its help: what follows the name of the program."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "sync": ("sync", "sync profiles lists --since 7d", "sync --full --dry-run"),
    "backfill": ("backfill --since 2026-01-01 --until 2026-01-31", "backfill lists --since 30d"),
    "init": ("init", "init --yes --key-file key.txt --feed s3://bucket/prefix"),
    "plan": ("plan", "plan sync --full", "plan backfill lists --since 30d --offline"),
    "check": ("check", "check --json"),
    "status": ("status", "status email_events --max-age 26h"),
    "report": ("report --html report.html", "report --html report.html --days 90"),
    "query": (
        'query "SELECT count(*) FROM ometria.profiles"',
        'query --csv "FROM ometria.lists" > lists.csv',
    ),
    "verify": ("verify", "verify profiles --all --repair", "verify --sample 0.2 --requests 500"),
    "runs": ("runs", "runs --limit 1 --json"),
    "tables": ("tables", "tables profiles lists", "tables --format sql --for postgresql"),
    "fields": ("fields", "fields profiles --json"),
    "config": ("config", "config --config staging.toml --json"),
    "erase": ("erase --email ann@example.com --dry-run", "erase --file ids.csv --yes"),
    "rehash": ("rehash", "rehash --reload"),
    "maintain": ("maintain --dry-run", "maintain email_events --retention 14d"),
    "demo": ("demo", "demo --profiles 500 --lists 5 --events 2000"),
    "completion": ("completion bash", "completion fish > ometria-replica.fish"),
    "state show": ("state show",),
    "state rewind": ("state rewind email_events", "state rewind profiles lists --since yesterday"),
    "rejects list": ("rejects list --limit 10", "rejects list --raw --json"),
    "rejects replay": ("rejects replay",),
    "models build": (
        "models build",
        "models build --timezone Europe/London --attribution-days 3",
        "models build --select +email_sends --full-refresh",
        "models build --into marts.duckdb",
    ),
    "models list": ("models list", "models list --json"),
    "models docs": ("models docs --html models.html",),
    "models export": ("models export dbt/ometria",),
}
"""By the name of the command. Each line is parsed by a test, and some are run."""
