# Every target sets up what it needs. UV and PYTHON may be overridden.
ifndef PYTHON
# It is chosen when something is set up with it, and once.
PYTHON = $(eval PYTHON := $(or $(shell python3 requirements/choose_python.py),python3))$(PYTHON)
endif
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
UV := .cache/bootstrap/bin/uv
STAMP := $(VENV)/.installed
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo up postgres interfaces browser test test-long bench bench-console fuzz lint fmt types imports lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trunkline needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -m venv .cache/bootstrap
	@.cache/bootstrap/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt

$(STAMP): $(UV) pyproject.toml requirements/dev.txt hatch_build.py src/trunkline/gateway/_pump.c
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

postgres:
	@tests/support/install-postgres

interfaces:
	@tests/support/install-slirp4netns

browser:
	@tests/support/install-browser

test: $(STAMP) postgres interfaces browser  ## run the tests that CI runs
	$(BIN)/python -m pytest -n 2 -m "not long"

test-long: $(STAMP) postgres interfaces browser  ## run the tests that take minutes, too
	$(BIN)/python -m pytest -n 2 --timeout 1200

bench: $(STAMP)  ## compare the relay with nginx and HAProxy, and the host with Microsoft's
	@$(BIN)/python -m benchmarks.relay
	@$(BIN)/python -m benchmarks.host
	@$(BIN)/python -m benchmarks.access
	@$(BIN)/python -m benchmarks.start

bench-console: $(STAMP) browser  ## measure what a console page with fifty live sessions costs
	@$(BIN)/python -m benchmarks.console

FUZZ_SECONDS ?= 60
FUZZ := .cache/fuzz
$(FUZZ)/.installed: $(STAMP) requirements/fuzz.txt
	@$(UV) venv --quiet --allow-existing --python $(BIN)/python $(FUZZ)
	@$(UV) pip sync --quiet --python $(FUZZ)/bin/python --require-hashes requirements/platform.txt
	@$(UV) pip install --quiet --python $(FUZZ)/bin/python --require-hashes -r requirements/fuzz.txt
	@touch $@

fuzz: $(FUZZ)/.installed  ## search for bytes that break something (FUZZ_SECONDS=60 for each target)
	@for target in scanner door host packages; do \
	  mkdir -p .cache/fuzz-found/$$target; \
	  echo "fuzz: $$target, $(FUZZ_SECONDS) s"; \
	  PYTHONPATH=src:. $(FUZZ)/bin/python -m fuzz.$$target -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
	    -verbosity=0 -artifact_prefix=.cache/fuzz-found/$$target/ .cache/fuzz-found/$$target fuzz/corpus/$$target \
	    || { echo "fuzz: $$target found something: .cache/fuzz-found/$$target"; exit 1; }; \
	done

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
	$(LOCK) --extra platform --extra otel --extra postgres --group dev pyproject.toml -o requirements/dev.txt
	echo uv | $(LOCK) - -o requirements/bootstrap.txt
	$(LOCK) requirements/sdk.in -o requirements/sdk.txt
	$(LOCK) requirements/oidc.in -o requirements/oidc.txt
	$(LOCK) requirements/schemathesis.in -o requirements/schemathesis.txt
	$(LOCK) requirements/bench-host.in -o requirements/bench-host.txt
	$(LOCK) requirements/fuzz.in -o requirements/fuzz.txt

clean:  ## remove what the other targets made
	rm -rf src/trunkline/gateway/_pump.*.so $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache demo-output
