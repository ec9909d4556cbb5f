"""The commands that train: `pretrain`, `finetune` and `prefer`; and `average`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from course_lib import paths
from course_lib.commands.options import OWN_ELSE_SHIPPED, Refusal, RunOptions, note, option, with_run_options
from course_lib.language import say
from course_lib.poems import load_poems

if TYPE_CHECKING:
    from course_lib.checkpoints import Checkpoint
    from course_lib.engine.machine import Machine
    from course_lib.long_run import Outcome
    from course_lib.recipes import Recipe
    from course_lib.run_folder import RunFolder


BASE = "assets/checkpoints/base"  # as the help names it
TO_TEACH = "What to teach: poem; poem,old-style; or many."
WRITER = r'"made_with": {"weights": "(\w+)"'  # as the command `pairs` writes it


@with_run_options(RunOptions())
def pretrain(
    options: RunOptions,
    base: Annotated[Path | None, option(metavar="DIR", help="Start from this checkpoint and its shape.")] = None,
    steps: Annotated[int, option(help="How many steps to take.")] = 9000,
    hidden_size: Annotated[int, option(min=1, help="Channels of the model.")] = 256,
    layers: Annotated[int, option(min=1, help="Layers of the model.")] = 6,
    context: Annotated[int, option(min=2, help="How many characters the model sees at once.")] = 256,
) -> None:
    """Train a base model on plain text.

    It reads one poem after another, each with its title. If the command is stopped, repeat it: it goes on from the last
    save, and the losses are the same as without the stop. At the end it writes the checkpoint.
    """
    from course_lib.checkpoints import load_checkpoint
    from course_lib.model import ModelConfig
    from course_lib.recipes import pretraining, tang_weighted

    shape = ModelConfig.sized(1, hidden_size, layers, context)
    machine, folder = options.prepare(steps)
    start, teacher = (load_checkpoint(path) if path else None for path in (base, options.teacher))
    poems = options.training_poems()
    with machine.world.main_first():
        known = start or teacher
        tokenizer = known.tokenizer if known else folder.tokenizer(poems)
    shape = replace(shape, vocab_size=len(tokenizer))
    weighted = tang_weighted(poems, options.tang_times)
    recipe = options.bind(pretraining)(weighted, tokenizer, shape=shape, start=start, parent=base)
    train(recipe, options, steps, machine, folder)


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
    base: Annotated[Path | None, option(metavar="DIR", help="Start from this checkpoint.", show_default=BASE)] = None,
    instructions: Annotated[str, option(metavar="NAMES", help=TO_TEACH)] = "poem",
    data: Annotated[Path | None, option(metavar="FILE", help="Train on these conversations instead.")] = None,
    epochs: Annotated[float, option(help="How many times to read all poems, or all of --data.")] = 3,
    steps: Annotated[int | None, option(help="How many steps to take.", show_default="as --epochs says")] = None,
) -> None:
    """Teach a base model to do what it is asked.

    It reads the Tang training poems, unless the options say otherwise. Each poem is the answer to the last one
    of --instructions that it fits. With `--instructions many`, the instruction of each poem is drawn at random. With
    --data, the model learns from a file of your own (see the command `preview`), and is not measured on the way.

    If the command is stopped, repeat it: it goes on from the last save. At the end it measures the model on the
    validation and test poems, and writes the checkpoint. Its MODEL_CARD.md has the figures.
    """
    from course_lib.checkpoints import load_checkpoint

    if not epochs > 0:
        raise Refusal(say("--epochs is {epochs:g}, must be above 0", epochs=epochs))
    recipe_from = finetuning_recipe(options, instructions, data)
    machine, folder = options.prepare(1 if steps is None else steps)
    parent = base or paths.BASE
    recipe = recipe_from(load_checkpoint(parent), parent)
    if steps is None:
        steps = recipe.steps_for(epochs, options.accumulate)
    train(recipe, options, steps, machine, folder)


def finetuning_recipe(
    options: RunOptions, instructions: str, data: Path | None
) -> Callable[[Checkpoint, Path], Recipe]:
    """A function from a base model and its folder to what `finetune` does with it.

    Raises ValueError if a name in `instructions` or the file `data` is wrong, before anything slow begins.
    """
    from course_lib.instructions import ALL, find
    from course_lib.recipes import conversing, finetuning, tang_weighted
    from course_lib.tasks import MANY, mixed_conversations, read_conversations, taught_by

    chosen = (instructions, options.dynasties, options.tang_times, options.poems)
    if data and chosen != ("poem", "tang", 1, None):
        raise Refusal(say("--data teaches what is in the file; leave out options that choose poems or instructions"))
    talks = read_conversations(data) if data else []
    own = taught_by(talks) if talks else ()
    try:
        taught = MANY if instructions == "many" else [find(name, ALL) for name in instructions.split(",")]
    except ValueError as error:
        raise Refusal(say("{error}; or many, by itself", error=error)) from None

    def recipe_from(base: Checkpoint, parent: Path) -> Recipe:
        if talks:
            return options.bind(conversing, evaluation=())(base, talks, instructions=own, parent=parent)
        poems = tang_weighted(options.training_poems(), options.tang_times)
        if taught is not MANY:
            return options.bind(finetuning)(base, poems, instructions=taught, parent=parent)
        method = options.bind(conversing, evaluation=mixed_conversations(load_poems("validation"), MANY))
        mixed = mixed_conversations(poems, MANY, options.seed)
        return method(base, mixed, instructions=MANY, poems=poems, parent=parent)

    return recipe_from


@with_run_options(
    RunOptions(
        optimizer="adamw",
        learning_rate=8e-5,
        weight_decay=0.0,
        batch_size=4,
        warmup_steps=10,
        decay_fraction=0.6,
        evaluate_every=20,
        run_folder=Path("runs/prefer"),
        out=Path("checkpoints/aligned"),
    ),
    without=("dynasties", "tang_times", "poems", "teacher"),
)
def prefer(
    options: RunOptions,
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS", help="A file that the command `pairs` has written.")],
    base: Annotated[
        Path | None, option(metavar="DIR", help="The model to train.", show_default=OWN_ELSE_SHIPPED)
    ] = None,
    beta: Annotated[float, option(min=0, help="The higher, the nearer the model stays to what it was.")] = 0.1,
    anchor: Annotated[float, option(min=0, help="How much the loss on the chosen answers counts.")] = 0.5,
    per_token: Annotated[bool, option("--per-token", help="Compare means over tokens, not sums.")] = False,
    epochs: Annotated[float, option(help="How many times to read all pairs; a few dozen pairs need ten.")] = 1,
) -> None:
    """Teach a model to prefer the better of two answers.

    It learns from pairs of answers (direct preference optimisation). The pairs of every tenth prompt are kept for the
    evaluation. A line of the file has "prompt", "chosen" and "rejected", each a list of messages.

    The answers should be those of the model that you train. For another round, let the new model write pairs to another
    file. Then name this model as --base, and give another --run-folder.

    If the command is stopped, repeat it: it goes on from the last save. At the end it measures the model on the
    validation and test poems, and writes the checkpoint. Its MODEL_CARD.md has the figures.
    """
    from course_lib.checkpoints import WEIGHTS, load_checkpoint, sha256
    from course_lib.recipes import preference
    from course_lib.tasks import read_pairs

    found = read_pairs(pairs)
    prompts = {prompt: n for n, prompt in enumerate(dict.fromkeys(str(pair.prompt) for pair in found), start=1)}
    kept = [pair for pair in found if prompts[str(pair.prompt)] % 10 == 0]
    training = [pair for pair in found if prompts[str(pair.prompt)] % 10]
    machine, folder = options.prepare(1)
    parent = paths.own_or_shipped(base)
    start = load_checkpoint(parent)
    own = sha256(parent / WEIGHTS)[:12]
    if others := {*re.findall(WRITER, pairs.read_text("utf-8"))} - {own}:
        who = {"pairs": pairs, "others": ", ".join(sorted(others)), "base": parent, "own": own}
        wrote = say("{pairs}: written with the weights {others}, not with those of {base} ({own})", **who)
        told = say("{wrote}; name the folder of that model as --base, or write new pairs", wrote=wrote)
        if not base:
            raise Refusal(told)
        note(told)  # a model that was named is taken
    if not base:
        note(say("{folder} is used", folder=parent))
    method = options.bind(preference, evaluation=kept)
    recipe = method(start, training, beta=beta, anchor=anchor, per_token=per_token, parent=parent)
    train(recipe, options, recipe.steps_for(epochs, options.accumulate), machine, folder)


def average(
    models: Annotated[list[Path], typer.Argument(metavar="DIR...", help="The checkpoints.")],
    out: Annotated[Path, option(metavar="DIR", help="Where to write the checkpoint.")] = Path("checkpoints/average"),
) -> None:
    """Average the weights of models that were fine-tuned from the same one.

    The average takes no longer to run than one of them, and often predicts better. A model from `prefer`, averaged with
    the one before it, forgets less. At the end the average is measured on the validation and test poems.
    """
    from course_lib.long_run import average_models, check_writable

    check_writable(out)
    print_outcome(average_models(models, out), out)


def train(recipe: Recipe, options: RunOptions, steps: int, machine: Machine, folder: RunFolder) -> None:
    """Carry out the run, show its progress, and print the result. After Ctrl-C or SIGTERM it ends with status 130."""
    from course_lib.checkpoints import load_checkpoint
    from course_lib.commands.progress import narrated
    from course_lib.long_run import carry_out
    from course_lib.recipes import distillation
    from course_lib.training import Trainer

    if options.teacher:
        recipe = distillation(recipe, load_checkpoint(options.teacher), options.teacher)
    trainer = Trainer(recipe, options.settings(steps), machine)
    try:
        narrate = partial(narrated, trainer=trainer, folder=folder, measure=options.measure)
        outcome = carry_out(trainer, folder, options.out, narrate, options.measure)
    except KeyboardInterrupt:
        at = {"step": trainer.step, "steps": steps, "path": folder.path}
        note(say("stopped after step {step:,} of {steps:,}; to go on from {path}, repeat the command", **at))
        raise typer.Exit(130) from None
    if outcome:
        print_outcome(outcome, options.out)


def print_outcome(outcome: Outcome, out: Path) -> None:
    """Print how good the model in `out` is."""
    loss = say("validation loss {loss:.4f} nats per character", loss=outcome.validation.response)
    print(outcome.test.table() if outcome.test else loss)
    print(say("written: {out}", out=out))
