"""How long the notebooks take on this machine."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from course_lib import paths
from course_lib.batches import ceil_div
from course_lib.engine.machine import Machine
from course_lib.poems import Poem
from course_lib.training import TrainingSettings

FIRST_LOOKS = (5, 10, 20, 30)  # steps with an evaluation, besides those at equal distances: most is learned early


@dataclass(frozen=True, slots=True)
class Schedule:
    """A fine-tuning run that suits the machine. `machine` compiles the model where that saves time."""

    machine: Machine
    poems: int | None  # how many training poems are drawn; None: all
    epochs: int  # at most, if there is patience
    batch_size: int
    learning_rate: float
    evaluations: int  # at equal distances, in a run of any length
    trap_steps: int  # the length of each short run that shows a mistake
    folder: Path  # for the result
    patience: int = 0  # evaluations without a better one, after which the run ends with its best weights

    @property
    def run_folder(self) -> Path:
        """The folder for the unfinished run."""
        return self.folder.with_name(f"{self.folder.name}-run")

    def draw(self, poems: Sequence[Poem]) -> list[Poem]:
        """The poems of this run, in random order, but the same every time."""
        return random.Random(0).sample(poems, min(self.poems or len(poems), len(poems)))

    def settings(self, steps: int) -> TrainingSettings:
        """The training settings for this many steps."""
        return TrainingSettings(
            steps,
            learning_rate=self.learning_rate,
            warmup_steps=min(10, steps // 4),
            evaluate_every=ceil_div(steps, self.evaluations),
            evaluate_at=FIRST_LOOKS,
            patience=self.patience,
        )


def fast() -> bool:
    """Whether the notebooks are shortened, for tests: the environment variable COURSE_FAST is 1."""
    return os.environ.get("COURSE_FAST") == "1"


def evaluation_size() -> tuple[int, int]:
    """How many titles the evaluation notebook writes poems for, and on how many poems it measures the loss."""
    return (16, 40) if fast() else (100, 200)


def schedule(machine: Machine) -> Schedule:
    """How long the notebook trains on this machine.

    The learning rate is low: the model learns a new task, but should keep what it knows (`benchmarks/LOG.md`: The
    learning rate of notebook 4).

    * On CUDA: at most three epochs of all Tang poems, 13 M tokens. A step of 256 rows (65,536 tokens) keeps a large
      card busy; a card with less than 40 GB reads 64 rows. After the first looks there are twelve evaluations.
    * Elsewhere: one epoch of 11,500 poems, 0.9 M tokens in 460 steps; with fast 16-bit products, under five minutes on
      two idle cores. Rows of 8 keep the notebook below 1.5 GB.
    * A CPU that is fastest in float32 has a third of that speed. It reads 4,500 poems; compiling would save no time.
    * With COURSE_FAST=1: about 40 steps of 4 rows, enough for tests. The result goes to a folder of its own.
    """
    own = paths.OWN
    plain, compiled = replace(machine, compiled=False), replace(machine, compiled=True)
    if fast():
        return Schedule(plain, 480, 1, 4, 1e-3, evaluations=4, trap_steps=45, folder=own.with_name("finetuned-fast"))
    if machine.device.type == "cuda":
        is_large = torch.cuda.get_device_properties(machine.device).total_memory >= 40e9
        rows, rate = (256, 1e-3) if is_large else (64, 6e-4)
        return Schedule(compiled, None, 3, rows, rate, evaluations=12, trap_steps=50, folder=own, patience=3)
    if machine.device.type == "cpu" and machine.precision == torch.float32:
        return Schedule(plain, 4_500, 1, 8, 4e-4, evaluations=6, trap_steps=40, folder=own)
    chosen = compiled if machine.device.type == "cpu" else plain
    return Schedule(chosen, 11_500, 1, 8, 4e-4, evaluations=6, trap_steps=50, folder=own)
