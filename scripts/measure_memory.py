"""Run notebooks with as little memory as Binder gives, and print how much each takes.

    python scripts/measure_memory.py [NOTEBOOK …]               without a name: all in notebooks/
    python scripts/measure_memory.py --save memory-a            also writes the peaks to benchmarks/results/

A kernel that asks for more than 2 GiB gets an error; Binder would end it. The peak is the most memory that the kernel
holds at one time, libraries included. It may be at most 1.5 GB. The notebooks are not changed. With COURSE_FAST=1 in
the environment they follow their short schedule.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from run_notebooks import NOTEBOOKS, NotebookError, arguments_of, number, run, save

if sys.platform == "linux":
    import resource

LIMIT = 2 * 2**30  # bytes a kernel may allocate
ALLOWED = 1.5e9  # bytes it may hold at its peak


def limit() -> None:
    """Give this process, and those that it starts, 2 GiB, two threads and no GPU, as on Binder.

    Memory counts once it is asked for, before it is written to; mapped files do not count (setrlimit(2), RLIMIT_DATA).
    """
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    os.environ |= {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": ""}


def peak(path: Path) -> int:
    """Run a notebook. Returns the most bytes that its kernel, or a process of the kernel, held at one time.

    Raises:
        NotebookError: the notebook did not run to its end.
    """
    run(path)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def main(arguments: list[str]) -> int:
    """Measure these notebooks, or all, and print a line for each. Returns the exit status."""
    if sys.platform != "linux":
        print("memory can be limited on Linux only", file=sys.stderr)
        return 2
    chosen = arguments_of(__doc__, arguments)
    peaks: dict[str, float] = {}
    paths = [Path(name) for name in chosen.notebooks] or sorted(NOTEBOOKS.glob("*.ipynb"))
    # A new process for each notebook, because the peak of a process never falls.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=limit, max_tasks_per_child=1) as pool:
        try:
            for path, taken in zip(paths, pool.map(peak, paths), strict=True):
                peaks[number(path)] = round(taken / 1e9, 2)
                print(f"{path.name:30} {peaks[number(path)]:5.2f} GB", flush=True)
                if taken > ALLOWED:
                    print(f"{path.name} takes more than {ALLOWED / 1e9:.1f} GB", file=sys.stderr)
                    return 1
        except NotebookError as error:
            print(error, file=sys.stderr)
            return 1
    if chosen.save:
        save(chosen.save, {"peak_gb": peaks})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
