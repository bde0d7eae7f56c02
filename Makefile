# Each target sets up what it needs, the first time and whenever the lock changes.
# Needed beforehand: Python 3.11 or newer, make, and a package index that pip can reach.

VENV   ?= .venv
# The first of these that is new enough; or say which: make PYTHON=python3.12 demo
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	command -v $$p >/dev/null 2>&1 \
	&& $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$p && break; done)
DEMO   ?=
TESTS  ?=
# A worker sleeps while the program under test runs, so there are more than cores.
WORKERS ?= 3
# Each worker, and each process that a test starts, takes compiled modules from the first.
# Temporary files of the tests are in memory if 8 GB are free there, and are removed at the end.
MEMORY ?= $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8000000 { print "/dev/shm" }')
EVENTS ?= 1000000
REPEAT ?= 3
BENCH  ?=

bin   := $(VENV)/bin
ready := $(VENV)/.ready
tools := $(VENV)/.tools
whole := $(VENV)/.whole
peers := $(VENV)-bench
pages := $(VENV)-site
older := $(VENV)-duckdb
dbt   := $(VENV)-dbt
code  := src tests scripts $(wildcard bench examples)
# Universal: one file for every platform and Python. Hashes: nothing else gets in.
# Where packages come from is each machine's own affair, so no address is written.
compile := $(bin)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-header $(UPGRADE)

# Each has a lock of its own, which agrees with the tests' if the packages allow it: the drivers of
# some clouds, and dbt, need older versions of what the tests use. Then only these differ: uv prefers
# the versions that are in the file before.
extras = $(shell $(bin)/python -c "import tomllib; \
	print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'])")

# What runs here. The cloud's own drivers are tried where there is an account: see docs/reference/warehouses.md.
engines := --extra simulator --extra report --extra postgres --extra delta --extra iceberg --extra dlt --extra traces --extra lineage \
	--group dev --group warehouses

pytest := folder=$$(mktemp -d $(if $(MEMORY),-p $(MEMORY))) && trap 'rm -rf "$$folder"' EXIT \
	&& TMPDIR=$$folder PYTHONDONTWRITEBYTECODE= $(bin)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --quiet

# Without an address, the site has no links to the repository, and is not told where it is served.
mkdocs := NO_MKDOCS_2_WARNING=1 SITE_URL='$(SITE_URL)' REPO_URL='$(REPO_URL)' $(pages)/bin/python -m mkdocs

comma := ,
headed = { echo '\# Written by `make lock`. $(2)'; cat $(1); } > $(1).new && mv $(1).new $(1)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format lint types imports docs walks docs-check diagram lock release dist clean \
	site site-check site-serve \
	bench bench-check bench-memory bench-tables bench-warehouses bench-api bench-flame bench-docs

help:  ## Show this list
	@awk -F ':.*  \#\# ' '/^[a-z-]+:.*  \#\# / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: $(whole)  ## Set up .venv; every other target does this by itself

demo: $(ready)  ## Sync a simulated account into warehouse.duckdb and show it
	@$(bin)/ometria-replica demo $(DEMO)
	@echo "The commands are in $(bin): \"source $(bin)/activate\" puts them on your path."

test: $(tools)  ## Run the tests, offline (TESTS="tests/docs -x" runs some)
	@$(pytest) -p no:singer_testing -m "not slow" --hypothesis-profile quick $(TESTS)

test-all: $(whole) $(older)/.ready $(dbt)/.ready  ## Run all tests: every warehouse, scenario and time zone, and Spark
	@$(pytest) --hypothesis-profile full $(TESTS)

check: lint types imports docs-check site-check test test-all  ## Everything that CI checks

format: $(ready)  ## Format the code
	@$(bin)/ruff format $(code)
	@$(bin)/ruff check --fix --quiet $(code)

lint: $(ready)  ## Check the format and style of the code
	@$(bin)/ruff format --check $(code)
	@$(bin)/ruff check $(code)

types: $(whole)  ## Check the types
	@$(bin)/mypy
	@$(bin)/mypy --cache-dir .mypy_cache/darwin --platform darwin src
	@$(bin)/mypy --cache-dir .mypy_cache/win32 --platform win32 --no-warn-unreachable src

imports: $(ready)  ## Check that imports flow one way
	@$(bin)/lint-imports --no-logo

docs: $(ready)  ## Write the generated pages
	@$(bin)/python -m scripts.reference

walks: $(ready)  ## Follow the tutorials in a terminal, each in a fresh clone, and write what it shows (needs tmux and Chromium)
	@$(bin)/python scripts/walk.py docs/tutorial/data-engineer.md docs/tutorial/analyst.md docs/tutorial/marketer.md

