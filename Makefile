# Everything runs in one environment of its own, made on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo bench truth sim seed test lint types setup clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/iperfpy demo

test: lint types
	$(BIN)/python -m pytest -q

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

# make bench ARGS="--only kcp --rounds 3"
bench: $(VENV)/.bench-installed
	$(BIN)/python -m tests.studies.speed $(ARGS)

# as root: report against wire, over network namespaces. make truth ARGS="--only kcp-bbr"
truth: $(VENV)/.installed
	$(BIN)/python -m tests.studies.wire $(ARGS)

# The grid of simulated paths: make sim ARGS="--quick", ARGS="--only policer", ARGS="--minutes 30"
sim: $(VENV)/.bench-installed
	$(BIN)/python -m tests.studies.paths $(ARGS)

# The report that the project began with, in the simulator: kcp and kcp-bbr, up and down
seed: $(VENV)/.dev-installed
	$(BIN)/python -m tests.studies.paths.seed

setup: $(VENV)/.dev-installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(VENV)/.installed $@

$(VENV)/.bench-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
