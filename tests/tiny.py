"""Runs small enough for a test: their options, their poems, and what they leave behind. Scripts import it too."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from course_lib.batches import InstructionBatches
from course_lib.instructions import POEM, Instruction
from course_lib.poems import Poem
from course_lib.roles import plain_conversations
from course_lib.tokenizer import CharacterTokenizer

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
    """Poems that no corpus has: random characters of a small set."""
    signs = "山中一夜雨樹上幾聲鶯水向門前去雲從石生江月何人見花度開"
    order = torch.randint(len(signs), (count, 24), generator=torch.Generator().manual_seed(first)).tolist()
    texts = ["".join(signs[i] for i in row) for row in order]
    return [Poem(t[20:24], "試筆", (f"{t[:5]}，{t[5:10]}。", f"{t[10:15]}，{t[15:20]}。"), "", "tang") for t in texts]


def poem_batches(
    poems: Sequence[Poem], tokenizer: CharacterTokenizer, instructions: Sequence[Instruction] = (POEM,), **shape: Any
) -> InstructionBatches:
    """Batches of the poems as answers to the instructions. `shape` is that of `InstructionBatches`."""
    return InstructionBatches.from_conversations(plain_conversations(poems, instructions), tokenizer, **shape)


@contextmanager
def in_step(number: int, action: Callable[[], object]) -> Iterator[None]:
    """Call `action` in the middle of the step of that number, between its gradients and its weights."""
    steps: dict[object, int] = {}

    def hook(optimizer: object, *_: object) -> None:
        steps[optimizer] = steps.get(optimizer, 0) + 1
        if optimizer is next(iter(steps)) and steps[optimizer] == number:  # the first of a step's optimizers
            action()

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def log(folder: str | Path) -> list[dict[str, Any]]:
    """The log of a run, one row for each step, without the clock."""
    lines = [json.loads(line) for line in Path(folder, "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def run(arguments: list[str], repository: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the package to be tested. Fails after five minutes."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(repository), str(repository / "tests")))}
    asked = [sys.executable, *arguments]
    return subprocess.run(asked, env=env, capture_output=True, text=True, check=False, timeout=300)
