"""`make memory` limits the memory of a notebook and measures it, shown on notebooks of a few cells."""

import os
import subprocess
import sys
from pathlib import Path

import measure_memory
import nbformat
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only"),
]


def measure(folder: Path, *sources: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a notebook of these cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "one.ipynb")
    asked = [sys.executable, measure_memory.__file__, str(folder / "one.ipynb")]
    environment = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"}
    return subprocess.run(asked, env=environment, capture_output=True, text=True, check=False)


def test_a_notebook_that_asks_for_more_than_binder_gives_fails(tmp_path: Path) -> None:
    done = measure(tmp_path, "empty = bytearray(1)", "half = bytearray(2**30)", "all = bytearray(2**30)")
    assert done.returncode == 1
    assert "one.ipynb stopped in code cell 3" in done.stderr
    assert "MemoryError" in done.stderr


def test_a_peak_above_the_limit_fails_even_if_the_memory_is_freed_later(tmp_path: Path) -> None:
    done = measure(tmp_path, "large = b'1' * 1_600_000_000", "del large")
    assert 1.6 < float(done.stdout.split()[1]) < 1.8
    assert done.returncode == 1
    assert done.stderr == "one.ipynb takes more than 1.5 GB\n"
    assert nbformat.read(tmp_path / "one.ipynb", as_version=4).cells[0].execution_count is None  # not changed
