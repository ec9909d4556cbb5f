"""A long training run, from its first step or its last save, to a finished checkpoint; an average of several."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from course_lib.cards import average_card, card
from course_lib.checkpoints import Checkpoint, CheckpointError, average, load_checkpoint, read_card, save_checkpoint
from course_lib.evaluation import Evaluation, evaluate, held_out_loss, measure_obedience
from course_lib.evaluation.obedience import Obedience
from course_lib.losses import Loss
from course_lib.model import PoetryModel
from course_lib.poems import load_poems
from course_lib.run_folder import RunFolder
from course_lib.training import StepReport, Trainer

Narrate = Callable[[Iterable[StepReport]], Iterable[StepReport]]


class Outcome(NamedTuple):
    """How good a trained model is: its loss on the validation poems; all test metrics if it was taught to answer.

    If it was taught to hold a conversation, there is also how often it obeys each of its instructions.
    """

    validation: Loss
    test: Evaluation | None
    obedience: Mapping[str, Obedience] | None = None


def carry_out(
    trainer: Trainer, folder: RunFolder, out: Path, narrate: Narrate = iter, measure: bool = True
) -> Outcome | None:
    """Train to the last step, measure the model, and write it to `out` with its card.

    Without `measure` only the validation loss is measured, which takes seconds. If `folder` holds this run, it goes on
    from its last save. `narrate` may show the reports as they pass. Returns None in all processes but the main one.

    Raises:
        CheckpointError: `folder` holds another run.
        OSError: something cannot be written, or another process uses `folder`.
        KeyboardInterrupt: Ctrl-C was pressed, or SIGTERM came; a single process has saved every whole step in `folder`.
    """
    folder.claim(trainer)  # refuses another run before `narrate` prints anything
    with closing(folder.run(trainer)) as reports:  # closing it saves, also if `narrate` is stopped
        for _ in narrate(reports):
            pass
    if not trainer.machine.world.is_main:
        return None
    checkpoint = as_saved(trainer.recipe.checkpoint)
    outcome = measured(checkpoint, measure)
    save_checkpoint(checkpoint, out, *card(trainer, folder, load_poems("validation"), *outcome))
    return outcome


def average_models(folders: Sequence[Path], out: Path) -> Outcome:
    """Write the average of these models to `out`, with a card that names them, and measure it.

    Raises CheckpointError if a model cannot be read, or ValueError if they do not belong together.
    """
    cards = [read_card(folder) for folder in folders]
    checkpoint = as_saved(average([load_checkpoint(folder) for folder in folders]))
    outcome = measured(checkpoint)
    save_checkpoint(checkpoint, out, *average_card(cards, checkpoint, load_poems("validation"), *outcome))
    return outcome


def as_saved(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the 16-bit weights of its file, which the card describes."""
    model = PoetryModel(checkpoint.model.config)
    model.load_state_dict({name: weight.half().float() for name, weight in checkpoint.model.state_dict().items()})
    return replace(checkpoint, model=model.to(checkpoint.device))


def measured(checkpoint: Checkpoint, fully: bool = True) -> Outcome:
    """The loss on the validation poems and, `fully`, all that applies to the checkpoint on the test poems."""
    loss = held_out_loss(checkpoint, load_poems("validation"))
    if not (fully and checkpoint.instructions):
        return Outcome(loss, None)
    poems = load_poems("test")
    converses = any(each.kind == "turn" for each in checkpoint.instructions)
    return Outcome(loss, evaluate(checkpoint, poems), measure_obedience(checkpoint, poems) if converses else None)


def check_writable(*folders: Path) -> None:
    """Check before a long run that its results can be written.

    Raises CheckpointError if a folder is a file, or if nothing can be written there.
    """
    for folder in folders:
        existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise CheckpointError(f"{folder}: cannot be a folder, because {existing} is a file")
        if not os.access(existing, os.W_OK):
            raise CheckpointError(f"{folder}: nothing can be written in {existing}")
