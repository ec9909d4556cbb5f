"""`lab`, `app`, `course`, `test`: what `make` calls. They need no `make`, but a clone of the whole repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated, Literal

import typer

from course_lib import paths
from course_lib.commands.options import MISSING, Refusal
from course_lib.language import is_chinese, say

# Kernels use this Python, even if the user has another kernel of the same name. Every file is UTF-8, on Windows too.
ENVIRONMENT = {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONUTF8": "1"}
ENCRYPTED = "--KernelManager.transport_encryption=auto"  # without it, each kernel prints a warning
# Two processes of one thread each: with two threads each, they would wait for each other.
PYTEST = ("-m", "pytest", "--numprocesses=2", "--dist=loadfile")
QUICK = ("-m", "not slow", "--ignore=tests/browser", "tests")
NBVAL = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout=600", "--ignore=notebooks/zh")  # zh has the same code
ALL = ("--no-loadscope-reorder", *NBVAL, "notebooks", "tests")

What = Annotated[Literal["all", "quick", "lint"], typer.Argument(help="all, quick: the fast tests, lint: no tests.")]


def run(extra: str, *command: str, **environment: str) -> None:
    """Run this Python with the arguments `command`, in the folder of the repository.

    Raises Refusal if there is no repository, or if packages of `extra`, a list in pyproject.toml, are not installed.
    Raises typer.Exit, with the exit status of the program, if that failed.
    """
    if not (paths.HOME / "pyproject.toml").is_file():
        raise Refusal(say("only the package is installed; clone the repository, and follow its README"))
    if find_spec({"lab": "jupyterlab", "app": "voila", "test": "pytest"}[extra]) is None:
        raise Refusal(say(MISSING, extra=extra))
    settings = os.environ | ENVIRONMENT | environment
    with subprocess.Popen([sys.executable, *command], cwd=paths.HOME, env=settings) as program:
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the program too; JupyterLab then asks a question
        signal.signal(signal.SIGTERM, lambda *_: program.terminate())
        if status := program.wait():
            raise typer.Exit(status if status > 0 else 128 - status)


def lab(context: typer.Context) -> None:
    """Open the course in JupyterLab. All further options are JupyterLab's own."""
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    config = "--config=.jupyterlab/jupyter_lab_config.py"
    first = f"--LabApp.default_url=/lab/tree/notebooks/{'zh/' * is_chinese()}01_data_formatting.ipynb"
    run("lab", "-m", "jupyterlab", config, ENCRYPTED, *root, first, *context.args)


def title_box(context: typer.Context) -> None:
    """Open the title box and the chat box, as a web page. All further options are those of Voilà."""
    run("app", "-m", "voila", "app/poem.ipynb", "--Voila.config_file_paths=app", ENCRYPTED, *context.args)


def course(context: typer.Context) -> None:
    """Run all notebooks from top to bottom and save their outputs, or only those that you name."""
    run("lab", "scripts/run_notebooks.py", *context.args)


def check(what: What = "all") -> None:
    """Check style, types, all tests, and the notebooks on a short schedule."""
    for tool in ("ruff check", "ruff format --check", "mypy"):
        run("test", "-m", *tool.split())
    if what == "quick":
        run("test", *PYTEST, *QUICK, OMP_NUM_THREADS="1")
    elif what == "all":
        run("test", *PYTEST, *ALL, OMP_NUM_THREADS="1", COURSE_FAST="1")
