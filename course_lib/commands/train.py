"""The commands that train: `pretrain` and `finetune`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from course_lib import paths
from course_lib.commands.options import Refusal, RunOptions, note, option, with_run_options
from course_lib.poems import load_poems

if TYPE_CHECKING:
    from course_lib.engine.machine import Machine
    from course_lib.long_run import Outcome
    from course_lib.recipes import Recipe
    from course_lib.run_folder import RunFolder
    from course_lib.training import TrainingSettings


@with_run_options(RunOptions())
def pretrain(
    options: RunOptions,
    base: Annotated[
        Path | None, option(metavar="DIR", help="Go on with this checkpoint: its weights, shape and vocabulary.")
    ] = None,
    steps: Annotated[int, option(help="How many steps to take.")] = 9000,
    hidden_size: Annotated[int, option(min=1, help="Channels of the model.")] = 256,
    layers: Annotated[int, option(min=1, help="Layers of the model.")] = 6,
    context: Annotated[int, option(min=2, help="Characters the model sees at once.")] = 256,
) -> None:
    """Train a base model: poems end to end, as plain text.

    If it is killed or interrupted, the same command goes on where the run was last saved, with the same losses as
    if it had not stopped. When the run is finished, it writes the checkpoint folder.
    """
    from course_lib.checkpoints import load_checkpoint
    from course_lib.long_run import check_writable
    from course_lib.model import ModelConfig
    from course_lib.recipes import pretraining, tang_weighted
    from course_lib.run_folder import RunFolder

    settings = options.settings(steps)
    ModelConfig.sized(1, hidden_size)  # raises if it cannot be, before anything long begins
    check_writable(options.out, options.run_folder)
    machine = options.machine()
    folder = RunFolder(options.run_folder, options.save_every)
    poems = options.training_poems()
    start = load_checkpoint(base) if base else None
    with machine.world.main_first():
        tokenizer = start.tokenizer if start else folder.tokenizer(poems)
    recipe = pretraining(
        tang_weighted(poems, options.tang_times),
        tokenizer,
        shape=ModelConfig.sized(len(tokenizer), hidden_size, layers, context),
        start=start,
        evaluation=load_poems("validation"),
        batch_size=options.batch_size,
        seed=options.seed,
        parent=base,
    )
    if outcome := train(recipe, settings, machine, folder, options.out):
        print(f"validation loss {outcome.validation.whole:.4f} nats per character\nwritten: {options.out}")


@with_run_options(
    RunOptions(
        optimizer="adamw",
        learning_rate=1e-3,
        warmup_steps=50,
        dynasties="tang",
        tang_times=1,
        evaluate_every=200,
        run_folder=Path("runs/finetune"),
        out=paths.OWN,
    )
)
def finetune(
    options: RunOptions,
    base: Annotated[
        Path | None, option(metavar="DIR", help="Where to begin.", show_default="assets/checkpoints/base")
    ] = None,
    instructions: Annotated[
        str, option(metavar="NAMES", help="What to teach: poem, or poem,old-style. Each poem answers the last it fits.")
    ] = "poem",
    epochs: Annotated[float, option(help="How many times to read all poems.")] = 3,
    steps: Annotated[int | None, option(help="How many steps to take.", show_default="as --epochs says")] = None,
) -> None:
    """Teach a base model to answer a title with a poem.

    It reads the Tang training poems, unless the options say otherwise. If it is killed or interrupted, the same
    command goes on where the run was last saved. When the run is finished, it writes the checkpoint folder; metrics on
    the validation and the test poems are in its MODEL_CARD.md.
    """
    from course_lib.checkpoints import load_checkpoint
    from course_lib.instructions import ALL, find
    from course_lib.long_run import check_writable
    from course_lib.recipes import finetuning, tang_weighted
    from course_lib.run_folder import RunFolder

    if epochs <= 0:
        raise Refusal(f"--epochs is {epochs:g}, must be above 0")
    options.settings(1 if steps is None else steps)  # raises if an option is wrong, before anything long begins
    taught = [find(name, ALL) for name in instructions.split(",")]
    check_writable(options.out, options.run_folder)
    machine = options.machine()
    parent = base or paths.BASE
    recipe = finetuning(
        load_checkpoint(parent),
        tang_weighted(options.training_poems(), options.tang_times),
        evaluation=load_poems("validation"),
        instructions=taught,
        batch_size=options.batch_size,
        seed=options.seed,
        parent=parent,
    )
    settings = options.settings(recipe.steps_for(epochs, options.accumulate) if steps is None else steps)
    folder = RunFolder(options.run_folder, options.save_every)
    outcome = train(recipe, settings, machine, folder, options.out)
    if outcome and outcome.test:
        print(f"{outcome.test.table()}\nwritten: {options.out}")


def train(recipe: Recipe, settings: TrainingSettings, machine: Machine, folder: RunFolder, out: Path) -> Outcome | None:
    """Carry the run out and show how it is going. After Ctrl-C the command ends with status 130.

    Raises:
        Refusal: this PyTorch has no Muon.
    """
    from course_lib.commands.progress import narrated
    from course_lib.long_run import carry_out
    from course_lib.training import Trainer

    try:
        trainer = Trainer(recipe, settings, machine)
    except RuntimeError as error:
        raise Refusal(str(error)) from error
    try:
        return carry_out(trainer, folder, out, partial(narrated, trainer=trainer, folder=folder))
    except KeyboardInterrupt:
        taken = f"interrupted after step {trainer.step:,} of {settings.steps:,}"
        note(f"{taken}; {folder.path} has it: the same command goes on")
        raise typer.Exit(130) from None