docs-check: $(tools)  ## Check that those pages are current
	@$(bin)/python -m scripts.reference --check
	@$(bin)/python bench/report.py --check
	@$(bin)/python bench/warehouses.py --check
	@$(bin)/python bench/tables.py --check

site: $(pages)/.ready  ## Write the documentation as a site to site/ (SITE_URL=https://… and REPO_URL=https://… once it has addresses)
	@$(mkdocs) build --strict
	@echo "Open site/index.html."

site-serve: $(pages)/.ready  ## Show the site while you write, at the address that it prints
	@$(mkdocs) serve --livereload

site-check: site  ## Check that the site is complete: pages, links and anchors, pictures, no request to another host
	@$(pages)/bin/python -m scripts.site.check site '$(SITE_URL)'

bench: $(ready) $(peers)/.ready $(peers)-ours/.ready  ## Measure this program, hand-written SQL and other tools (EVENTS=5000000 REPEAT=3)
	@$(bin)/python -m pip wheel -qq --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir bench/data/wheel .
	@$(peers)-ours/bin/python -m pip install -qq --disable-pip-version-check --no-deps --force-reinstall bench/data/wheel/*.whl
	@$(peers)/bin/python bench/run.py --events $(EVENTS) --repeat $(REPEAT) $(BENCH)

bench-check: $(ready)  ## Check that loads are no slower, against hand-written SQL in the same run
	@$(bin)/python bench/check.py

bench-memory: $(ready) $(peers)/.ready $(peers)-ours/.ready  ## Measure the peak of memory of a load and an upsert (EVENTS=20000000 LIMITS="default 281MB")
	@$(peers)/bin/python bench/memory.py $(if $(filter command line,$(origin EVENTS)),--events $(EVENTS)) --limits $(or $(LIMITS),default) $(BENCH)

bench-api: $(ready)  ## Measure how much of the request budget a sync uses
	@$(bin)/python bench/api_budget.py $(BENCH)

bench-flame: $(ready) $(peers)/.ready $(peers)-ours/.ready  ## Draw flame graphs of a load and of a sync
	@$(peers)/bin/python bench/flame.py $(BENCH)

bench-warehouses: $(tools)  ## Measure PostgreSQL: this program, hand-written SQL and dlt (EVENTS=1000000 REPEAT=3)
	@$(bin)/python bench/warehouses.py --events $(EVENTS) --repeat $(REPEAT) $(BENCH)
	@$(bin)/python bench/warehouses.py --docs

bench-tables: $(whole)  ## Measure whether the cost of each table grows faster than its rows (BENCH="--rows 250000")
	@nice $(bin)/python bench/tables.py $(BENCH)
	@$(bin)/python bench/tables.py --docs

bench-docs: $(peers)/.ready $(whole)  ## Write the newest results of make bench into the docs
	@$(bin)/python bench/warehouses.py --docs
	@$(bin)/python bench/tables.py --docs
	@$(peers)/bin/python bench/plot.py
	@$(peers)/bin/python bench/report.py

diagram: $(ready)  ## Draw the diagrams of the tables again; needs Node.js and Chromium
	@$(bin)/python scripts/diagram.py

lock: $(ready)  ## Write the lock files from pyproject.toml (UPGRADE=--upgrade takes newer versions)
	@$(compile) --extra simulator --extra report --group dev --output-file requirements/dev.txt
	@$(compile) --constraints requirements/dev.txt --output-file requirements/runtime.txt
	@$(compile) --constraints requirements/dev.txt $(engines) --output-file requirements/warehouses.txt
	@$(compile) --constraints requirements/warehouses.txt $(engines) --extra spark --extra singer --extra dagster --group engines --group release --group singer --output-file requirements/spark.txt
	@$(subst pyproject.toml,--group pyproject.toml:site,$(compile)) --constraints requirements/dev.txt --output-file requirements/site.txt
	@$(call headed,requirements/site.txt,All that `make site` needs$(comma) in an environment of its own.)
	@$(compile) --constraints requirements/runtime.txt --extra postgres --extra delta --group dbt --no-strip-extras --output-file requirements/dbt.txt
	@$(call headed,requirements/dev.txt,All that the demo$(comma) the checks and the simulator need.)
	@$(call headed,requirements/warehouses.txt,All that `make test` needs$(comma) with the warehouses that run on any machine.)
	@$(call headed,requirements/spark.txt,All that `make test-all` needs$(comma) with Spark$(comma) ClickHouse$(comma) Dagster and a Singer target.)
	@$(call headed,requirements/runtime.txt,All that ometria-replica itself needs$(comma) for users who pin versions.)
	@$(subst pyproject.toml,requirements/older-duckdb.in,$(compile)) --output-file requirements/older-duckdb.txt
	@$(call headed,requirements/older-duckdb.txt,An older DuckDB$(comma) in an environment of its own: it reads what the tests write.)
	@$(call headed,requirements/dbt.txt,All that the tests of the dbt package need$(comma) in an environment of its own.)
	@$(subst pyproject.toml,requirements/bench.in,$(compile)) --constraints requirements/dev.txt --output-file requirements/bench.txt
	@$(subst pyproject.toml,--group build,$(compile)) --constraints requirements/dev.txt --output-file requirements/build.txt
	@$(call headed,requirements/build.txt,All that building the wheel needs$(comma) for the container file.)
	@mkdir -p requirements/extras && for extra in $(extras); do \
		for lock in warehouses runtime; do \
			[ $$lock = warehouses ] || { touch requirements/extras/$$extra.txt && awk -F== \
				'/^[a-z0-9].*==/ && (FNR == NR || !seen[$$1]) { if (FNR == NR) seen[$$1] = 1; sub(/ *\\$$/, ""); print }' \
				requirements/warehouses.txt requirements/extras/$$extra.txt > requirements/extras/new \
				&& mv requirements/extras/new requirements/extras/$$extra.txt; }; \
			$(compile) --constraints requirements/$$lock.txt --extra $$extra \
				--output-file requirements/extras/$$extra.txt 2>$(VENV)/lock.log && break; \
		done || { cat $(VENV)/lock.log >&2; exit 1; }; \
		{ echo "# Written by \`make lock\`. All that ometria-replica[$$extra] needs, for users who pin versions."; \
			grep -v '^# Written by' requirements/extras/$$extra.txt; } > requirements/extras/new \
			&& mv requirements/extras/new requirements/extras/$$extra.txt; \
	done
	@$(call headed,requirements/bench.txt,All that `make bench` needs$(comma) in an environment of its own.)
	@$(bin)/python -m scripts.licences

release: $(ready)  ## Cut a release by the changelog: make release VERSION=0.2.0
	@$(bin)/python -m scripts.release $(VERSION)

dist: $(whole)  ## Build the wheel, the sdist and the lists of components into dist/
	@$(bin)/python -m scripts.dist

clean:  ## Remove .venv, caches and the demo's file
	rm -rf $(VENV) $(dbt) $(older) $(peers) $(peers)-ours $(pages) site bench/data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist sbom
	rm -f warehouse.duckdb warehouse.duckdb.wal ometria-report.html

$(ready): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { \
		echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is too old or cannot run: Python 3.11 or newer is needed. Name one: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	@echo "Setting up $(VENV) (about a minute, the first time) ..." >&2
	@test -x $(bin)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; }
	@$(bin)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(bin)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Not for the demo.
$(tools): requirements/warehouses.txt $(ready)
	@echo "Adding the warehouses that the tests run against (a minute, the first time) ..." >&2
	@$(bin)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

# Some 970 MB more.
$(whole): requirements/spark.txt $(tools)
	@echo "Adding Spark, ClickHouse, Dagster and a Singer target (a minute, the first time) ..." >&2
	@$(bin)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(pages)/.ready: requirements/site.txt | $(ready)
	@echo "Setting up $(pages), with MkDocs (half a minute, the first time) ..." >&2
	@test -x $(pages)/bin/python || $(bin)/python -m venv $(pages)
	@$(pages)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(older)/.ready: requirements/older-duckdb.txt | $(ready)
	@test -x $(older)/bin/python || $(bin)/python -m venv $(older)
	@$(older)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(dbt)/.ready: requirements/dbt.txt pyproject.toml | $(ready)
	@echo "Setting up $(dbt), with dbt (half a minute, the first time) ..." >&2
	@test -x $(dbt)/bin/python || $(bin)/python -m venv $(dbt)
	@$(dbt)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@$(dbt)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(peers)/.ready: requirements/bench.txt | $(ready)
	@echo "Setting up $(peers), with what we are measured against (a minute or two, the first time) ..." >&2
	@test -x $(peers)/bin/python || $(bin)/python -m venv $(peers)
	@$(peers)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

# What a user has: nothing that only the tests or the checks need.
$(peers)-ours/.ready: requirements/runtime.txt | $(ready)
	@test -x $(peers)-ours/bin/python || $(bin)/python -m venv $(peers)-ours
	@$(peers)-ours/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement $<
	@touch $@
