# make compare   sets up a virtual environment and runs the main job with what ships, offline
# make test      sets up the same environment with the test tools, lints, checks types and tests
# make test-fast runs what one runs while working: the tests that are not marked slow
# make cover     runs all tests and says which lines they leave out
# make docs      builds the site with all its examples into docs/_build/html, and checks its links
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: compare test test-fast cover docs clean
compare: $(VENV)/.compare
	$(BIN)/hybridus compare

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/pytest

test-fast: $(VENV)/.test
	$(BIN)/pytest -m 'not slow'

cover: $(VENV)/.test
	$(BIN)/pytest --cov=hybridus --cov-report=term:skip-covered

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/links.py docs/_build/html

$(VENV)/.compare: setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@ $(VENV)/.compare

$(VENV)/.docs: setup.cfg pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet --editable '.[docs]'
	touch $@ $(VENV)/.compare

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hybridus needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Use make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis hybridus-results docs/_build docs/gallery docs/api/generated
