"""How good the poems of the shipped checkpoint are, and how long the evaluation takes: two runs of `evaluate`.

    python benchmarks/quality.py --save        ten minutes on two cores

The figures come from 500 titles of the test split. The time is that of the command with its 200 titles.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from results import add_save_option, save

from course_lib import paths
from course_lib.engine.machine import Machine

FIGURES, TIMED = 500, 200  # titles
CANDIDATES = 8  # for the best of them


def evaluate(titles: int, candidates: int = 1) -> tuple[dict[str, Any], float]:
    """What `evaluate --json` prints for so many titles, and the seconds that the command takes."""
    shipped = ["--checkpoint", str(paths.FINETUNED)]
    command = [sys.executable, "-m", "course_lib", "evaluate", *shipped, "--titles", str(titles), "--json"]
    command += ["--candidates", str(candidates)]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - start


def main() -> None:
    """Run the evaluation twice, print the figures of the fine-tuned model, and save all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_save_option(parser, "quality")
    chosen = parser.parse_args()
    _, seconds = evaluate(TIMED)
    figures, _ = evaluate(FIGURES, CANDIDATES)
    for name, value in figures["fine-tuned"].items():
        print(f"{name:20} {value}")
    print(f"{TIMED} titles in {seconds:.0f} s")
    if chosen.save:
        print(save(chosen.save, {**figures, "seconds_for_200_titles": round(seconds, 1)}, Machine.choose().full_name))


if __name__ == "__main__":
    main()
