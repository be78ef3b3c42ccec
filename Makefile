# Every target works as the only command on a fresh clone: it makes its environment first.
# The newest Python up to 3.13, or whatever python3 is. A name may be there and not start: pyenv's are.
ifndef PYTHON
PYTHON := $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$name && break; done)
endif
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: setup train test test-slow test-reliability test-lowest audit lint types bench bench-gpu docs pictures reference results paper help

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python from 3.11 on was found: install one, or name it with make PYTHON=..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(STAMP)  ## create $(VENV) and install the tested versions

train: setup  ## train the three stages on the embedded digits (ARGS="overrides" are passed on)
	$(BIN)/python train.py $(ARGS)

test: setup  ## the default test suite
	$(BIN)/python -m pytest -q -n auto --dist worksteal $(ARGS)

test-slow: setup  ## the tests marked slow
	$(BIN)/python -m pytest -q -m slow --timeout=1800 $(ARGS)

test-reliability: setup  ## every test of tests/reliability, and docs/reliability.md from their counts (an hour)
	$(BIN)/python -m pytest -q tests/reliability -m 'slow or not slow' --timeout=3600 --junitxml=$(VENV)/reliability.xml $(ARGS)
	$(BIN)/python tests/reliability/page.py $(VENV)/reliability.xml docs/reliability.md

test-lowest: setup  ## the default suite with the lowest versions that pyproject.toml allows
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --extra dev pyproject.toml --output-file $(VENV)/lowest.txt
	$(BIN)/uv venv --quiet --allow-existing $(VENV)/lowest
	VIRTUAL_ENV=$(VENV)/lowest $(BIN)/uv pip sync --quiet $(VENV)/lowest.txt
	PYTHONPATH=. $(VENV)/lowest/bin/python -m pytest -q -n auto --dist worksteal -W ignore::DeprecationWarning $(ARGS)

audit: setup  ## known vulnerabilities of the tested versions, from PyPI's database
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: setup  ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	$(BIN)/mypy

bench: setup  ## the benchmarks; rewrites benchmarks/README.md (leave the machine alone meanwhile)
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-gpu: setup  ## the benchmarks that need a GPU (ROOT=folder of tiny-imagenet-100)
	$(BIN)/python benchmarks/gpu_loss.py
	$(BIN)/python benchmarks/gpu_imagenet.py
	$(BIN)/python benchmarks/gpu_recipe.py --root $(ROOT)

results: setup  ## regenerate RESULTS.md, its pages and figures, and the tables of README.md from results/
	$(BIN)/drolt results --readme README.md --readme docs/findings.md --readme docs/finetuning.md

reference: setup  ## regenerate docs/configuration.md from conf/, annotations and docstrings
	$(BIN)/drolt reference

docs: reference results  ## build the documentation as a site in site/; any broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

paper: setup  ## the figures of docs/paper.md from their numbers, or measured (RUNS=folder of their runs)
	$(BIN)/drolt paper docs/paper.md $(if $(RUNS),--runs $(RUNS))

pictures: setup  ## the drawings of docs/: diagrams, what a run prints, and its page (which needs Chromium)
	$(BIN)/python docs/figures/drawings.py
	$(BIN)/python docs/figures/terminal.py
	$(BIN)/python docs/figures/report.py

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
