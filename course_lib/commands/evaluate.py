"""The commands `evaluate-loss` and `evaluate`: how good a checkpoint is."""

from __future__ import annotations

import json
from typing import Annotated, Any

from course_lib.commands.options import (
    Comparable,
    Device,
    Folder,
    Json,
    Precision,
    Split,
    SplitChoice,
    announced,
    choose_checkpoint,
    open_checkpoint,
    option,
)


def evaluate_loss(
    checkpoint: Folder = None,
    split: SplitChoice = Split.validation,
    device: Device = None,
    precision: Comparable = Precision.float32,
    as_json: Json = False,
) -> None:
    """The loss on a split, in nats per character.

    For a base model every character of title and poem counts. For one that was taught to answer, there
    are two losses: over the response alone, and over the whole sequence.
    """
    from course_lib.checkpoints import read_card
    from course_lib.evaluation.compare import held_out_loss
    from course_lib.poems import load_poems
    from course_lib.recipes.recipe import instruct_of

    opened, instruct = open_checkpoint(checkpoint, device), instruct_of(read_card(choose_checkpoint(checkpoint)))
    _, products = announced(device, precision)
    poems = load_poems(split.value)
    loss = held_out_loss(opened, poems, products, instruct=instruct)
    has_roles = opened.tokenizer.has_roles
    told: dict[str, Any] = {"split": split.value, "poems": len(poems)}
    if has_roles:
        told |= {"response_loss": loss.response, "whole_loss": loss.whole}
    else:
        told |= {"plain_text_loss": loss.whole}
    if as_json:
        print(json.dumps(told))
        return
    on = f"nats per character on the {len(poems):,} {split.value} poems"
    if has_roles:
        print(f"response        {loss.response:.4f} {on}")
        print(f"whole sequence  {loss.whole:.4f}, instruction and title counted too: of no use for comparing")
    else:
        print(f"{loss.whole:.4f} {on}, as plain text")


def evaluate(
    checkpoint: Folder = None,
    split: SplitChoice = Split.test,
    titles: Annotated[int, option(min=1, help="Write a poem for the first so many of them.")] = 200,
    candidates: Annotated[int, option(min=1, help="Judge also the best of so many poems for each title.")] = 1,
    seed: Annotated[int, option(help="The same seed gives the same table.")] = 0,
    device: Device = None,
    precision: Comparable = Precision.float32,
    as_json: Json = False,
) -> None:
    """How well a model writes: does it follow, does it sound, does it listen to the title, is it its own?

    Side by side with the base model, with the real poems on the same titles, and with their characters
    shuffled. Poems are written at the default settings of `write`, losses taken on all poems of the split.
    In brackets: where the figure would lie for other titles, with 95 % confidence.
    """
    from tqdm import tqdm

    from course_lib.checkpoints import WEIGHTS, load_checkpoint, read_card
    from course_lib.evaluation.compare import compare
    from course_lib.evaluation.metrics import side_by_side
    from course_lib.generation import GenerationSettings
    from course_lib.poems import load_poems
    from course_lib.recipes import recipe as recipes

    opened = open_checkpoint(checkpoint, device)
    where, products = announced(device, precision)
    with tqdm(unit="poem", disable=None, leave=False) as bar:

        def show(stage: str, done: int, total: int) -> None:
            bar.desc, bar.n, bar.total = stage, done, total
            bar.refresh()

        columns = compare(
            opened,
            load_poems(split.value),
            base=load_checkpoint(recipes.BASE, where) if (recipes.BASE / WEIGHTS).is_file() else None,
            titles=titles,
            candidates=candidates,
            settings=GenerationSettings(seed=seed),
            precision=products,
            instruct=recipes.instruct_of(read_card(choose_checkpoint(checkpoint))),
            progress=show,
        )
    if as_json:
        print(json.dumps({name: found.as_dict() for name, found in columns.items()}, ensure_ascii=False))
    else:
        print(side_by_side(columns))
