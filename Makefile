# Every target sets up what it needs. UV and PYTHON may be overridden.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
UV := .cache/bootstrap/bin/uv
STAMP := $(VENV)/.installed
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-long bench lint fmt types imports lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trunkline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .cache/bootstrap
	@.cache/bootstrap/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt

$(STAMP): $(UV) pyproject.toml requirements/dev.txt
	@echo "setting up $(VENV): about a minute, once" >&2
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP)  ## make the virtual environment

demo: $(STAMP)  ## start everything, hold one spoken conversation, end
	@$(BIN)/python samples/voice/demo.py

up: $(STAMP)  ## start the platform on 127.0.0.1:8080 (another: make up PORT=8090)
	@$(BIN)/trunkline up --port $(PORT)

test: $(STAMP)  ## run the tests that CI runs
	$(BIN)/python -m pytest -n 2 -m "not long"

test-long: $(STAMP)  ## run the tests that take minutes, too
	$(BIN)/python -m pytest -n 2 --timeout 1200

bench: $(STAMP)  ## compare the relay with nginx and HAProxy, and the host with Microsoft's
	@$(BIN)/python -m benchmarks.relay
	@$(BIN)/python -m benchmarks.host

lint: $(STAMP)  ## check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) types imports

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports

fmt: $(STAMP)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(UV)  ## write the lock files anew
	$(LOCK) pyproject.toml -o requirements/agent.txt
	$(LOCK) --extra platform pyproject.toml -o requirements/platform.txt
	$(LOCK) --extra platform --extra otel --group dev pyproject.toml -o requirements/dev.txt
	echo uv | $(LOCK) - -o requirements/bootstrap.txt
	$(LOCK) requirements/sdk.in -o requirements/sdk.txt
	$(LOCK) requirements/bench-host.in -o requirements/bench-host.txt

clean:  ## remove what the other targets made
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo-output
