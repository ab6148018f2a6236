# Every target but `help` and `clean` first sets up .venv if it is missing or outdated.

PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CONSTRAINTS := requirements/constraints.txt
# Waiting threads sleep. Threads that spin take the core from data workers and other
# jobs, and training can become tens of times slower.
export OMP_WAIT_POLICY ?= PASSIVE
PIP := $(BIN)/python -m pip --quiet --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast lint format docs clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## install everything into .venv (2 to 4 minutes, 5 GB)

$(STAMP): pyproject.toml setup.py $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: '$(PYTHON)' not found; name a Python >= 3.10: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: $$($(PYTHON) --version 2>&1) is too old; name a Python >= 3.10: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "[1/3] virtual environment in $(VENV), $$($(PYTHON) --version)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@echo "[2/3] pinned dependencies: quiet for 2 to 4 minutes, 5 GB on disk"
	@$(PIP) install -c $(CONSTRAINTS) -e '.[dev,docs,onnx,openvino,tensorboard]'
# onedl-mmcv requires opencv-python, which needs libGL: slim images and many servers
# lack it. Both builds write the same files, hence --force-reinstall.
	@echo "[3/3] opencv-python-headless instead of opencv-python"
	@$(PIP) uninstall --yes opencv-python
	@$(PIP) install -c $(CONSTRAINTS) --force-reinstall --no-deps opencv-python-headless
	@touch $@

demo: $(STAMP) ## train and predict in miniature on a CPU; results in work_dirs/demo
	$(BIN)/python -m demo

# Two processes with one thread each. The tests of a file share the models they train.
test test-fast: export OMP_NUM_THREADS ?= 1
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(STAMP) ## run all tests; options: make test PYTEST_ARGS='-k outlook'
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(STAMP) ## run the tests that take seconds
	$(PYTEST) -m 'not slow' $(PYTEST_ARGS)

lint: $(STAMP) ## check style, formatting, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(STAMP) ## fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

clean: ## remove build leftovers and caches; keep .venv and work_dirs
	rm -rf build dist docs/_build volo.egg-info volo/.mim
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find benchmarks configs demo tests tools volo -name __pycache__ -prune -exec rm -rf {} +
