"""
Draw the entity relationship diagrams from the program's own Mermaid text: docs/assets/erd.svg
has the five tables, and docs/assets/erd-all.svg all that can be replicated.

Needs Mermaid's command line (npm install @mermaid-js/mermaid-cli) as `mmdc` on the path or
in the variable MMDC, and Chromium. Neither is needed for anything else, so neither is
locked; each picture is kept in the repository, with the hash of the text it was made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ometria_replica.describe import describe

ASSETS = Path(__file__).resolve().parent.parent / "docs" / "assets"
STYLE = {
    "theme": "neutral",
    "htmlLabels": False,  # Text as SVG text: viewers that are no browsers show it too.
    "fontFamily": "Helvetica, Arial, sans-serif",
    "er": {"layoutDirection": "TB", "entityPadding": 8},
    "deterministicIds": True,
    "deterministicIDSeed": "ometria",
}


def diagrams() -> dict[Path, str]:
    """Write the text of each diagram, by the picture that is drawn from it."""
    return {
        ASSETS / "erd.svg": describe((), "mermaid"),
        ASSETS / "erd-all.svg": describe((), "mermaid", every=True),
    }


def mark(text: str) -> str:
    """Write the comment that says which text a picture was made from."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"<!-- The tables as Mermaid, sha256:{digest} -->"  # No comment may hold two dashes.


def draw(text: str, mmdc: str, chromium: str) -> str:
    """Draw *text* as SVG."""
    browser = {
        "executablePath": chromium,
        "args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, content in (("style", STYLE), ("browser", browser)):
            (place / f"{name}.json").write_text(json.dumps(content))
        (place / "erd.mmd").write_text(text)
        command = [mmdc, "-c", "style.json", "-p", "browser.json"]
        command += ["-i", "erd.mmd", "-o", "erd.svg", "-I", "erd"]
        subprocess.run(command, cwd=place, check=True, stdout=subprocess.DEVNULL)
        return (place / "erd.svg").read_text()


def main() -> int:
    """Draw the pictures that are not of their present text, and keep them."""
    mmdc = os.environ.get("MMDC") or shutil.which("mmdc")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not mmdc or not chromium:
        print("Needs mmdc (npm: @mermaid-js/mermaid-cli) and chromium.", file=sys.stderr)
        return 1
    ASSETS.mkdir(parents=True, exist_ok=True)
    for picture, text in diagrams().items():
        if picture.exists() and picture.read_text().startswith(mark(text)):
            continue
        picture.write_text(f"{mark(text)}\n{draw(text, mmdc, chromium)}\n")
        print(f"wrote {picture}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
