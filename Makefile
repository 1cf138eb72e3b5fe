# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` install what they need first; `make help` lists everything.

PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
export PYTHONDONTWRITEBYTECODE ?= 1
export RUFF_CACHE_DIR ?= .build/ruff

.DEFAULT_GOAL := help
.PHONY: help setup test-setup agent demo check format lint types unit agent-check test integration conformance bench soak docs gen clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1 \t\2/' | expand -t 16

setup: ## install what is missing and build the agent (the other targets do this first)
	@command -v $(PYTHON) >/dev/null || { echo "atoll: $(PYTHON) not found: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) tools/setup.py

test-setup:
	@$(PYTHON) tools/setup.py --tests

agent: setup ## build the agent (a part of `setup`)

demo: setup ## run real code in real sandboxes
	@$(BIN)/python examples/demo.py

check: setup lint types unit ## format, lint, types, unit and repository tests

format: setup ## rewrite the Python and Rust sources in the house format
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix . ; cd agent && cargo fmt

lint: setup
	@$(BIN)/ruff format --quiet --check . || { $(BIN)/ruff format --check . ; echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .

types: setup
	@$(BIN)/mypy

unit: setup
	@$(PYTEST) tests/unit tests/repo

agent-check: setup ## format, lints and tests of the Rust agent
	@$(PYTHON) tools/agent_check.py

test: test-setup lint types agent-check ## everything CI runs
	@$(PYTEST) tests

integration: test-setup ## tests against the real server and runtimes
	@$(PYTEST) tests/contracts tests/network tests/browser tests/integration tests/security

conformance: test-setup ## unmodified third-party clients against the server
	@$(PYTEST) tests/conformance

bench: setup ## measure, beside the baselines, into benchmarks/results/latest.json (BENCH="--quick")
	@$(BIN)/python -m benchmarks $(BENCH)

soak: test-setup ## the slow tests: hundreds of sandboxes, long streams
	@$(PYTEST) tests -m soak

gen: setup ## write the generated sources and reference pages
	@$(BIN)/python tools/unasync.py
	@$(BIN)/python tools/reference.py

docs: test-setup ## check the pages: generated ones up to date, every example runs
	@$(BIN)/python tools/reference.py --check
	@$(PYTEST) tests/repo tests/integration/test_docs_examples.py

clean: ## remove what `make` made, here; installed packages stay
	@rm -rf .build .venv agent/target server/src/atoll_server/_bin benchmarks/results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
