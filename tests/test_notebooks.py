"""The notebooks of the repository can be committed and their links work; the two scripts that check this."""

import ast
from collections.abc import Callable
from pathlib import Path

import check_links
import check_notebooks
import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from run_notebooks import clean

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_fit_to_be_committed(path: Path) -> None:
    assert list(check_notebooks.faults(path)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_claim_that_fails_tells_the_learner_why(path: Path) -> None:
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    claims = [node for source in code for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert claims
    assert [ast.unparse(claim) for claim in claims if claim.msg is None] == []


def fit() -> NotebookNode:
    """A notebook without a fault."""
    notebook = new_notebook(cells=[new_markdown_cell("# One")])
    for number in (1, 2):
        shown = new_output("execute_result", {"text/plain": "2"}, execution_count=number)
        notebook.cells.append(new_code_cell("1 + 1", execution_count=number, outputs=[shown]))
    clean(notebook)
    return notebook


def checked(notebook: NotebookNode, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    nbformat.write(notebook, folder / "one.ipynb")
    status = check_notebooks.main([str(folder / "one.ipynb")])
    return status, capsys.readouterr().err.splitlines()


def test_nothing_is_said_of_a_notebook_without_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checked(fit(), tmp_path, capsys) == (0, [])


def not_run(n: NotebookNode) -> None:
    n.cells[2].execution_count = None


def out_of_order(n: NotebookNode) -> None:
    n.cells[1].execution_count, n.cells[2].execution_count = 2, 1


def run_twice(n: NotebookNode) -> None:
    n.cells[2].execution_count = 3


def failed(n: NotebookNode) -> None:
    n.cells[1].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=["no"])]


def warned(n: NotebookNode) -> None:
    n.cells[1].outputs = [new_output("stream", name="stderr", text="a.py:1: FutureWarning: soon\n")]


def widget_state(n: NotebookNode) -> None:
    n.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


def widget_view(n: NotebookNode) -> None:
    n.cells[1].outputs[0].data["application/vnd.jupyter.widget-view+json"] = {"model_id": "1"}


def version_of_python(n: NotebookNode) -> None:
    n.metadata.language_info["version"] = "3.11.7"


def times(n: NotebookNode) -> None:
    n.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-01-01T00:00:00Z"}


def too_large(n: NotebookNode) -> None:
    n.cells[1].outputs[0].data["text/plain"] = "春" * 400_000


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (not_run, "code cell 2 was not run: `make notebooks`"),
        (out_of_order, "code cell 1 was run as number 2: `make notebooks`"),
        (run_twice, "code cell 2 was run as number 3: `make notebooks`"),
        (failed, "code cell 1 ends in ValueError: mend the cell"),
        (warned, "code cell 1 shows a warning (a.py:1: FutureWarning: soon): remove its cause"),
        (widget_state, "it keeps the state of widgets, which other viewers show as errors: `make notebooks`"),
        (widget_view, "it keeps the state of widgets, which other viewers show as errors: `make notebooks`"),
        (version_of_python, "it names the Python or the times of one machine in its metadata: `make notebooks`"),
        (times, "it names the Python or the times of one machine in its metadata: `make notebooks`"),
        (too_large, "it is 1.2 MB, the most is 1 MB: show fewer"),
    ],
)
def test_each_fault_is_named_alone_with_its_cure(
    spoil: Callable[[NotebookNode], None], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = fit()
    spoil(notebook)
    status, (line,) = checked(notebook, tmp_path, capsys)
    assert status == 1
    assert line.startswith(f"one.ipynb: {says}")


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", '{"cells": 1, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}']
)
def test_a_file_that_is_not_a_notebook_is_a_fault(text: str, tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").write_text(text)
    (fault,) = check_notebooks.faults(tmp_path / "one.ipynb")
    assert fault.startswith("it is not a valid notebook (")


# --- links ----------------------------------------------------------------------------------------


def test_links_within_the_repository_lead_somewhere() -> None:
    assert check_links.main(online=False) == 0


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A repository of one page and one notebook; tests write the page."""
    (tmp_path / "other page.md").write_text("# A Title, with 春\n", "utf-8")
    cells = [new_markdown_cell("[back](page.md) ![gone](gone.svg)"), new_code_cell("'[no](link.md)'")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "book.ipynb")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[a](other%20page.md#a-title-with-春)", None),
        ("[a](book.ipynb) and `[code](nowhere.md)`", None),
        ("![a picture](picture.png)", "picture.png: there is no such file"),
        ('<img src="picture.png">', "picture.png: there is no such file"),
        ("[a](other%20page.md#another)", "other%20page.md#another: there is no such heading"),
        ("[a](#nothing)", "#nothing: there is no such heading"),
        ("[a](..)", "..: leads out of the repository"),
    ],
)
def test_dead_links_are_named(pages: Path, text: str, why: str | None) -> None:
    (pages / "page.md").write_text(text, "utf-8")
    assert list(check_links.faults([pages / "page.md"], pages)) == ([f"page.md: {why}"] if why else [])


def test_links_of_notebooks_are_those_of_their_prose(pages: Path) -> None:
    (pages / "page.md").touch()
    found = list(check_links.faults([pages / "book.ipynb"], pages))
    assert found == ["book.ipynb: gone.svg: there is no such file"]


def test_each_address_of_the_web_is_asked_once_and_only_online(pages: Path) -> None:
    asked: list[str] = []

    def ask(url: str) -> str | None:
        asked.append(url)
        return "answers 404" if url.endswith("/a") else None

    (pages / "page.md").write_text("[a](https://example.org/a) [b](https://example.org/b)", "utf-8")
    both = [pages / "page.md", pages / "page.md"]
    assert list(check_links.faults(both, pages)) == []
    assert asked == []
    assert list(check_links.faults(both, pages, ask)) == 2 * ["page.md: https://example.org/a: answers 404"]
    assert asked == ["https://example.org/a", "https://example.org/b"]
