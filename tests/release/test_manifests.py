"""The examples for schedulers, and the workflows, against the schemas of those who read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.markers import Marker
from scripts.locks import extras, pins

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text(encoding="utf-8")
EXAMPLES = ROOT / "examples"
KUBERNETES = EXAMPLES / "kubernetes" / "ometria-replica.yaml"


def ran(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )


def containers() -> dict[str, dict[str, Any]]:
    """Find the container of each example."""
    *_, cron = yaml.safe_load_all(KUBERNETES.read_text(encoding="utf-8"))
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    run = yaml.safe_load((EXAMPLES / "cloud-run" / "job.yaml").read_text(encoding="utf-8"))
    task = json.loads((EXAMPLES / "ecs" / "task-definition.json").read_text(encoding="utf-8"))
    ecs = task["containerDefinitions"][0]
    return {
        "kubernetes": pod["containers"][0],
        "cloud-run": run["spec"]["template"]["spec"]["template"]["spec"]["containers"][0],
        "ecs": {
            "args": ecs["command"],
            "env": ecs["environment"] + ecs["secrets"],
            "volumeMounts": [{"mountPath": each["containerPath"]} for each in ecs["mountPoints"]],
        },
    }


@pytest.mark.slow
def test_kubernetes_takes_the_manifest() -> None:
    """By its own schemas, without fields that it does not know."""
    done = ran("kubernetes_validate", "--strict", str(KUBERNETES))

    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.slow
def test_the_forge_takes_the_workflows() -> None:
    """By the schema that is published for them."""
    workflows = sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
    done = ran("check_jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)

    assert workflows
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_ecs_takes_the_task_definition() -> None:
    """By the shape of the AWS API's request, and its policy by moto's IAM."""
    import boto3  # noqa: PLC0415 -- half a second, for a slow test alone.
    from botocore.validate import ParamValidator  # noqa: PLC0415 -- as above.
    from moto import mock_aws  # noqa: PLC0415 -- as above.

    request = json.loads((EXAMPLES / "ecs" / "task-definition.json").read_text(encoding="utf-8"))
    policy = (EXAMPLES / "ecs" / "task-role-policy.json").read_text(encoding="utf-8")
    client = boto3.client("ecs", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
    shape = client.meta.service_model.operation_model("RegisterTaskDefinition").input_shape
    with mock_aws():
        iam = boto3.client("iam", "eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")
        created = iam.create_policy(PolicyName="read", PolicyDocument=policy)

    assert ParamValidator().validate(request, shape).generate_report() == ""
    assert created["Policy"]["PolicyName"] == "read"


@pytest.mark.parametrize("name", ["kubernetes", "cloud-run", "ecs"])
def test_the_examples_run_a_command_with_settings_that_exist(name: str) -> None:
    """A misspelled variable would be ignored in silence."""
    container = containers()[name]
    known = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")

    assert container["args"] == ["--log-format", "json", "sync"]
    assert {each["name"] for each in container["env"]} <= set(re.findall(r"OMETRIA_\w+", known))


@pytest.mark.parametrize("name", ["kubernetes", "cloud-run", "ecs"])
def test_the_examples_mount_what_the_image_writes(name: str) -> None:
    """All else may be read-only."""
    volumes = re.search(r"^VOLUME (.+)$", CONTAINERFILE, re.MULTILINE)

    assert volumes is not None
    assert [each["mountPath"] for each in containers()[name]["volumeMounts"]] == json.loads(
        volumes.group(1)
    )


def copied() -> set[str]:
    """Name the files and folders of the project that the build of the image copies."""
    return {
        name.rstrip("/")
        for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }


def test_the_image_copies_only_what_the_build_context_has() -> None:
    """Both files that name the context are alike."""
    context = (ROOT / ".containerignore").read_text(encoding="utf-8")
    allowed = {line[1:] for line in context.splitlines() if line.startswith("!")}

    assert copied() == allowed
    assert (ROOT / ".dockerignore").read_text(encoding="utf-8") == context


ALONE = {"clickhouse", "databricks", "spark"}
NOT_WITH_MODELS = {"bigquery", "dagster", "singer", "traces"}


def test_extras_go_together_in_an_image_but_for_those_that_the_page_names() -> None:
    """Two locks that pin a package in two versions cannot be installed together."""
    here = {name: _pinned(path) for name, path in extras().items()}
    apart = {
        frozenset((one, other))
        for one, other in combinations(here, 2)
        if any(here[one][name] != here[other][name] for name in here[one].keys() & here[other])
    }
    page = (ROOT / "docs" / "how-to" / "containers.md").read_text(encoding="utf-8")

    for one, other in apart:
        names = {one, other}
        has_models = any(name.startswith("models") for name in names)
        assert names & ALONE or (has_models and names & NOT_WITH_MODELS), names
    assert all(f"`{name}`" in page for name in ALONE | NOT_WITH_MODELS)


def _pinned(lock: Path) -> dict[str, str]:
    """Map what a lock installs in the image to its version."""
    here = {"sys_platform": "linux", "python_version": "3.13", "python_full_version": "3.13.5",
            "platform_system": "Linux", "platform_machine": "x86_64",
            "implementation_name": "cpython", "platform_python_implementation": "CPython",
            "os_name": "posix", "extra": ""}  # fmt: skip
    return {
        pin.name: pin.version
        for pin in pins(lock)
        if not pin.marker or Marker(pin.marker).evaluate(here)
    }


@pytest.mark.slow
def test_the_wheel_is_built_of_what_the_image_copies(tmp_path: Path) -> None:
    """It is the wheel that the whole project builds: the image lacks nothing of it."""
    context = tmp_path / "context"
    for name in copied():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, context / name)
        else:
            context.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, context / name)
    wheels = [wheel_of(context, tmp_path / "of-context"), wheel_of(ROOT, tmp_path / "of-all")]
    names = [
        {name for name in zipfile.ZipFile(wheel).namelist() if "/sboms/" not in name}
        for wheel in wheels
    ]

    assert names[0] == names[1]
    assert any(name.endswith("dbt/dbt_project.yml") for name in names[0])


def wheel_of(folder: Path, into: Path) -> Path:
    """Build a wheel as the image does."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", into],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    (wheel,) = into.glob("*.whl")
    return wheel


def test_the_workflows_ask_for_few_rights() -> None:
    """None by default but to read, and no workflow runs with the secrets of others' changes."""
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}, path
        assert "pull_request_target" not in workflow[True], path  # YAML 1.1 reads `on` so.
