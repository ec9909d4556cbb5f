# The commands of the README. Each target first sets up what it needs; from the second call on, that takes seconds.
# Without make: docs/set_up.md. `lab`, `app`, `course` and `test` are commands of course_lib.

# The Python that .venv is made from: 3.11 or newer.
PYTHON ?= python3
# The address of a package index to take PyTorch, and nothing else, from: README.md names that of the small build for
# machines without an NVIDIA card. Without it, pip's own settings hold. It is used when packages are installed.
TORCH_INDEX ?=
# A PyTorch other than the one in constraints.txt: TORCH="==2.6.0" or TORCH=">=2.6".
TORCH ?=
# The checkpoint folder of `make poem-page`; without it, the aligned model that comes with the course.
CHECKPOINT ?=

.DEFAULT_GOAL := help
.PHONY: help lab app venv course quick test lint hygiene notebooks pictures poem-page site badges links memory hosted clean

python := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)/python
hosted := $(subst .venv,.venv-hosted,$(python))
constraints := $(if $(TORCH),.venv/constraints.txt,constraints.txt)
install := $(python) -m pip install --constraint $(constraints)
torch := $(if $(TORCH_INDEX),$(install) --no-deps --index-url $(TORCH_INDEX) torch)

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The kernel named python3 is the one in .venv, even if the user has installed another.
export JUPYTER_PREFER_ENV_PATH := 1
# Every file here is UTF-8; Windows needs to be told.
export PYTHONUTF8 := 1

help: ## list the targets
	@awk -F ':.*## ' 'FILENAME ~ /json$$/ { split($$0, pair, /^ "|": "|",?$$/); chinese[pair[2]] = pair[3] } \
	  FILENAME == "Makefile" && /^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 in chinese ? chinese[$$2] : $$2 }' \
	  $(if $(filter zh%,$(COURSE_LANG)),assets/chinese.json) Makefile

lab: .venv/ready-lab ## open the course in JupyterLab
	$(python) -m course_lib lab

app: .venv/ready-app ## open the title box and the chat box, as a web page
	$(python) -m course_lib app

venv: .venv/ready-lab ## set up .venv and start nothing: for VS Code

course: .venv/ready-lab ## run all notebooks from top to bottom and save their outputs
	$(python) -m course_lib course

quick: .venv/ready-test ## check style, types and the fast tests: for everyone who changes a line
	$(python) -m course_lib test quick

test: .venv/ready-test ## check everything: style, types, all tests, and the notebooks on a short schedule
	$(python) -m course_lib test

lint: .venv/ready-test ## check style and types only
	$(python) -m course_lib test lint

hygiene: .venv/ready-lab ## check that the notebooks can be committed
	$(python) scripts/check_notebooks.py

notebooks: course ## run all notebooks, clean them, and check that they can be committed
	$(python) scripts/check_notebooks.py

pictures: .venv/ready-test ## take the pictures of the README again, in a browser
	COURSE_BROWSER=required COURSE_PICTURES=assets/pictures $(python) -m pytest --quiet tests/browser -k picture

poem-page: .venv/ready-export ## build the page that writes poems without a server, in build/poem (needs npm)
	$(python) scripts/build_poem_page.py $(CHECKPOINT)

site: .venv/ready-site ## build the site to read, in build/site; poem-page is a part of it if that was made before
	$(python) scripts/build_site.py

badges: .venv/ready-lab ## write the address of the remote `origin` into README and notebooks
	$(python) scripts/write_badges.py

links: .venv/ready-lab ## follow every link of README and notebooks
	$(python) scripts/check_links.py --online

memory: .venv/ready-lab ## run all notebooks within 2 GB, as on Binder, and print the peak of each
	$(python) scripts/measure_memory.py

hosted: .venv-hosted/ready ## run all notebooks with the old widgets and the old IPython of a host, without a clone
	rm -rf build/hosted && mkdir -p build/hosted && cp $(wildcard notebooks/*.ipynb) build/hosted
	COURSE_FAST=1 PYDEVD_DISABLE_FILE_VALIDATION=1 $(hosted) scripts/run_notebooks.py $(patsubst notebooks/%,build/hosted/%,$(wildcard notebooks/*.ipynb))

clean: ## remove .venv and the caches; keep poems, notebooks and checkpoints
	rm -rf .venv .venv-hosted build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/made:
	@found=$$($(PYTHON) --version 2>&1) || found="not found"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "The course needs Python 3.11 or newer; $(PYTHON) is $$found. 课程需要 Python 3.11 或更新的版本。"; \
	  echo "If you have a newer one, name it: make $(or $(MAKECMDGOALS),lab) PYTHON=python3.12"; \
	  exit 1; } >&2
	@echo "Setting up .venv. This happens once and takes a few minutes. 正在准备 .venv，只有第一次要等几分钟。"
	$(PYTHON) -m venv .venv
	@touch $@

.venv/constraints.txt: .venv/made constraints.txt
	sed 's/^torch==.*/torch$(TORCH)/' constraints.txt > $@

.venv/ready-lab: .venv/made pyproject.toml $(constraints)
	$(torch)
	$(install) --editable '.[lab]'
	@touch $@

.venv/ready-app: .venv/made pyproject.toml $(constraints)
	$(torch)
	$(install) --editable '.[app]'
	@touch .venv/ready-lab $@

.venv/ready-export: .venv/made pyproject.toml $(constraints)
	$(torch)
	$(install) --editable '.[export]'
	@touch $@

.venv/ready-site: .venv/made pyproject.toml $(constraints)
	$(torch)
	$(install) --editable '.[site]'
	@touch $@

.venv/ready-test: .venv/made pyproject.toml $(constraints)
	$(torch)
	$(install) --editable '.[test]'
	@touch .venv/ready-lab .venv/ready-app .venv/ready-export .venv/ready-site $@

# IPython and the widgets are as old as Colab's; all else is as in constraints.txt. As on Colab, the package is not
# editable.
.venv-hosted/ready: .venv/made pyproject.toml constraints.txt $(wildcard course_lib/*.py course_lib/*/*.py)
	$(PYTHON) -m venv .venv-hosted
	sed -e 's/^ipython==.*/ipython==7.34.0/' -e 's/^ipykernel==.*/ipykernel==6.17.1/' -e 's/^ipywidgets==.*/ipywidgets==7.7.1/' \
	  -e '/^jupyterlab_widgets==/d' -e '/^widgetsnbextension==/d' constraints.txt > .venv-hosted/constraints.txt
	$(if $(TORCH_INDEX),$(hosted) -m pip install --quiet --constraint .venv-hosted/constraints.txt --no-deps --index-url $(TORCH_INDEX) torch)
	$(hosted) -m pip install --quiet --constraint .venv-hosted/constraints.txt ipykernel nbclient nbformat .
	$(hosted) -c 'import IPython, ipykernel, ipywidgets as w; \
	  assert (IPython.__version__, ipykernel.__version__, w.__version__) == ("7.34.0", "6.17.1", "7.7.1")'
	@touch $@
