"""The commands `evaluate-loss` and `evaluate`: how good a checkpoint is."""

from __future__ import annotations

import json
from typing import Annotated

from course_lib import paths
from course_lib.commands.options import (
    Asked,
    Comparable,
    Device,
    Folder,
    Json,
    SplitChoice,
    choose_folder,
    note,
    option,
)
from course_lib.poems import load_poems


def evaluate_loss(
    checkpoint: Folder = None,
    split: SplitChoice = "validation",
    device: Device = None,
    precision: Comparable = "float32",
    as_json: Json = False,
) -> None:
    """The loss on a split, in nats per character.

    For a base model every character of title and poem counts. A fine-tuned model has two losses: over the response
    alone, and over the whole sequence.
    """
    from course_lib.checkpoints import load_checkpoint
    from course_lib.engine.machine import Machine
    from course_lib.evaluation import held_out_loss

    machine = Machine.choose(device, precision)
    opened = load_checkpoint(choose_folder(checkpoint), machine.device)
    note(str(machine))
    poems = load_poems(split)
    loss = held_out_loss(opened, poems, machine.precision)
    if as_json:
        losses = {"response_loss": loss.response, "whole_loss": loss.whole}
        row = losses if opened.instructions else {"plain_text_loss": loss.whole}
        print(json.dumps({"split": split, "poems": len(poems), **row}))
        return
    on = f"nats per character on the {len(poems):,} {split} poems"
    if opened.instructions:
        print(f"response        {loss.response:.4f} {on}")
        print(f"whole sequence  {loss.whole:.4f}, instruction and title counted too: of no use for comparing")
    else:
        print(f"{loss.whole:.4f} {on}, as plain text")


def evaluate(
    checkpoint: Folder = None,
    split: SplitChoice = "test",
    instruction: Asked = None,
    titles: Annotated[int, option(min=1, help="Write a poem for the first so many of them.")] = 200,
    candidates: Annotated[int, option(min=1, help="Judge also the best of so many poems for each title.")] = 1,
    seed: Annotated[int, option(help="The same seed gives the same table.")] = 0,
    device: Device = None,
    precision: Comparable = "float32",
    as_json: Json = False,
) -> None:
    """How well a model writes: form, rhyme and tones, fit to the title, and whether its lines are its own.

    The columns beside it are the base model, the real poems on the same titles, and the real poems with their
    characters shuffled. Poems are written with the default settings of `write`. Losses are taken on all poems of the
    split. In brackets: the range in which the figure would probably be (95 %) for another sample of titles.
    """
    from tqdm import tqdm

    from course_lib.checkpoints import WEIGHTS, load_checkpoint
    from course_lib.engine.machine import Machine
    from course_lib.evaluation import compare, side_by_side
    from course_lib.sampling import GenerationSettings

    machine = Machine.choose(device, precision)
    opened = load_checkpoint(choose_folder(checkpoint), machine.device)
    note(str(machine))
    with tqdm(unit="poem", disable=None, leave=False) as bar:

        def show(stage: str, done: int, total: int) -> None:
            bar.desc = stage
            bar.n = done
            bar.total = total
            bar.refresh()

        columns = compare(
            opened,
            load_poems(split),
            base=load_checkpoint(paths.BASE, machine.device) if (paths.BASE / WEIGHTS).is_file() else None,
            titles=titles,
            candidates=candidates,
            settings=GenerationSettings(seed=seed),
            precision=machine.precision,
            instruction=opened.instruction(instruction) if instruction else None,
            progress=show,
        )
    if as_json:
        print(json.dumps({name: column.as_dict() for name, column in columns.items()}, ensure_ascii=False))
    else:
        print(side_by_side(columns))
