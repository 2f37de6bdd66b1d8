# Everything runs in .venv, which is made once and installed anew only when setup.py, pyproject.toml (also of an example
# in plugins/) or constraints.txt change.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet -c constraints.txt
EXAMPLES := $(wildcard plugins/*/pyproject.toml)
SPECS := setup.py pyproject.toml constraints.txt $(EXAMPLES)
PYTEST_FLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help install install-web test-web test-ray demo test test-fast lint types docs results nightly bench clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else \
		"avse needs Python 3.10 to 3.13, not " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(SPECS)
	$(PIP) -e ".[dev]" $(EXAMPLES:%/pyproject.toml=-e %)
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -e ".[docs]"
	touch $@

$(VENV)/.installed-web: $(VENV)/.installed
	$(PIP) -e ".[web]" playwright
	command -v chromium || command -v google-chrome || $(BIN)/python -m playwright install chromium || \
		echo "There is no Chromium: tests of the page in a browser are skipped."
	touch $@

install: $(VENV)/.installed  ## make .venv and install avse and the example plugins in it, with what the tests need

install-web: $(VENV)/.installed-web  ## install what the page and its tests need, with Chromium where the system has none

test-web: install-web  ## test the page of `avse web` in a browser; `make test` does so too once install-web has run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/web $(PYTEST_FLAGS)

test-ray: install  ## install Ray (half a gigabyte) and test work on a cluster of it; `make test` does so too from then on
	$(PIP) -e ".[ray]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/jobs/test_ray.py $(PYTEST_FLAGS)

demo: install  ## enhance synthetic talking faces, alone and two at once, with the embedded model; writes demo/
	$(BIN)/python -m avse.demo --output demo

test: install  ## run all tests and the examples in docstrings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

test-fast: install  ## run the tests but for those marked slow, on two cores, in less than two minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal $(PYTEST_FLAGS)

lint: install  ## check style and layout
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install  ## check types with mypy
	$(BIN)/mypy

docs: $(VENV)/.installed-docs  ## build the documentation and run its tutorials; writes docs/_build/html
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -j 2 -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

results: install  ## write the tables of READMEs, cards and docs from recipes/*/results
	$(BIN)/python benchmarks/results.py write

nightly: install  ## measure a sample of the published results again: make nightly MANIFEST=path/to/manifest.csv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/nightly.py "$(MANIFEST)"

bench: install  ## time the inferences, alone, in batches and on long clips; takes a while and wants a free machine
	$(BIN)/python benchmarks/inference.py

clean:  ## remove what was built, but not .venv
	rm -rf build dist *.egg-info demo docs/_build docs/api docs/plugins/*.md .pytest_cache .ruff_cache .mypy_cache
	find avse tests -name __pycache__ -prune -exec rm -rf {} +
