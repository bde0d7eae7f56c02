from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.locks import ROOT, RUNTIME, extras, pins

from ometria_replica.version import __version__
from ometria_simulator import Account, Feed, serve
from tests.docs.test_repository import FORBIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.slow

WHEEL = f"ometria_replica-{__version__}-py3-none-any.whl"
SDIST = f"ometria_replica-{__version__}.tar.gz"
SBOM = "ometria-replica.cdx.json"


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, the packages of ``runtime.txt``, and nothing else."""

    bin: Path
    folder: Path

    def run(
        self, program: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, without the variables of this one's Python."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        return subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env={**clean, **(env or {})},
            capture_output=True,
            text=True,
            check=False,
        )


FILES = ("LICENSE", "Makefile", "Containerfile", "hatch_build.py", "pyproject.toml", ".gitignore")
FOLDERS = ("src", "tests", "dbt", "docs", "requirements", "scripts", "examples")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build twice, in folders of other names, under another umask, from files of other times."""
    one, other = map(tmp_path_factory.mktemp, ("one", "another-place"))
    return _build(one, 0o022), _build(other, 0o077)


def _build(folder: Path, umask: int) -> Path:
    before = os.umask(umask)
    try:
        for name in FOLDERS:
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=shutil.copyfile,
            )
        for path in [*ROOT.glob("*.md"), *map(ROOT.joinpath, FILES)]:
            shutil.copyfile(path, folder / path.name)
    finally:
        os.umask(before)
    done = subprocess.run(
        [sys.executable, "-m", "scripts.dist", "made"],
        cwd=folder,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1790000000", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "made"


@pytest.fixture(scope="module")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Install the wheel without an index: what it needs is linked from where the tests run."""
    folder = tmp_path_factory.mktemp("user")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    (site,) = (folder / "env").glob("lib/python*/site-packages")
    for path in _runtime_files():
        top, place = path.parts[0], Path(str(path.locate()))
        if top not in {"..", "__pycache__"} and not (site / top).exists():
            (site / top).symlink_to(place.parents[len(path.parts) - 2] if path.parts[1:] else place)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "env" / "bin" / "python")]
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*pip, "install", *options, str(built[0] / WHEEL)], check=True)
    return Installed(folder / "env" / "bin", folder)


def _runtime_files() -> Iterator[metadata.PackagePath]:
    """Find the files of what the lock of the runtime installs on this machine."""
    for pin in pins(RUNTIME):
        if not pin.marker or pin.marker == "sys_platform != 'emscripten'":
            yield from metadata.files(pin.name) or ()


def names(folder: Path) -> tuple[list[str], list[str]]:
    with zipfile.ZipFile(folder / WHEEL) as wheel, tarfile.open(folder / SDIST) as sdist:
        return wheel.namelist(), sdist.getnames()


def test_two_builds_are_the_same_byte_for_byte(built: tuple[Path, Path]) -> None:
    """Wherever and whenever they are made: so anybody can check a release."""
    one, other = ({path.name: path.read_bytes() for path in each.iterdir()} for each in built)

    assert one == other
    assert {WHEEL, SDIST, SBOM, "SHA256SUMS"} < one.keys()
    for line in one["SHA256SUMS"].decode().splitlines():
        digest, name = line.split()
        assert hashlib.sha256(one[name]).hexdigest() == digest


def test_the_wheel_holds_both_packages_and_nothing_else(built: tuple[Path, Path]) -> None:
    """And the dbt package: no tests, no scripts, no benchmark, no file of an editor or of a run."""
    wheel, _ = names(built[0])
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    } | {
        f"ometria_replica/models/{path.relative_to(ROOT)}"
        for path in (ROOT / "dbt").rglob("*")
        if path.is_file() and not {"target", "logs"} & {*path.parts}
    }
    about = f"ometria_replica-{__version__}.dist-info"

    assert {name for name in wheel if not name.startswith(about)} == sources
    assert {name.removeprefix(f"{about}/") for name in wheel if name.startswith(about)} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", f"sboms/{SBOM}",
    }  # fmt: skip


def test_the_sdist_holds_what_the_wheel_is_built_from_and_its_tests(
    built: tuple[Path, Path],
) -> None:
    """A distributor can build it and run the tests; benchmarks stay in the repository."""
    _, sdist = names(built[0])
    tops = {name.split("/")[1] for name in sdist}

    assert {"src", "tests", "docs", "scripts", "requirements", "hatch_build.py", "sbom"} <= tops
    assert not tops & {"bench", "dist", "made", ".venv", ".git"}
    assert [name for name in sdist if "__pycache__" in name] == []


def test_the_list_of_components_names_what_is_locked(built: tuple[Path, Path]) -> None:
    """Each with its version, its licence, and the SHA-256 of its files; in the wheel too."""
    made = built[0]
    bom = json.loads((made / SBOM).read_bytes())
    with zipfile.ZipFile(made / WHEEL) as wheel:
        within = wheel.read(f"ometria_replica-{__version__}.dist-info/sboms/{SBOM}")

    assert within == (made / SBOM).read_bytes()
    assert bom["metadata"]["component"]["version"] == __version__
    assert {(each["name"], each["version"]) for each in bom["components"]} == {
        (pin.name, pin.version) for pin in pins(RUNTIME)
    }
    assert all(each["licenses"] and each["properties"] for each in bom["components"])
    graph = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    assert "typer" in {each.partition("@")[0] for each in graph["ometria-replica"]}
    assert len(list(made.glob("*.cdx.json"))) == 1 + len(extras())


def test_no_list_of_components_names_a_machine(built: tuple[Path, Path]) -> None:
    """Neither a path, nor where packages come from."""
    texts = {path.name: path.read_text("utf-8") for path in built[0].glob("*.cdx.json")}

    assert [name for name, text in texts.items() if str(built[0].parent) in text] == []
    assert [
        (name, word) for name, text in texts.items() for word in FORBIDDEN if word in text
    ] == []


def test_the_installed_program_says_its_version_and_its_commands(installed: Installed) -> None:
    """In an environment that has only what the program needs."""
    version = installed.run("ometria-replica", "--version")
    shown = installed.run("ometria-replica", "--help")
    imported = installed.run(
        "python", "-c", "import ometria_replica; print(ometria_replica.__version__)"
    )

    assert version.stdout == f"ometria-replica {__version__}\n", version.stderr
    assert "sync" in shown.stdout
    assert imported.stdout == f"{__version__}\n"


def test_the_installed_program_syncs_an_account(installed: Installed, tmp_path: Path) -> None:
    """With the packages of ``runtime.txt`` alone."""
    account = Account.create(profiles=20, lists=2, email_events=100)
    (tmp_path / "feed").mkdir()
    Feed(account, tmp_path / "feed").export_history()
    with serve(account, requests_per_second=None) as server:
        settings = {
            "OMETRIA_API_URL": server.url,
            "OMETRIA_API_KEY": server.key,
            "OMETRIA_FEED_URL": str(tmp_path / "feed"),
            "OMETRIA_SOURCE_ID": "uk",
        }
        synced = installed.run("ometria-replica", "sync", "--json", env=settings)

    assert synced.returncode == 0, synced.stderr
    loaded = {each["table"]: each["inserted"] for each in json.loads(synced.stdout)["tables"]}
    assert loaded["profiles"] == 20
    assert loaded["lists"] == 2
    assert loaded["email_events"] > 0


@pytest.mark.parametrize(
    ("extra", "arguments", "setting"),
    [
        ("postgres", ["sync"], ("OMETRIA_WAREHOUSE_URL", "postgresql://nobody@localhost/none")),
        ("delta", ["sync"], ("OMETRIA_WAREHOUSE_URL", "delta:///none")),
        ("iceberg", ["sync"], ("OMETRIA_WAREHOUSE_URL", "iceberg+sqlite:///none.db")),
        ("snowflake", ["sync"], ("OMETRIA_WAREHOUSE_URL", "snowflake://a:b@c/d")),
        ("report", ["report", "--html", "x.html"], ("OMETRIA_SOURCE_ID", "uk")),
        ("traces", ["sync"], ("OMETRIA_TRACES", "true")),
        ("lineage", ["sync"], ("OMETRIA_LINEAGE", "true")),
    ],
)
def test_an_extra_that_is_missing_is_named(
    installed: Installed, extra: str, arguments: list[str], setting: tuple[str, str]
) -> None:
    """With the command that installs it."""
    env = {"OMETRIA_API_KEY": "a-key", "OMETRIA_SOURCE_ID": "uk", "OMETRIA_FEED_URL": "."}
    ended = installed.run("ometria-replica", *arguments, env={**env, setting[0]: setting[1]})

    assert ended.returncode == 2, ended.stderr
    assert f"pip install 'ometria-replica[{extra}]'" in ended.stderr.replace("\n", " ")
