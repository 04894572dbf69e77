# The commands of the project; `make` alone lists them. Python 3.11 or 3.12 and a package index are all that they need.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name))))
export PATH := $(CURDIR)/$(BIN):$(PATH)

# One thread per process on a shared machine, no usage reports, no hub: the same on a laptop and in CI.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 \
	RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=0

.DEFAULT_GOAL := help
.PHONY: help env demo test check check-format check-lint check-types check-imports format neo4j neo4j-stop neo4j-import benchmarks fuzz constraints clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(READY) ## Make the environment in .venv (a second run does nothing)

# `uv venv` and not `python -m venv`: it needs no ensurepip, which Debian ships apart from python.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || \
		{ echo 'No Python 3.11 or 3.12 was found: install one, or name it with make env PYTHON=/path/to/python3.11' >&2; exit 1; }
	@set -e; \
	uv=$$(command -v uv || true); \
	if [ -z "$$uv" ] || ! "$$uv" --version >/dev/null 2>&1; then \
		uv=$(VENV)/bootstrap/bin/uv; \
		[ -x $$uv ] || $(PYTHON) -m pip install --quiet --disable-pip-version-check --target $(VENV)/bootstrap uv || \
			{ echo 'uv could not be installed: install uv or pip (Debian: python3-pip) and run make env again' >&2; exit 1; }; \
	fi; \
	[ -x $(BIN)/python ] || "$$uv" venv --quiet --allow-existing --python $(PYTHON) $(VENV); \
	"$$uv" pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev,notebooks]'
	@touch $@

demo: $(READY) ## Two platforms to one served answer on MovieLens; Ctrl-C stops it (ONCE=1: stops by itself)
	@$(BIN)/isthmus demo $(if $(ONCE),--once)

test: $(READY) ## Run everything that CI runs: format, lint, types, imports, tests with coverage
	@$(MAKE) --no-print-directory --keep-going check; checked=$$?; \
	$(TEST_ENVIRONMENT) $(BIN)/pytest --numprocesses 2 --no-loadscope-reorder --cov --cov-report=term:skip-covered --durations=10 && exit $$checked

check: check-format check-lint check-types check-imports ## Format, lint, types and import directions alone

check-format: $(READY)
	@$(BIN)/ruff format --check .

check-lint: $(READY)
	@$(BIN)/ruff check .

check-types: $(READY)
	@$(BIN)/mypy

check-imports: $(READY)
	@$(BIN)/lint-imports

format: $(READY) ## Format the code and mend what lint can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

neo4j: $(READY) ## Start a Neo4j with its Browser on 127.0.0.1 and say its URL and password
	@$(BIN)/python deploy/neo4j/server.py start

neo4j-stop: $(READY) ## Stop that Neo4j; its data stay in var/neo4j
	@$(BIN)/python deploy/neo4j/server.py stop

neo4j-import: $(READY) ## Fill that Neo4j, while it is empty, with what isthmus bulk write left in var/bulk
	@$(BIN)/python deploy/neo4j/server.py import

benchmarks: $(READY) ## Print the figures of docs/benchmarks.md (ONLY=startup: one of them)
	@set -e; for name in $(or $(ONLY),$(basename $(notdir $(wildcard benchmarks/*.py)))); do \
		echo "== python -m benchmarks.$$name"; $(BIN)/python -m "benchmarks.$$name"; done

fuzz: $(READY) ## Ask every HTTP operation a thousand strange things, and 200 queries in every field
	@FUZZ_CASES=$(or $(CASES),500) $(TEST_ENVIRONMENT) $(BIN)/pytest -q -s --timeout 3600 tests/serve/test_fuzz.py tests/serve/test_injection.py

constraints: $(READY) ## Resolve the newest versions anew into constraints.txt
	@uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --no-annotate --no-header \
		--no-emit-index-url --output-file constraints.txt pyproject.toml

clean: ## Remove the environment and what tools left (var/ stays: it holds your graph)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* *.egg-info
