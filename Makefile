# Every command of the project. Each does its own set-up, is idempotent, and is fast the second time.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
UV_VERSION := 0.13.9
UV := $(shell command -v uv || echo .uv/bin/uv)
BIN := .venv/bin
WORKERS ?= 2

# The Python that the system has is the one to use: no interpreter is fetched.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
unexport VIRTUAL_ENV

.PHONY: help
help: ## List the commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

# ---- environments -------------------------------------------------------------------------------

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Headrace needs Python 3.11 or newer; '$(PYTHON)' is older or missing. Install one and run make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; } \
	  || { echo "Python's venv module is missing: run 'sudo apt-get install python3-venv', then this again" >&2; exit 1; }
	$(PYTHON) -m venv .uv
	.uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.stamp: requirements.lock pyproject.toml hatch_build.py resources/postgres/copy_binary.c | $(filter .uv/bin/uv,$(UV))
	@[ -x $(BIN)/python ] || $(UV) venv --quiet --python $(PYTHON) .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: setup
setup: .venv/.stamp ## Create .venv from the lock and install Headrace into it.
	@:

.PHONY: lock
lock: $(filter .uv/bin/uv,$(UV)) ## Resolve the dependencies again and write the lock files.
	$(UV) pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command 'make lock' --all-extras --group dev pyproject.toml --output-file requirements.lock
	$(UV) pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command 'make lock' tests/services.in --output-file tests/services.lock
	$(UV) pip compile --quiet --no-config --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command 'make lock' $(RIVALS)/requirements.in --output-file $(RIVALS)/requirements.lock

.svc-venv/.stamp: tests/services.lock tests/kit/install-services tests/kit/azurite/package-lock.json | $(filter .uv/bin/uv,$(UV))
	tests/kit/install-services $(UV) $(PYTHON)
	@touch $@

.PHONY: services
services: .svc-venv/.stamp ## Install the servers that the tests run against.
	@:

# ---- checks -------------------------------------------------------------------------------------

.PHONY: test
test: setup services ## Run all tests; REQUIRE_SERVICES=1 makes a missing server a failure.
	$(BIN)/python -m pytest -q -n $(WORKERS) tests

.PHONY: test-slow
test-slow: setup services ## Run the tests that take minutes, which `make test` leaves out.
	$(BIN)/python -m pytest -q -n $(WORKERS) -m slow --timeout=1200 tests

KILLS ?= 300,postgres=1000
RACES ?= 200
CUTS ?= 500
CRASHES ?= 100
COMMITS ?= 100000
SEED ?= 1
TARGETS ?=
.PHONY: faults
faults: setup services ## Kill, race and cut loads into every destination; KILLS, RACES, CUTS, CRASHES, COMMITS, SEED, TARGETS=a,b choose.
	$(BIN)/python -W ignore -m tests.faults.campaign --failpoints --kills $(KILLS) --races $(RACES) --cuts $(CUTS) \
	  --crashes $(CRASHES) --commits $(COMMITS) --seed $(SEED) $(if $(TARGETS),--targets $(TARGETS)) --json faults.json

RIVALS := benchmarks/bench/rivals
.bench-venv/.stamp: $(RIVALS)/requirements.lock | $(filter .uv/bin/uv,$(UV))
	@[ -x .bench-venv/bin/python ] || $(UV) venv --quiet --python $(PYTHON) .bench-venv
	$(UV) pip sync --quiet --python .bench-venv/bin/python --require-hashes $(RIVALS)/requirements.lock
	@touch $@

ROWS ?= 5000000
ROUNDS ?= 3
.PHONY: bench
bench: setup services .bench-venv/.stamp ## Measure the workloads beside their limits and the rivals; ROWS and ROUNDS choose.
	$(BIN)/python -m benchmarks.bench --rows $(ROWS) --rounds $(ROUNDS) --json bench.json --page docs/benchmarks.md

.PHONY: lint
lint: setup ## Check style, types and who imports whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: setup ## Put the code into the project's style.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

# ---- things to see ------------------------------------------------------------------------------

.PHONY: demo
demo: setup ## Run the demonstration job on an embedded instance.
	$(BIN)/python -m server.demo

.PHONY: ui
ui: setup ## Open the Dagster UI on the instance of the demonstration.
	$(BIN)/python -m server.cli.main ui

.PHONY: docs
docs: setup ## Write docs/reference again from the code.
	$(BIN)/python -m server.docs
