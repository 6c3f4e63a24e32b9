# Each target sets up what it needs, on a Debian with Python 3.11 or newer, git and make; as root or with sudo.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLAYERS := tests/browser/node_modules
# nginx and haproxy are there, also for those who are not root
export PATH := $(PATH):/usr/sbin:/sbin

export PYTHON

.DELETE_ON_ERROR:
.PHONY: demo test lint bench clean

# Two origins, a proxy in front of them, streams through it.
demo: $(VENV)/.installed $(VENV)/.media
	$(BIN)/python -m srsproxy.demo

test: lint $(VENV)/.installed $(VENV)/.media $(VENV)/.browser $(PLAYERS)/.installed
	$(BIN)/pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed $(VENV)/.media $(VENV)/.bench
	$(BIN)/python benchmarks/run.py

# Everything that these targets made, but no settings and no logs.
clean:
	rm -rf $(VENV) $(PLAYERS) build dist srsproxy.egg-info benchmarks/build
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	tools/debian-packages venv
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

# The players of the browser tests: exactly those of the lock file.
$(PLAYERS)/.installed: tests/browser/package.json tests/browser/package-lock.json | $(VENV)/.browser
	cd tests/browser && npm ci
	touch $@

# Packages for: media (tests and demo), browser (tests), bench.
$(VENV)/.media $(VENV)/.browser $(VENV)/.bench: $(VENV)/.%: tools/debian-packages | $(BIN)/python
	tools/debian-packages $*
	touch $@
