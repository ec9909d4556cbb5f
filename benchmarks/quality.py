"""How good the poems of the shipped checkpoints are, how often they obey, and how long the evaluation takes.

    python benchmarks/quality.py --save                      twenty minutes on two cores
    python benchmarks/quality.py --save --again aligned      only this model, which is new; all else stays as it is

The figures come from 500 titles of the test split. The times are those of `evaluate` with its 200 titles, and of
`evaluate --obedience` with its 100 questions of each kind.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from results import add_save_option, load, save

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.engine.machine import Machine
from course_lib.evaluation import evaluate, measure_obedience
from course_lib.evaluation.obedience import Obedience
from course_lib.poems import load_poems

FIGURES, TIMED = 500, 200  # titles
CANDIDATES = 8  # for the best of them
QUESTIONS = 100  # of each kind and wording
FOLLOWERS = {"instructed": paths.INSTRUCTED, "aligned": paths.ALIGNED}  # the models that were taught many instructions


def timed(checkpoint: Path, *options: str) -> tuple[dict[str, Any], float]:
    """What `evaluate --json` prints with these options, and the seconds that the command takes."""
    command = [sys.executable, "-m", "course_lib", "evaluate", "--checkpoint", str(checkpoint), "--json", *options]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), time.perf_counter() - start


def shares(obeyed: Mapping[str, Obedience]) -> dict[str, Any]:
    """The shares of questions that were obeyed, with their intervals; those of the last wording have a longer name."""
    found = {name: row.taught for name, row in obeyed.items()}
    found |= {f"{name}, another wording": row.held_out for name, row in obeyed.items() if row.held_out}
    values = {name: share.value for name, share in found.items()}
    return {**values, "intervals": {name: share.interval for name, share in found.items()}}


def main() -> None:
    """Run all evaluations, print the figures, and save them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_save_option(parser, "quality")
    parser.add_argument("--again", choices=FOLLOWERS, help="measure only this model; needs --save")
    chosen = parser.parse_args()
    poems = load_poems("test")
    if chosen.again:
        figures = load()[chosen.save]["figures"]
    else:
        _, seconds = timed(paths.FINETUNED, "--titles", str(TIMED))
        _, seconds_of_obedience = timed(paths.INSTRUCTED, "--obedience")
        figures, _ = timed(paths.FINETUNED, "--titles", str(FIGURES), "--candidates", str(CANDIDATES))
        figures |= {"obedience": {}, "seconds_for_200_titles": round(seconds, 1)}
        figures["seconds_of_obedience"] = round(seconds_of_obedience, 1)
    for name in [chosen.again] if chosen.again else FOLLOWERS:
        checkpoint = load_checkpoint(FOLLOWERS[name])
        figures[name] = evaluate(checkpoint, poems, titles=FIGURES).as_dict()
        figures["obedience"][name] = shares(measure_obedience(checkpoint, poems, QUESTIONS))
    print(json.dumps(figures, ensure_ascii=False, indent=1))
    if chosen.save:
        print(save(chosen.save, figures, Machine.choose().full_name))


if __name__ == "__main__":
    main()
