"""`lab`, `app`, `course` and `test` start what they say, in the repository, and end as it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from course_lib import paths
from course_lib.__main__ import main

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")


class Started:
    """A stand-in for `subprocess.Popen`: it starts nothing, and notes the arguments and what is new in the settings."""

    calls: list[tuple[list[str], dict[str, str]]]
    statuses: list[int]  # of the programs, in order; 0 for all others

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        assert (command[0], cwd) == (sys.executable, paths.HOME)
        new = {name: value for name, value in env.items() if os.environ.get(name) != value}
        self.calls.append((command[1:], new))

    def __enter__(self) -> Started:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    def wait(self) -> int:
        return self.statuses.pop(0) if self.statuses else 0


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Started]]:
    Started.calls, Started.statuses = [], []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for name in ("JUPYTER_PREFER_ENV_PATH", "PYTHONUTF8", "COURSE_FAST", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subprocess, "Popen", Started)
    yield Started
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("command", "program", "files"),
    [
        ("lab", ["-m", "jupyterlab"], [".jupyterlab/jupyter_lab_config.py"]),
        ("app", ["-m", "voila", "app/poem.ipynb"], ["app/poem.ipynb"]),
        ("course", ["scripts/run_notebooks.py"], ["scripts/run_notebooks.py"]),
    ],
)
def test_a_command_starts_a_program_of_the_repository_and_hands_options_on(
    started: type[Started], command: str, program: list[str], files: list[str]
) -> None:
    assert main([command, "--port", "8890", "--no-browser"]) == 0
    ((arguments, settings),) = started.calls
    assert arguments[: len(program)] == program
    assert arguments[-3:] == ["--port", "8890", "--no-browser"]
    assert all(any(argument.endswith(file) for argument in arguments) for file in files)
    assert all((paths.HOME / file).is_file() for file in files)
    assert settings == {"JUPYTER_PREFER_ENV_PATH": "1", "PYTHONUTF8": "1"}


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_jupyterlab_runs_for_the_root_user_too(
    started: type[Started], monkeypatch: pytest.MonkeyPatch, user: int, allowed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    main(["lab"])
    assert ("--allow-root" in started.calls[0][0]) is allowed


@pytest.mark.parametrize(("language", "folder"), [("en", "notebooks"), ("zh", "notebooks/zh")])
def test_jupyterlab_opens_the_first_notebook_in_the_readers_language(
    started: type[Started], monkeypatch: pytest.MonkeyPatch, language: str, folder: str
) -> None:
    monkeypatch.setenv("COURSE_LANG", language)
    main(["lab"])
    ((arguments, _),) = started.calls
    page = f"{folder}/01_data_formatting.ipynb"
    assert f"--LabApp.default_url=/lab/tree/{page}" in arguments
    assert (paths.HOME / page).is_file()


def test_lint_checks_style_and_types_quick_the_fast_tests_and_test_everything(started: type[Started]) -> None:
    def planned(*words: str) -> list[str]:
        started.calls.clear()
        assert main(["test", *words]) == 0
        return [" ".join(arguments) for arguments, _ in started.calls]

    lint = planned("lint")
    assert lint == ["-m ruff check", "-m ruff format --check", "-m mypy"]
    *first, quick = planned("quick")
    assert first == lint
    assert quick.startswith("-m pytest ")
    assert "-m not slow" in quick
    assert "nbval" not in quick
    assert started.calls[-1][1].keys() >= {"OMP_NUM_THREADS"}
    *first, everything = planned()
    assert first == lint
    assert "--nbval " in everything
    assert "slow" not in everything
    assert everything.endswith(" notebooks tests")
    assert started.calls[-1][1]["COURSE_FAST"] == "1"


@pytest.mark.parametrize(("of_the_program", "of_the_command"), [(3, 3), (-15, 143)])
def test_the_first_program_that_fails_ends_the_command_with_its_status(
    started: type[Started], of_the_program: int, of_the_command: int
) -> None:
    started.statuses = [0, of_the_program]
    assert main(["test", "quick"]) == of_the_command
    assert len(started.calls) == 2


@pytest.mark.parametrize(
    ("command", "package"), [("lab", "jupyterlab"), ("course", "jupyterlab"), ("app", "voila"), ("test", "pytest")]
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(
    started: type[Started],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    package: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    extra = "lab" if package == "jupyterlab" else command
    assert main([command]) == 2
    assert f'python -m pip install -c constraints.txt -e ".[{extra}]"' in capsys.readouterr().err
    assert started.calls == []


def test_the_package_alone_says_that_it_needs_the_repository(
    started: type[Started], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(paths, "HOME", tmp_path)
    assert main(["lab"]) == 2
    assert "clone the repository" in capsys.readouterr().err
    assert started.calls == []


PROGRAM = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # as JupyterLab, which first asks
    sys.exit(8)
"""
COMMAND = """
import pathlib, sys
from course_lib import paths
paths.HOME = pathlib.Path(sys.argv[1])
from course_lib.__main__ import main
sys.exit(main(["course"]))
"""


@POSIX
@pytest.mark.parametrize(("number", "group", "status"), [(signal.SIGTERM, False, 7), (signal.SIGINT, True, 8)])
def test_the_program_decides_what_a_signal_does(tmp_path: Path, number: int, group: bool, status: int) -> None:
    """A terminal sends Ctrl-C to the command and to its program, a container SIGTERM to the command alone."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/run_notebooks.py").write_text(PROGRAM)
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", COMMAND, str(tmp_path)], **settings) as command:
        assert command.stdout
        assert command.stdout.readline() == "ready\n"
        (os.killpg if group else os.kill)(command.pid, number)
        assert command.wait(timeout=60) == status
