# Everything here needs only python (3.11 or newer), make, and pip's package index. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NEWEST_FIRST := python3 python3.14 python3.13 python3.12 python3.11
SUPPORTED := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(NEWEST_FIRST); do if "$$p" -c '$(SUPPORTED)' 2>/dev/null; then echo "$$p"; exit; fi; done)
# The tests wait for processes much of the time: two workers for each core keep the cores busy.
WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
ARGS ?=

# Without its compiled modules on disk, every one of the many processes that the tests start would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

SOURCES := $(wildcard libs services sidecar tests bench)
PROJECTS := libs/agentcom-client . $(patsubst %/pyproject.toml,%,$(wildcard sidecar/pyproject.toml))

.DEFAULT_GOAL := help
.PHONY: help setup demo run test test-rest test-all lint format types bench lock clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## create .venv and install what requirements.lock pins (again only when it changed)

$(STAMP): requirements.lock $(PROJECTS:%=%/pyproject.toml)
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null; then \
	  echo "AgentCom needs Python 3.11 or newer: install it, or say which one with 'make setup PYTHON=/path/to/python3'." >&2; \
	  exit 1; fi
	@if [ ! -x $(BIN)/python ]; then \
	  "$(PYTHON)" -m venv $(VENV) || { \
	    echo "$(PYTHON) could not create a virtual environment: install its venv module (Debian: apt install python3-venv)." >&2; \
	    exit 1; }; fi
	@echo "installing the locked packages into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	  $(foreach project,$(PROJECTS),--editable $(project))
	@touch $(STAMP)

demo: setup ## run a hub with three example agents and watch tasks go through (PORT=4000)
	@$(if $(PORT),PORT=$(PORT)) $(BIN)/agentcom demo $(ARGS)

run: setup ## run the whole hub on one port, with its own Redis under ./.data (PORT=4000)
	@$(if $(PORT),PORT=$(PORT)) $(BIN)/agentcom up $(ARGS)

test: setup ## the tests, in parallel, without the chaos and slow ones
	@$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -m "not chaos and not slow" $(ARGS)

test-rest: setup ## the chaos and slow tests, one after the other
	@$(BIN)/pytest -m "chaos or slow" $(ARGS) || { code=$$?; [ $$code -eq 5 ] && echo "no chaos or slow test" || exit $$code; }

test-all: test test-rest ## all tests

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check $(SOURCES)
	@$(BIN)/ruff format --check $(SOURCES)

format: setup ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

types: setup ## mypy, strict
	@$(BIN)/mypy $(filter-out sidecar,$(SOURCES))
	@if [ -d sidecar ]; then cd sidecar && ../$(BIN)/mypy --config-file ../pyproject.toml .; fi

bench: setup ## measure this machine (see bench/)
	@$(BIN)/python -m bench $(ARGS)

lock: ## resolve requirements.lock anew (needs uv: pip install uv)
	@uv=$$(command -v $(BIN)/uv || command -v uv) || { echo "make lock needs uv: pip install uv" >&2; exit 1; }; \
	"$$uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --extra dev -o requirements.lock \
	  --no-emit-package agentcom-client $(patsubst ./%,%,$(PROJECTS:%=%/pyproject.toml))

clean: ## remove what the targets made, except the data under .data
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
