"""The two commands that train: `pretrain` and `finetune`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from course_lib.commands.options import Device, Optimizer, Precision, Refusal, chosen, option

if TYPE_CHECKING:
    import torch

    from course_lib.engine.processes import World
    from course_lib.poems import Dynasty, Poem

BatchSize = Annotated[int, option(min=1, help="Rows of a batch, each as long as the context.")]
Seed = Annotated[int, option(help="Decides the initial weights and the order of the poems.")]
Warmup = Annotated[int, option(min=0, help="Steps in which the learning rate rises.")]
Decay = Annotated[float, option(help="The last part of the run, in which it falls to zero.")]
EvaluateEvery = Annotated[int, option(min=0, help="Steps between two looks at the validation poems; 0: never.")]
SaveEvery = Annotated[float, option(min=0, help="Seconds between two savings of the run.")]
Products = Annotated[Precision, option(help="auto: bf16 where it is measurably faster.")]
Compile = Annotated[bool, option("--compile/--no-compile", help="Compile the model: a slow start, then fast.")]
FirstPoems = Annotated[
    int | None, option("--poems", min=1, help="Read the first so many poems only.", show_default="all")
]
RunDir = Annotated[Path, option("--run-folder", metavar="DIR", help="Where the run is kept and resumed from.")]
Out = Annotated[Path, option(metavar="DIR", help="The checkpoint folder to write at the end.")]
OptimizerChoice = Annotated[Optimizer, option(help="muon needs PyTorch 2.9.")]
Rate = Annotated[float, option(help="The highest learning rate.")]
Base = Annotated[Path | None, option(metavar="DIR", help="Where to begin.", show_default="assets/checkpoints/base")]
TangTimes = Annotated[
    int, option(min=1, help="How many times to read each Tang poem while each Song poem is read once.")
]
Accumulate = Annotated[int, option(min=1, help="Batches that make up one step.")]
Shard = Annotated[bool, option("--shard", help="Under torchrun: each process keeps a part of the model (FSDP2).")]
Dynasties = Annotated[str, option(help="What to read: tang, song or tang,song.")]
StepsElseEpochs = Annotated[int | None, option(help="Batches to learn from.", show_default="as --epochs says")]


def joined(device: str | None, precision: Precision, shard: bool) -> tuple[World, torch.device, torch.dtype]:
    """The processes of this run, if torchrun started several, and what each computes on and in."""
    from course_lib.engine.processes import join

    where, products = chosen(device, precision)
    world, where = join(where, shard)
    return world, where, world.agreed(products)


def named(dynasties: str) -> list[Poem]:
    """The training poems of the dynasties in a list such as `tang,song`."""
    from course_lib.poems import load_poems

    each = cast("list[Dynasty]", dynasties.split(","))  # load_poems refuses any other name
    return [poem for dynasty in each for poem in load_poems("train", dynasty)]


def pretrain(
    base: Annotated[
        Path | None, option(metavar="DIR", help="Go on with this checkpoint: its weights, shape and vocabulary.")
    ] = None,
    steps: Annotated[int, option(help="How many batches to learn from.")] = 9000,
    optimizer: OptimizerChoice = Optimizer.muon,
    learning_rate: Rate = 3e-3,
    batch_size: BatchSize = 16,
    accumulate: Accumulate = 1,
    warmup_steps: Warmup = 150,
    decay_fraction: Decay = 0.4,
    seed: Seed = 0,
    dynasties: Dynasties = "tang,song",
    tang_times: TangTimes = 3,
    poems: FirstPoems = None,
    hidden_size: Annotated[int, option(min=1, help="Channels of the model.")] = 256,
    layers: Annotated[int, option(min=1, help="Layers of the model.")] = 6,
    context: Annotated[int, option(min=2, help="Characters the model sees at once.")] = 256,
    evaluate_every: EvaluateEvery = 500,
    run_folder: RunDir = Path("runs/pretrain"),
    save_every: SaveEvery = 120,
    out: Out = Path("checkpoints/base"),
    device: Device = None,
    precision: Products = Precision.auto,
    compile_: Compile = True,
    shard: Shard = False,
) -> None:
    """Train a base model: poems end to end, as plain text.

    Killed or interrupted, the same command goes on where the run was last saved, with the same losses as if
    nothing had happened. When the run is finished, it writes the checkpoint folder.
    """
    from course_lib import cards, runs
    from course_lib.checkpoints import WEIGHTS, load_checkpoint, save_checkpoint, sha256
    from course_lib.evaluation.compare import held_out_loss
    from course_lib.model import ModelConfig
    from course_lib.poems import load_poems
    from course_lib.recipes import recipe as recipes
    from course_lib.training import TrainingSettings

    settings = TrainingSettings(
        steps,
        learning_rate,
        warmup_steps,
        decay_fraction,
        optimizer.value,
        evaluate_every=evaluate_every,
        accumulate=accumulate,
    )
    runs.check_writable(out, run_folder)
    world, where, products = joined(device, precision, shard)
    ModelConfig(1, hidden_size=hidden_size)  # refuses before anything long begins
    read = named(dynasties)[:poems]
    start = load_checkpoint(base) if base else None
    with world.main_first():
        tokenizer = start.tokenizer if start else runs.own_tokenizer(run_folder, read)
    weighted = recipes.tang_weighted(read, tang_times)
    shape = ModelConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=-(-8 * hidden_size // 192) * 64,  # 8/3, in whole blocks of 64 (Shazeer 2020)
        num_hidden_layers=layers,
        max_position_embeddings=context,
    )
    try:
        checkpoint, trainer = recipes.pretraining(
            settings,
            tokenizer,
            weighted,
            shape=shape,
            start=start.model if start else None,
            batch_size=batch_size,
            seed=seed,
            device=where,
            precision=products,
            compiled=compile_,
            world=world,
        )
    except RuntimeError as error:  # this PyTorch has no Muon
        raise Refusal(str(error)) from error
    machine = cards.machine_line(trainer.device, trainer.precision, compile_)
    identity = {
        "kind": "base",
        "poems": len(read),
        "dynasties": dynasties,
        "tang_times": tang_times,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "seed": seed,
        "hidden_size": hidden_size,
        "layers": layers,
        "context": context,
        **({"base": sha256(base / WEIGHTS)} if base else {}),
    }
    with world.main_first():
        machines = runs.take_up(run_folder, trainer, identity, machine)
    if not runs.finish_steps(trainer, run_folder, save_every, compile_):
        raise typer.Exit(130)
    checkpoint = runs.as_saved(checkpoint, trainer)
    if not world.is_main:
        return
    validation = load_poems("validation")
    loss = held_out_loss(checkpoint, validation)
    facts, story = cards.pretraining_card(
        checkpoint, trainer, weighted, validation, loss, runs.speeds(run_folder), machines, base
    )
    save_checkpoint(checkpoint, out, facts, story)
    print(f"validation loss {loss.whole:.4f} nats per character\nwritten: {out}")


def finetune(
    base: Base = None,
    epochs: Annotated[float, option(help="How many times to read all poems.")] = 3,
    steps: StepsElseEpochs = None,
    optimizer: OptimizerChoice = Optimizer.adamw,
    learning_rate: Rate = 1e-3,
    batch_size: BatchSize = 16,
    accumulate: Accumulate = 1,
    patience: Annotated[
        int, option(min=0, help="Stop after so many looks at the validation poems without progress; 0: never.")
    ] = 0,
    warmup_steps: Warmup = 50,
    decay_fraction: Decay = 0.4,
    seed: Seed = 0,
    dynasties: Dynasties = "tang",
    tang_times: TangTimes = 1,
    name_style: Annotated[
        bool, option("--name-style", help="Ask for old-style verse by name, so that a poem means regulated verse.")
    ] = False,
    poems: FirstPoems = None,
    evaluate_every: EvaluateEvery = 200,
    run_folder: RunDir = Path("runs/finetune"),
    save_every: SaveEvery = 120,
    out: Out = Path("checkpoints/finetuned"),
    device: Device = None,
    precision: Products = Precision.auto,
    compile_: Compile = True,
    shard: Shard = False,
) -> None:
    """Teach a base model to answer a title with a poem.

    It is shown the Tang training poems, or what the options say. Killed or interrupted, the same command goes on
    where the run was last saved. When the run is finished, it writes the checkpoint folder; figures on the
    validation and the test poems are in its MODEL_CARD.md.
    """
    from course_lib import cards, roles, runs
    from course_lib.checkpoints import WEIGHTS, load_checkpoint, save_checkpoint, sha256
    from course_lib.evaluation.compare import evaluate as figures
    from course_lib.evaluation.compare import held_out_loss
    from course_lib.poems import load_poems
    from course_lib.recipes import recipe as recipes
    from course_lib.training import TrainingSettings

    if epochs <= 0:
        raise Refusal(f"--epochs is {epochs:g}, must be above 0")
    settings = TrainingSettings(
        1 if steps is None else steps,
        learning_rate,
        warmup_steps,
        decay_fraction,
        optimizer.value,
        evaluate_every=evaluate_every,
        accumulate=accumulate,
        patience=patience,
    )
    runs.check_writable(out, run_folder)
    world, where, products = joined(device, precision, shard)
    parent = base or recipes.BASE
    read, validation = named(dynasties)[:poems], load_poems("validation")
    read = recipes.tang_weighted(read, tang_times)
    instruct = recipes.naming_the_style if name_style else roles.plainly
    try:
        checkpoint, trainer = recipes.finetuning(
            load_checkpoint(parent),
            settings,
            read,
            evaluation=validation,
            instruct=instruct,
            batch_size=batch_size,
            seed=seed,
            device=where,
            precision=products,
            compiled=compile_,
            world=world,
        )
    except RuntimeError as error:  # this PyTorch has no Muon
        raise Refusal(str(error)) from error
    if steps is None:  # how many steps an epoch has is known only now that the poems are packed
        trainer.settings = replace(settings, steps=math.ceil(epochs * trainer.steps_per_epoch))
    machine = cards.machine_line(trainer.device, trainer.precision, compile_)
    identity = {
        "kind": "instruction",
        "base": sha256(parent / WEIGHTS),
        "dynasties": dynasties,
        "tang_times": tang_times,
        "name_style": name_style,
        "poems": len(read),
        "batch_size": batch_size,
        "accumulate": accumulate,
        "seed": seed,
    }
    with world.main_first():
        machines = runs.take_up(run_folder, trainer, identity, machine)
    if not runs.finish_steps(trainer, run_folder, save_every, compile_):
        raise typer.Exit(130)
    checkpoint = runs.as_saved(checkpoint, trainer)
    if not world.is_main:
        return
    loss = held_out_loss(checkpoint, validation, instruct=instruct)
    test = figures(checkpoint, load_poems("test"), instruct=instruct)
    facts, story = cards.finetuning_card(
        checkpoint, trainer, read, validation, loss, runs.speeds(run_folder), machines, parent, test, name_style
    )
    save_checkpoint(checkpoint, out, facts, story)
    print(f"{test.table()}\nwritten: {out}")
