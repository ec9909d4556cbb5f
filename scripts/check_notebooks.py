"""Check that notebooks can be committed, and say how to mend those that cannot.

    python scripts/check_notebooks.py [NOTEBOOK …]        without a name: all in notebooks/

A notebook can be committed if it was executed from top to bottom, shows no error and no warning, keeps nothing that
differs from machine to machine, and has at most 1 MB.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from run_notebooks import NOTEBOOKS, WIDGET, clean

LARGEST = 1_000_000  # bytes
RUN = "`make notebooks` runs it again and cleans it"


def faults(path: Path) -> Iterator[str]:
    """A sentence for each fault of the notebook at `path`: what is wrong, and what to do."""
    try:
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        nbformat.validate(notebook)
    except (AttributeError, TypeError, ValueError, nbformat.ValidationError) as error:  # nbformat raises all of these
        reason = str(error).partition("\n")[0]
        yield f"it is not a valid notebook ({reason}): take it back from git, or mend it by hand"
        return
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        if cell.execution_count != number:
            was = "was not run" if cell.execution_count is None else f"was run as number {cell.execution_count}"
            yield f"code cell {number} {was}: {RUN}"
            break  # the cells after it are out of order too
    for number, cell in enumerate(code, start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {number} ends in {output.ename}: mend the cell, then {RUN}"
            elif output.get("name") == "stderr":
                said = output.text.strip().splitlines()[-1]
                yield f"code cell {number} shows a warning ({said}): remove its cause, then {RUN}"
    if "widgets" in notebook.metadata or any(WIDGET in o.get("data", {}) for cell in code for o in cell.outputs):
        yield f"it keeps the state of widgets, which other viewers show as errors: {RUN}"
    elif cleaned(notebook) != notebook:
        yield f"it names the Python or the times of one machine in its metadata: {RUN}"
    if (size := path.stat().st_size) > LARGEST:
        yield f"it is {size / 1e6:.1f} MB, the most is 1 MB: show fewer or smaller pictures, print less, then {RUN}"


def cleaned(notebook: NotebookNode) -> NotebookNode:
    """A copy of the notebook, cleaned as by `make notebooks`."""
    other = copy.deepcopy(notebook)
    clean(other)
    return other


def main(names: list[str]) -> int:
    """Check these notebooks, or all, and print a line for each fault. Returns the exit status."""
    paths = [Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    found = [f"{path.name}: {fault}" for path in paths for fault in faults(path)]
    for line in found:
        print(line, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
