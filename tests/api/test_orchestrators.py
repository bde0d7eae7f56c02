"""Examples of orchestrators that the tests do not install use the Python API as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import yaml

from ometria_replica import sync
from tests.docs.pages import DOCS, read
from tests.forked import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from ometria_replica import Config

EXAMPLES = ("airflow/ometria_replica_dag.py", "prefect/ometria_flow.py")


@pytest.mark.slow
def test_mypy_finds_no_mistake_in_the_examples(tmp_path: Path) -> None:
    """It knows our functions and results, and nothing of Airflow and Prefect; it sees a mistake."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(read(ROOT / "examples" / EXAMPLES[0]).replace("table.inserted", "table.rows"))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--check-untyped-defs", "--ignore-missing-imports",
         "--cache-dir", str(tmp_path / "cache"), "--config-file", os.devnull,
         *(str(ROOT / "examples" / each) for each in EXAMPLES), str(wrong)],
        cwd=tmp_path, env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, checked.stdout
    assert '"TableReport" has no attribute "rows"' in errors[0]


def test_the_fields_of_the_report_that_examples_read_are_there(config: Config) -> None:
    """By their names in texts, which mypy does not see."""
    document = sync(config, "lists", dry_run=True).to_dict()
    texts = [read(ROOT / "examples" / each) for each in EXAMPLES]
    workflow = read(ROOT / "examples" / "github-actions" / "ometria.yml")
    of_tables = {name for text in texts for name in re.findall(r'table\["(\w+)"\]', text)}
    of_reports = {
        name for text in texts for name in re.findall(r"""report\[["'](\w+)["']\]""", text)
    }
    (row,) = re.findall(r"jq -r '(.*)'", workflow)
    of_rows = set(re.findall(r"[( ]\.(\w+)", row))

    assert of_tables | of_rows <= document["tables"][0].keys()
    assert {"records_rejected", "inserted", "table"} <= of_tables | of_rows
    assert {"tables", "run_id"} == of_reports <= document.keys()


def test_the_workflow_installs_from_a_lock_that_is_there() -> None:
    """Not with it as constraints: pip refuses a folder beside the hashes of these."""
    workflow = yaml.safe_load(read(ROOT / "examples" / "github-actions" / "ometria.yml"))
    steps = workflow["jobs"]["sync"]["steps"]
    (install,) = (step["run"] for step in steps if step.get("name") == "Install")
    (cached,) = (step["with"]["cache-dependency-path"] for step in steps if "cache" in str(step))
    locks = re.findall(r"requirements/\S+", install)

    assert locks == [cached]
    assert "--hash=sha256:" in read(ROOT / cached)
    assert "--constraint" not in install
    assert "pip install --no-deps ." in install


def test_pages_quote_their_examples() -> None:
    """What decides about a retry is the same in the page and in the file."""
    for page, example in zip(("airflow.md", "prefect.md"), EXAMPLES, strict=True):
        for text in ("error.exit_code == 75", "sync(load_config()", "report.to_dict()"):
            assert text in read(DOCS / "how-to" / page)
            assert text in read(ROOT / "examples" / example)
