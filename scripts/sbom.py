"""
Write the list of components of a release (SBOM) as CycloneDX: ``make dist`` does.

It is made from the lock files, so that it names every platform's packages, needs no network and
is the same on each machine. Licences are those of ``docs/reference/licences.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from scripts.licences import LICENCES, listed
from scripts.locks import ROOT, RUNTIME, Pin, extras, pins

SCHEMA = SchemaVersion.V1_6
PROJECT = "ometria-replica"
_VERSION = ROOT / "src" / "ometria_replica" / "version.py"


def main(arguments: list[str] | None = None) -> int:
    """Write ``ometria-replica.cdx.json``, and ``ometria-replica-EXTRA.cdx.json`` of each extra."""
    parser = argparse.ArgumentParser(description="Write the list of components as CycloneDX.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for extra, lock in {"": RUNTIME, **extras()}.items():
        name = f"{PROJECT}-{extra}" if extra else PROJECT
        (folder / f"{name}.cdx.json").write_text(components(lock, extra), encoding="utf-8")
    print(f"Wrote {1 + len(extras())} lists of components to {folder}.")
    return 0


def components(lock: Path, extra: str = "") -> str:
    """
    Return the list of what *lock* pins, as JSON; *extra* is its extra, "" for none.

    Raises ValueError if the text does not follow CycloneDX's own schema.
    """
    licences = {
        (each.name, each.version): each.licence for each in listed(LICENCES.read_text("utf-8"))
    }
    project = Component(
        name=PROJECT,
        version=version(),
        type=ComponentType.APPLICATION,
        bom_ref=PROJECT,
        purl=PackageURL("pypi", None, PROJECT, version(), {"extra": extra} if extra else None),
        licenses=[LicenseFactory().make_from_string("MIT")],
    )
    bom = Bom(serial_number=_serial_number(lock, extra))
    bom.metadata.component = project
    bom.metadata.timestamp = _timestamp()
    bom.metadata.tools.components.clear()  # The library's version does not change the list.
    pinned = pins(lock)
    parts = {pin.name: _component(pin, licences[pin.name, pin.version]) for pin in pinned}
    bom.components.update(parts.values())
    wanted: dict[str, list[Component]] = {}
    for pin in pinned:
        for name in pin.wanted_by:
            wanted.setdefault(name, []).append(parts[pin.name])
    for name, part in {PROJECT: project, **parts}.items():
        bom.register_dependency(part, wanted.get(name, []))
    return _checked(JsonV1Dot6(bom).output_as_string())


def version() -> str:
    """Read the version of the project, without importing it."""
    return _VERSION.read_text("utf-8").split('__version__ = "')[1].split('"')[0]


def _component(pin: Pin, licence: str) -> Component:
    return Component(
        name=pin.name,
        version=pin.version,
        bom_ref=f"{pin.name}@{pin.version}",
        purl=PackageURL("pypi", None, pin.name, pin.version),
        licenses=[LicenseFactory().make_from_string(licence)],
        properties=[
            *([Property(name="ometria-replica:marker", value=pin.marker)] if pin.marker else []),
            *(Property(name="ometria-replica:sha256", value=each) for each in pin.hashes),
        ],
    )


def _checked(text: str) -> str:
    """Return a text with sorted keys. Raises ValueError if the schema refuses it."""
    if problem := JsonStrictValidator(SCHEMA).validate_str(text):
        raise ValueError(f"The list of components is not as CycloneDX has it: {problem}")
    return json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _serial_number(lock: Path, extra: str) -> uuid.UUID:
    """Identify the list by its contents: equal locks of one version have one number."""
    contents = f"{PROJECT} {version()} {extra}\n{lock.read_text('utf-8')}"
    return uuid.uuid5(uuid.NAMESPACE_OID, contents)


def _timestamp() -> datetime:
    """Return ``SOURCE_DATE_EPOCH``, in seconds; the time of the last commit by `make dist`."""
    return datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)


if __name__ == "__main__":
    raise SystemExit(main())
