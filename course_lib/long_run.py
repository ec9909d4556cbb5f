"""A long training run, from the first step, or the last one saved, to a finished checkpoint folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from course_lib.cards import card
from course_lib.checkpoints import Checkpoint, CheckpointError, save_checkpoint
from course_lib.engine.machine import release_memory
from course_lib.evaluation import Evaluation, evaluate, held_out_loss
from course_lib.losses import Loss
from course_lib.model import PoetryModel
from course_lib.poems import load_poems
from course_lib.run_folder import RunFolder
from course_lib.training import StepReport, Trainer


class Outcome(NamedTuple):
    """How well a trained model does: its loss on the validation poems and, if it can be asked, all test metrics."""

    validation: Loss
    test: Evaluation | None


def carry_out(
    trainer: Trainer,
    folder: RunFolder,
    out: Path,
    narrate: Callable[[Iterable[StepReport]], Iterable[StepReport]] = iter,
) -> Outcome | None:
    """Train to the last step, measure the model, and write it to `out` with its card.

    A run that `folder` holds goes on where it was last saved. `narrate` may show the reports as they pass. Returns None
    in all processes but the main one.

    Raises:
        CheckpointError: `folder` holds another run, or something cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed; `folder` has every whole step.
    """
    folder.claim(trainer)
    release_memory()  # of whatever the program did before
    with closing(folder.run(trainer)) as reports:  # closing it saves, whatever stops `narrate`
        for _ in narrate(reports):
            pass
    if not trainer.machine.world.is_main:
        return None
    checkpoint = as_in_the_file(trainer.recipe.checkpoint)
    validation = load_poems("validation")
    loss = held_out_loss(checkpoint, validation)
    test = evaluate(checkpoint, load_poems("test")) if checkpoint.instructions else None
    save_checkpoint(checkpoint, out, *card(trainer, folder, validation, loss, test))
    return Outcome(loss, test)


def as_in_the_file(checkpoint: Checkpoint) -> Checkpoint:
    """A copy with weights rounded to the file's 16 bits, so that the card's figures are those of the file."""
    model = PoetryModel(checkpoint.model.config)
    model.load_state_dict({name: weight.half().float() for name, weight in checkpoint.model.state_dict().items()})
    return replace(checkpoint, model=model.to(checkpoint.device))


def check_writable(*folders: Path) -> None:
    """Find out before a long run, not after it, that its result cannot be written.

    Raises:
        CheckpointError: a folder is a file, or is in a place where nothing can be written.
    """
    for folder in folders:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise CheckpointError(f"{folder}: cannot be a folder, because {existing} is a file")
        if not os.access(existing, os.W_OK):
            raise CheckpointError(f"{folder}: nothing can be written in {existing}")
