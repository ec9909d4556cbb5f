"""Run notebooks with no more memory than Binder gives, and tell how much each took.

    python scripts/measure_memory.py [NOTEBOOK …]        without a name: all in notebooks/

A kernel that asks for more than 2 GiB gets an error, as it would be ended on Binder. The peak is what the kernel itself
held in memory at one time, libraries included; it may be at most 1.5 GB. Nothing is written to the notebooks. With
COURSE_FAST=1 in the environment the schedule is the short one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from run_notebooks import NOTEBOOKS, NotebookError, run

if sys.platform == "linux":
    import resource

LIMIT = 2 * 2**30  # bytes a kernel may allocate
ALLOWED = 1.5e9  # bytes it may hold at its peak


def limit() -> None:
    """Make this process, and those it starts, as small as Binder's: 2 GiB, two threads, no GPU.

    Memory that was asked for counts, written to or not (setrlimit(2), RLIMIT_DATA); files that are mapped do not.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    os.environ |= {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}


def peak(path: Path) -> int:
    """Run a notebook; the most bytes its kernel, or any process that kernel started, ever held.

    Raises:
        NotebookError: it did not run to its end.
    """
    run(path)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main(names: list[str]) -> int:
    """Measure the notebooks named, or all; one line for each. The exit status."""
    if sys.platform != "linux":
        print("memory can be limited on Linux only", file=sys.stderr)
        return 2
    paths = [Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb"))
    # A process of its own for each notebook, for a peak of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=limit, max_tasks_per_child=1) as pool:
        try:
            for path, taken in zip(paths, pool.map(peak, paths), strict=True):
                print(f"{path.name:30} {taken / 1e9:5.2f} GB", flush=True)
                if taken > ALLOWED:
                    print(f"{path.name} takes more than {ALLOWED / 1e9:.1f} GB", file=sys.stderr)
                    return 1
        except NotebookError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
