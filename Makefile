PYTHON ?= python3
BIN := .venv/bin
export DAGSTER_HOME := $(CURDIR)

.PHONY: help demo ui test check crashes clusters lint bench pictures clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/installed ## the whole graph on the embedded corpus: index, shards, training, samples, report
	$(BIN)/music-assets demo

ui: .venv/installed ## Dagster's web UI with its daemon, the MLflow server and the studio; Ctrl-C ends them
	$(BIN)/music-assets ui

check: lint ## lint, and the tests that are quick, in a process a core
	$(BIN)/python -m pytest -n auto -m 'not slow and not crash and not cluster'

test: .venv/installed ## all tests but those that kill servers or start clusters, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

crashes: .venv/installed ## the tests that kill the daemon, run workers and steps, some minutes
	$(BIN)/python -m pytest -m crash

clusters: .venv/installed ## the tests that start a Slurm and, where ray is installed, a Ray cluster
	$(BIN)/python -m pytest -m cluster

lint: .venv/installed ## style, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/installed ## every benchmark, ours beside its baseline
	$(BIN)/python -m benchmarks

pictures: .venv/installed ## the README's pictures, from the data of a demo; needs Chromium
	$(BIN)/python docs/pictures.py

clean: ## remove the virtual environment, not your data
	rm -rf .venv
