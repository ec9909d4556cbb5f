"""What README.md and the pages in docs/ show is what the commands do."""

import re
import shlex
from itertools import islice
from pathlib import Path

import pytest
import torch
import typer
from typer.core import TyperGroup

from course_lib import paths
from course_lib.__main__ import app
from course_lib.checkpoints import load_checkpoint
from course_lib.generation import write
from course_lib.poems import DEMO_TITLE

COMMAND = re.compile(r"^(?:.*-m|\s+-m) course_lib (\w[^#\n]+)", re.MULTILINE)


def commands() -> list[str]:
    """The arguments of each call of `course_lib` that the READMEs and the pages in docs/ show."""
    root = Path(__file__).resolve().parent.parent
    pages = [root / "README.md", root / "README.zh-CN.md", *sorted((root / "docs").glob("*.md"))]
    code = [
        block
        for page in pages
        for block in re.findall(r"```\n(.*?)```|`([^`\n]+)`", page.read_text("utf-8"), re.DOTALL)
    ]
    return [line.strip() for parts in code for part in parts for line in COMMAND.findall(part)]


def test_the_pages_show_every_command() -> None:
    shown = {line.split()[0] for line in commands()}
    assert {"write", "finetune", "evaluate", "evaluate-loss", "lab", "app", "course", "test"} <= shown


@pytest.mark.parametrize("line", commands())
def test_the_commands_of_the_pages_are_understood(line: str) -> None:
    name, *arguments = shlex.split(line)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    command = group.commands[name]
    command.make_context(name, arguments)  # raises if an option or its value is unknown


@pytest.mark.slow
def test_the_poems_of_the_readme_are_those_that_the_commands_write(repository: Path) -> None:
    lines = (repository / "README.md").read_text("utf-8").splitlines()
    row = next(line for line in lines if line.startswith("|") and "<br>" in line)
    shown = [cell.strip().replace("<br>", "\n") for cell in row.strip("|").split("|")]
    base, finetuned = (load_checkpoint(paths.ASSETS / "checkpoints" / name) for name in ("base", "finetuned"))
    beginning = shown[0].removesuffix("\n… and on, to the limit")
    assert "".join(islice(write(base, DEMO_TITLE), len(beginning))) == beginning
    stream = write(finetuned, DEMO_TITLE, candidates=8)
    poem = "".join(stream)
    assert stream.reason == "end"
    count = len(poem.replace("\n", ""))
    assert shown[1] == f"{poem.strip()}\n(ended by itself after {count} characters)"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_program_of_the_page_opens_a_checkpoint_with_transformers_and_writes_verse(
    page: str, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", (repository / page).read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(repository)
    torch.manual_seed(0)
    exec(program, {})
    lines = capsys.readouterr().out.strip().split("\n")
    assert len(lines) >= 2
    assert all(line.endswith("。") for line in lines)
