"""The definition of the tap for Meltano's hub, and an example project, from the tap's settings."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ometria_replica.singer.settings import CAPABILITIES, DESCRIPTION, NAME, config_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIANT = "ometria-replica"
PACKAGE = "ometria-replica[singer]"
HEAD = "# Written by `make docs` from the settings of the tap.\n"
KINDS = {"number": "string"}
"""Meltano 4.4 has the kind ``decimal``, and cannot write its values into the config of a tap."""


def definition() -> str:
    """Write the file that Meltano's hub has of an extractor, in YAML."""
    top = {
        "name": NAME,
        "variant": VARIANT,
        "namespace": NAME.replace("-", "_"),
        "label": "Ometria",
        "description": DESCRIPTION,
        "executable": NAME,
        "pip_url": PACKAGE,
        "keywords": ["meltano_sdk", "api", "s3"],
        "maintenance_status": "active",
        "domain_url": "https://ometria.com",
        "capabilities": list(CAPABILITIES),
        "settings_group_validation": [["api_key"], ["feed_url"]],
    }
    lines = [HEAD + _yaml(top), "settings:"]
    for setting in settings():
        first, *others = _yaml(setting).splitlines()
        lines += [f"- {first}", *(f"  {line}" for line in others)]
    return "\n".join(lines) + "\n"


def project() -> str:
    """Write a project of Meltano that loads an account into JSON lines, and into PostgreSQL."""
    return f"""{HEAD}default_environment: dev
send_anonymous_usage_stats: false
environments:
- name: dev
plugins:
  extractors:
  - name: {NAME}
    namespace: {NAME.replace("-", "_")}
    pip_url: {json.dumps(PACKAGE)}
    executable: {NAME}
    capabilities: {json.dumps(list(CAPABILITIES))}
    settings:
{_indented(_kinds(), 4)}
    config:
      account_id: "1042"
      source_id: ometria-uk
      # The key is in the variable TAP_OMETRIA_API_KEY, or in .env beside this file.
      # feed_url: s3://acme-exports/ometria/
      # feed.region: eu-west-1
    select:
    - profiles.*
    - lists.*
    - member_lists.*
    - unsubscribes.*
    - email_events.*
    - rejects.*
    # - orders.*
  loaders:
  - name: target-jsonl
    namespace: target_jsonl
    pip_url: target-jsonl
    executable: target-jsonl
    settings:
    - {{"name": "destination_path", "kind": "string"}}
    - {{"name": "do_timestamp_file", "kind": "boolean"}}
    config:
      destination_path: output
      do_timestamp_file: false
  - name: target-postgres
    namespace: target_postgres
    pip_url: meltanolabs-target-postgres
    executable: target-postgres
    settings:
    - {{"name": "sqlalchemy_url", "kind": "string", "sensitive": true}}
    - {{"name": "default_target_schema", "kind": "string"}}
    config:
      # The address is in the variable TARGET_POSTGRES_SQLALCHEMY_URL, or in .env.
      default_target_schema: ometria
"""


def settings() -> Iterator[dict[str, Any]]:
    """Describe each setting as Meltano does; those of the feed have its name before theirs."""
    yield from _settings("", config_schema()["properties"])


def _settings(prefix: str, properties: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, schema in properties.items():
        if "properties" in schema:
            yield from _settings(f"{prefix}{name}.", schema["properties"])
        else:
            yield _setting(f"{prefix}{name}", schema)


def _setting(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    kind = "options" if "enum" in schema else KINDS.get(schema["type"], schema["type"])
    setting: dict[str, Any] = {
        "name": name,
        "label": re.sub(r"[._]", " ", name).capitalize(),
        "kind": kind,
        "description": schema["description"],
    }
    if "enum" in schema:
        setting["options"] = [{"label": each, "value": each} for each in schema["enum"]]
    if "default" in schema:
        setting["value"] = schema["default"]
    if schema.get("secret"):
        setting["sensitive"] = True
    return setting


def _kinds() -> str:
    short = (
        {k: each[k] for k in ("name", "kind", "sensitive") if k in each} for each in settings()
    )
    return "\n".join(f"- {json.dumps(each)}" for each in short)


def _indented(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())


def _yaml(values: Mapping[str, Any]) -> str:
    """Write values as JSON, which YAML contains."""
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in values.items())
