# make run [PERSONA=coder] [ARGS="--incremental"] · make test · make check · make bench · make .venv

PYTHON ?= python3
PERSONA ?= coder
ARGS ?=
PY := .venv/bin/python

.PHONY: run test check bench clean

run: .venv
	@$(PY) main.py --persona $(PERSONA) $(ARGS)

test: .venv/dev
	@$(PY) -m pytest

check: .venv/dev
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy

bench: .venv/dev
	@$(PY) benchmarks/bench.py

# Set up once, and again where a requirement changed. The stamp is written last: a set-up that was cut short starts anew.
.venv: .venv/installed
.venv/installed: requirements.txt requirements-embedded.txt
	@echo "Setting up .venv (a minute or two, once) ..."
	@$(PYTHON) -m venv .venv
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-embedded.txt
	@touch .venv/installed

.venv/dev: .venv/installed requirements-dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch .venv/dev

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
