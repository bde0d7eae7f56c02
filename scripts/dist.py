"""
Build a release, the same bytes for the same commit: ``make dist``.

``dist`` then holds the wheel, the sdist, the lists of components (SBOM) and ``SHA256SUMS``. The
list of what the wheel itself needs is in the wheel too.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts import sbom
from scripts.locks import ROOT


def main(arguments: list[str] | None = None) -> int:
    """Build into a new folder; fail if the metadata is not as an index wants it."""
    parser = argparse.ArgumentParser(description="Build the wheel, the sdist and the SBOMs.")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "dist")
    folder = parser.parse_args(arguments).folder
    os.environ.setdefault("SOURCE_DATE_EPOCH", _commit_time())
    os.umask(0o022)  # Modes are part of the archives.
    for made in (folder, ROOT / "sbom"):
        shutil.rmtree(made, ignore_errors=True)
    sbom.main([str(ROOT / "sbom")])
    _run("build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    archives = sorted(folder.iterdir())
    _run("twine", "check", "--strict", *map(str, archives))
    for listed in sorted((ROOT / "sbom").iterdir()):
        shutil.copyfile(listed, folder / listed.name)
    (folder / "SHA256SUMS").write_text("".join(map(_sum, sorted(folder.iterdir()))), "utf-8")
    return 0


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True, cwd=ROOT)


def _commit_time() -> str:
    """Return when the last commit was made, in seconds; a fixed time outside a clone."""
    answer = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "1580601600"  # As hatchling has it.


def _sum(path: Path) -> str:
    return f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


if __name__ == "__main__":
    raise SystemExit(main())
