"""Run notebooks from top to bottom, in order, each in a new kernel, and save their outputs.

    python scripts/run_notebooks.py [NOTEBOOK …]                without a name: all in notebooks/
    python scripts/run_notebooks.py --save notebooks-a          also writes their minutes to benchmarks/results/

If a notebook fails, it stays as it was, and the run ends there with exit status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPOSITORY / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "pygments_lexer": "ipython3",
}


class NotebookError(Exception):
    """A notebook did not run to its end; the message names the notebook and the cell."""


def run(path: Path) -> NotebookNode:
    """The notebook at `path`, executed in its own folder and cleaned. The file does not change.

    Raises:
        NotebookError: a cell raised an error, or the kernel died.
    """
    notebook = nbformat.read(path, as_version=4)
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    at = 0

    def note(cell: NotebookNode, cell_index: int) -> None:
        nonlocal at
        at = cell_index
        if sys.stdout.isatty() and cell.cell_type == "code":
            print(f"\r{path.name:30} code cell {code.index(at) + 1} of {len(code)}", end="", flush=True)

    def let_ctrl_c_interrupt(notebook: NotebookNode) -> None:
        """nbclient would end the kernel, and then fail in its own cleaning up."""
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    client = NotebookClient(
        notebook,
        kernel_name=KERNEL["name"],
        timeout=None,
        resources={"metadata": {"path": str(path.parent)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],  # no learner needs a warning about the transport
        on_notebook_start=let_ctrl_c_interrupt,
        on_cell_start=note,
    )
    try:
        client.execute()
    except (CellExecutionError, DeadKernelError) as error:
        begins = notebook.cells[at].source.strip().partition("\n")[0]
        what = "the kernel died: was there enough memory?"
        if isinstance(error, CellExecutionError):
            what = f"{error.ename}: {error.evalue}"
        raise NotebookError(
            f"{path.name} stopped in code cell {code.index(at) + 1}, which begins `{begins}`\n{what}"
        ) from error
    clean(notebook)
    return notebook


def clean(notebook: NotebookNode) -> None:
    """Remove from an executed notebook, in place, what differs from run to run or from machine to machine.

    The state of widgets goes, and so do the references to it: without the state a page would show them as errors. The
    static form of a widget stays. Kernel and language are named without a version.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec = NotebookNode(KERNEL)
    notebook.metadata.language_info = NotebookNode(LANGUAGE)
    for cell in notebook.cells:
        for key in ("execution", "ExecuteTime", "trusted"):
            cell.metadata.pop(key, None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]


def number(path: Path) -> str:
    """The number of a notebook, as benchmarks/results/ has it: "4" for 04_finetune.ipynb."""
    return path.name.partition("_")[0].lstrip("0")


def save(name: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Write figures to benchmarks/results/NAME.json, and say what is left to do."""
    sys.path.append(str(REPOSITORY / "benchmarks"))
    import results

    from course_lib.engine import Machine

    print(f"wrote {results.save(name, figures, Machine.choose().full_name)}; now run `python benchmarks/page.py`")


def arguments_of(description: str | None, given: list[str]) -> argparse.Namespace:
    """The notebooks to run, `notebooks`, and the name to save the figures under, `save`, or None."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK")
    parser.add_argument("--save", metavar="NAME", help="write the figures to benchmarks/results/NAME.json")
    return parser.parse_args(given)


def main(arguments: list[str]) -> int:
    """Run these notebooks, or all, and print a line for each. Returns the exit status."""
    chosen = arguments_of(__doc__, arguments)
    names, minutes = chosen.notebooks, {}
    # Use the kernel of this Python, even if the user has another kernel of the same name.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    paths = [Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        print(f"no such notebook: {', '.join(missing)}", file=sys.stderr)
        return 2
    if not paths:
        print(f"there are no notebooks in {NOTEBOOKS.name}/", file=sys.stderr)
        return 2
    for path in paths:
        start = time.perf_counter()
        print(f"{path.name:30}", end="", flush=True)
        try:
            notebook = run(path)
        except NotebookError as error:
            print(f"\n{error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\ninterrupted; this notebook was not changed", file=sys.stderr)
            return 130
        nbformat.write(notebook, path)
        minutes[number(path)] = round((time.perf_counter() - start) / 60, 2)
        over = f"\r{'':60}\r{path.name:30}" if sys.stdout.isatty() else ""  # overwrites the count of cells
        print(f"{over} {minutes[number(path)]:5.1f} min", flush=True)
    if chosen.save:
        save(chosen.save, {"minutes": minutes})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
