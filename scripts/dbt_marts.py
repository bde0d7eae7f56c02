"""The reference page of the marts, made from what the dbt package says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

MARTS = Path(__file__).resolve().parent.parent / "dbt" / "models" / "marts"
PROPERTIES = ("_email.yml", "_people.yml", "_orders.yml")

_DOCS = re.compile(r"{% docs (\w+) %}\n(.*?){% enddocs %}", re.DOTALL)
_DOC = re.compile(r"{{ doc\('(\w+)'\) }}")
_GRAIN = "ometria.unique_together"


def sections() -> str:
    """Make a section for each mart: its words, its grain, and its columns."""
    return "\n\n".join(_section(mart) for mart in marts())


def marts() -> list[dict[str, Any]]:
    """Give what the package says of each mart, with the blocks of text in their places."""
    texts = _texts()
    found: list[dict[str, Any]] = []
    for name in PROPERTIES:
        read = yaml.safe_load((MARTS / name).read_text(encoding="utf-8"))
        found += [_filled(mart, texts) for mart in read["models"]]
    return found


def _texts() -> dict[str, str]:
    return {
        name: text.strip()
        for path in sorted(MARTS.glob("*.md"))
        for name, text in _DOCS.findall(path.read_text(encoding="utf-8"))
    }


def _filled(mart: dict[str, Any], texts: dict[str, str]) -> dict[str, Any]:
    def fill(text: str) -> str:
        return _DOC.sub(lambda found: texts[found.group(1)], text)

    columns = [{**each, "description": fill(each["description"])} for each in mart["columns"]]
    return {**mart, "description": fill(mart["description"]), "columns": columns}


def _section(mart: dict[str, Any]) -> str:
    grain = next(test[_GRAIN] for test in mart["data_tests"] if _GRAIN in test)
    key = ", ".join(f"`{column}`" for column in grain["arguments"]["columns"])
    # The tests of the package run the queries, on the marts.
    text = mart["description"].replace("```sql", "```sql no-run")
    lines = [f"## `{mart['name']}`", "", text, "", f"Unique: {key}.", "", *_table(mart["columns"])]
    return "\n".join(lines)


def _table(columns: list[dict[str, Any]]) -> Iterator[str]:
    yield "| column | meaning |"
    yield "| --- | --- |"
    for column in columns:
        yield f"| `{column['name']}` | {column['description']} |"
