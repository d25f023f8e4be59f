# make run [PERSONA=coder] [ARGS="--incremental"] · make test · make check · make bench · make .venv

PYTHON ?= python3
PERSONA ?= coder
ARGS ?=
PY := .venv/bin/python
# PyTorch's own index of builds for processors: on Linux PyPI's torch brings CUDA. Empty: always PyPI's.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

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
# An index that does not answer is not handed to pip, which would try it five times for every package.
.venv: .venv/installed
.venv/installed: requirements.txt requirements-embedded.txt
	@$(PYTHON) -m venv .venv
	@index=""; what="torch for CUDA from PyPI: about 3 GB to fetch, 5.6 GB on the disk"; \
	if [ "$$(uname)" != Linux ]; then \
		what="torch from PyPI: about 0.5 GB to fetch, 2 GB on the disk"; \
	elif [ -n "$(TORCH_INDEX)" ] && ! nvidia-smi -L > /dev/null 2>&1; then \
		if timeout 9 $(PY) -c "import urllib.request as u; u.urlopen('$(TORCH_INDEX)/torch/', timeout=8)" 2> /dev/null; then \
			index="--extra-index-url $(TORCH_INDEX)"; \
			what="no NVIDIA GPU: torch for processors, about 0.5 GB to fetch, 2 GB on the disk"; \
		else \
			what="no NVIDIA GPU, but $(TORCH_INDEX) does not answer: pip's own torch, from PyPI 3 GB (5.6 GB on the disk)"; \
		fi; \
	fi; \
	echo "Setting up .venv, once ($$what) ..."; \
	$(PY) -m pip install --quiet --disable-pip-version-check $$index -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-embedded.txt
	@touch .venv/installed

.venv/dev: .venv/installed requirements-dev.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch .venv/dev

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis
