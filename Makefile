# Everything the README tells you to type. Each target does the set-up that it needs; the second call takes seconds.

# Which Python .venv is made from: 3.11 or newer.
PYTHON ?= python3
# The address of one more package index, if PyTorch is to come from there: the small build for machines without
# an NVIDIA card, for instance. None is wired in; pip's own settings hold. It counts when .venv is first made.
TORCH_INDEX ?=

.DEFAULT_GOAL := help
.PHONY: help lab test course clean

python := .venv/bin/python
install := $(python) -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The kernel named python3 is the one in .venv, whatever else is installed for this user.
export JUPYTER_PREFER_ENV_PATH := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

lab: .venv/ready-lab ## open the course in JupyterLab
	$(python) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  $(if $(filter 0,$(shell id -u)),--allow-root)

test: .venv/ready-test ## check everything: lint, types, tests, and the notebooks on a shortened schedule
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy
	COURSE_FAST=1 $(python) -m pytest --nbval --nbval-current-env --nbval-cell-timeout=600 tests $(wildcard notebooks)

course: .venv/ready-lab ## run all notebooks from top to bottom and keep what they show
	$(python) scripts/run_notebooks.py

clean: ## remove .venv and the caches; poems, notebooks and checkpoints stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made:
	@found=$$($(PYTHON) --version 2>&1) || found="not to be found"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "The course needs Python 3.11 or newer; $(PYTHON) is $$found."; \
	  echo "If you have a newer one, name it: make $(or $(MAKECMDGOALS),lab) PYTHON=python3.12"; \
	  exit 1; } >&2
	@echo "Setting up .venv; this happens once and takes some minutes."
	$(PYTHON) -m venv .venv
	@touch $@

.venv/ready-lab: .venv/made pyproject.toml constraints.txt
	$(install) --editable '.[lab]'
	@touch $@

.venv/ready-test: .venv/made pyproject.toml constraints.txt
	$(install) --editable '.[test]'
	@touch .venv/ready-lab $@
