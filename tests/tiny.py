"""Runs small enough for a test: their options, their poems, and what they leave behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from course_lib.poems import Poem

TINY = [
    *("--dynasties", "tang", "--hidden-size", "16", "--layers", "1", "--context", "64", "--batch-size", "2"),
    *("--steps", "16", "--warmup-steps", "4", "--evaluate-every", "6", "--save-every", "0"),
    *("--device", "cpu", "--precision", "float32", "--no-compile"),
]
TINY_FINETUNE = [
    *("--batch-size", "2", "--warmup-steps", "2", "--evaluate-every", "4"),
    *("--device", "cpu", "--precision", "float32", "--no-compile"),
]


def synthetic(count: int, first: int) -> list[Poem]:
    """Poems that no corpus has: characters of a small set, shuffled."""
    signs = "山中一夜雨樹上幾聲鶯水向門前去雲從石生江月何人見花度開"
    order = torch.randint(len(signs), (count, 24), generator=torch.Generator().manual_seed(first)).tolist()
    texts = ["".join(signs[i] for i in row) for row in order]
    return [Poem(t[20:24], "試筆", (f"{t[:5]}，{t[5:10]}。", f"{t[10:15]}，{t[15:20]}。"), "", "tang") for t in texts]


def log(folder: str) -> list[dict[str, object]]:
    """What a run's log says of each step, the clock aside."""
    lines = [json.loads(line) for line in Path(folder, "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def run(arguments: list[str], repository: Path) -> subprocess.CompletedProcess[str]:
    """Python, with the package to be tested; processes that wait for each other are not waited for."""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    asked = [sys.executable, *arguments]
    return subprocess.run(asked, env=env, capture_output=True, text=True, check=False, timeout=300)
