"""The models of the dbt package in the SQL of a warehouse, without dbt and its adapters."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import jinja2
import yaml

from tests.dbt.program import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BIGINTS = {"bigquery": "int64"}
TEXTS = {"bigquery": "string", "databricks": "string"}
"""What the adapters say of these two types, where it is not the word of PostgreSQL."""


class Returned(Exception):
    """The value that a macro returns."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


@dataclass
class Relation:
    """The model that is made, as SQL names it, and its name alone."""

    full_name: str
    identifier: str

    def name(self, schema: str, identifier: str) -> None:
        """Become another relation: macros keep the object that they were made with."""
        self.full_name, self.identifier = f"{schema}.{identifier}", identifier

    def __str__(self) -> str:
        """Return its name in SQL."""
        return self.full_name


@dataclass
class Dialect:
    """
    The package for a *kind* of warehouse, as dbt names it, with *variables*; *is_incremental* is
    what the macro of that name says.

    The models are in the schema of that name, and the tables of the replica in the database
    ``replica``.
    """

    kind: str
    variables: dict[str, Any]
    is_incremental: bool = False
    _refs: list[str] = field(default_factory=list)
    _config: dict[str, Any] = field(default_factory=dict)
    _this: Relation = field(default_factory=lambda: Relation("", ""))

    def model(self, name: str) -> str:
        """Give the query of a model."""
        self._refs.clear()
        path = _models()[name]
        self._this.name(self.kind, name)
        return self._environment.from_string(path.read_text(encoding="utf-8")).render()

    def macro(self, name: str, *arguments: Any, this: str = "") -> str:
        """Give what a macro of the package makes."""
        self._this.name(self.kind, this)
        return str(self._macros[name](*arguments))

    def in_order(self) -> Iterator[str]:
        """Name the models that are enabled, each after those that it is made of."""
        made: set[str] = set()

        def visit(name: str) -> Iterator[str]:
            if name in made:
                return
            made.add(name)
            self._config.clear()
            self.model(name)
            if self._config.get("enabled", True):
                for each in tuple(self._refs):
                    yield from visit(each)
                yield name

        for path in _models().values():
            if not path.stem.startswith("stg_") or self._has(path.stem):
                yield from visit(path.stem)

    def _has(self, staging: str) -> bool:
        tables = self.variables["ometria_tables"]
        return tables == "all" or staging.removeprefix("stg_ometria__") in tables

    @cached_property
    def _environment(self) -> jinja2.Environment:
        made = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        macros = SimpleNamespace()
        made.globals.update(
            ometria=macros,
            adapter=SimpleNamespace(dispatch=self._dispatched),
            dbt=SimpleNamespace(
                type_bigint=lambda: BIGINTS.get(self.kind, "bigint"),
                type_string=lambda: TEXTS.get(self.kind, "text"),
            ),
            target=SimpleNamespace(type=self.kind),
            var=lambda name, *_: self._variables[name],
            this=self._this,
            ref=self._ref,
            source=lambda schema, table: f"replica.{schema.replace('_state', '_replica')}.{table}",
            config=self._configured,
            is_incremental=lambda: self.is_incremental,
            local_md5=lambda text: hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
            tojson=json.dumps,
            none=None,
        )
        made.globals["return"] = _return
        for path in sorted((PACKAGE / "macros").glob("*.sql")):
            if path.stem.startswith("test_"):
                continue
            module = made.from_string(path.read_text(encoding="utf-8")).module
            for name, macro in vars(module).items():
                if isinstance(macro, jinja2.runtime.Macro):
                    setattr(macros, name, _returning(macro))
        return made

    @property
    def _macros(self) -> dict[str, Callable[..., Any]]:
        return vars(self._environment.globals["ometria"])

    @cached_property
    def _variables(self) -> dict[str, Any]:
        text = (PACKAGE / "dbt_project.yml").read_text(encoding="utf-8")
        return {**yaml.safe_load(text)["vars"]["ometria"], **self.variables}

    def _dispatched(self, name: str, _package: str) -> Callable[..., Any]:
        macros = self._macros
        own = macros.get(f"{self.kind}__{name}")
        return own if own is not None else macros[f"default__{name}"]

    def _ref(self, name: str) -> str:
        self._refs.append(name)
        return f"{self.kind}.{name}"

    def _configured(self, **options: Any) -> str:
        self._config.update(options)
        return ""


@cache
def _models() -> dict[str, Path]:
    return {path.stem: path for path in sorted((PACKAGE / "models").rglob("*.sql"))}


def _return(value: object) -> None:
    raise Returned(value)


def _returning(macro: jinja2.runtime.Macro) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        try:
            return macro(*arguments, **options)
        except Returned as returned:
            return returned.value

    return call
