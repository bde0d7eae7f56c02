"""
Flame graphs of a load of the feed and of a sync of the API, in docs/assets/.

    python bench/flame.py --events 1000000 --profiles 10000

py-spy samples Python and the C++ below it a hundred times per second. The pictures contain
no paths of this machine.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import scenarios
from contenders.columns import SOURCE_ID
from measure import run
from sets import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCH = Path(__file__).parent
ASSETS = BENCH.parent / "docs" / "assets"


def main() -> None:
    """Draw both graphs, or one of them."""
    parser = argparse.ArgumentParser(description="Draw flame graphs of a load and of a sync.")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--profiles", type=int, default=10_000)
    parser.add_argument("--only", choices=["feed", "api"])
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--program", type=Path, default=scenarios.PROGRAM)
    options = parser.parse_args()
    if options.only != "api":
        data = scenarios.data_set(options.events, options.files)
        with scratch() as work:
            environment = {
                "OMETRIA_ACCOUNT_ID": SOURCE_ID,
                "OMETRIA_FEED_URL": str(data.first),
                "OMETRIA_WAREHOUSE_URL": f"duckdb:///{work}/bench.duckdb",
            }
            command = [options.program, "sync", "email_events"]
            _draw(
                "feed", f"Load of {options.events:,} events", command, environment, options.assets
            )
    if options.only != "feed":
        with _simulator(options.profiles) as environment:
            command = [options.program, "sync", "profiles"]
            _draw(
                "api",
                f"Sync of {options.profiles:,} profiles",
                command,
                environment,
                options.assets,
            )


@contextmanager
def _simulator(profiles: int) -> Iterator[dict[str, str]]:
    """Serve an account without latency and rate limit, so that the graph has no waits."""
    sizes = ["--profiles", str(profiles), "--lists", "1", "--events", "0"]
    command = [str(scenarios.PYTHON), "-m", "ometria_simulator", "serve", *sizes]
    command += ["--requests-per-second", "0", "--until-stdin-closes"]
    with (
        scratch() as work,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server,
    ):
        said = json.loads(server.stdout.readline()) if server.stdout else {}
        yield {
            "OMETRIA_API_KEY": said["api_key"],
            "OMETRIA_API_URL": said["api_url"],
            "OMETRIA_REQUESTS_PER_SECOND": "1000",
            "OMETRIA_WAREHOUSE_URL": f"duckdb:///{work}/bench.duckdb",
        }
        if server.stdin:
            server.stdin.close()


def _draw(
    name: str, title: str, command: list[str | Path], environment: dict[str, str], assets: Path
) -> None:
    picture = assets / f"flame-{name}.svg"
    spy = [Path(sys.executable).parent / "py-spy", "record", "--native", "--threads"]
    spy += ["--format", "flamegraph", "--rate", "100", "--output", picture, "--"]
    run([*spy, *command], environment)
    picture.write_text(_clean(picture.read_text(encoding="utf-8"), title), encoding="utf-8")
    print(f"Drawn: {picture.name}")


def _clean(text: str, title: str) -> str:
    """Reduce each path to the part below the root of a package or of this repository."""
    text = re.sub(r"(?:/[\w.+-]+)+/site-packages/", "", text)
    text = re.sub(r"(?:/[\w.+-]+)+/lib/python\d[\d.]*/", "", text)
    text = text.replace(f"{BENCH.parent}/", "")
    text = re.sub(r"(?<![\w.:/])(?:/[\w.+-]+){2,}/([\w.+-]+)", r"\1", text)
    text = re.sub(r"process \d+:\"[^\"<]*\"", "process", text)
    text = re.sub(r"thread \((?:0x)?[0-9A-Fa-f]+\)", "thread", text)
    text = re.sub(r"0x[0-9a-f]{6,16} \(", "? (", text)
    return re.sub(r"(<text id=\"title\"[^>]*>)[^<]*", rf"\g<1>{title}", text)


if __name__ == "__main__":
    main()
