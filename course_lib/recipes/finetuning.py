"""Instruction fine-tuning: a base model learns to answer a title with a poem, and to stop."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from course_lib.batches import InstructionBatches
from course_lib.checkpoints import Checkpoint
from course_lib.instructions import POEM, Instruction
from course_lib.poems import Poem
from course_lib.recipes.recipe import Recipe, identity_of, weights_digest


def finetuning(
    base: Checkpoint,
    poems: Sequence[Poem],
    *,
    evaluation: Sequence[Poem] = (),
    instructions: Sequence[Instruction] = (POEM,),
    batch_size: int = 16,
    seed: int = 0,
    parent: Path | None = None,
) -> Recipe:
    """Train a copy of `base` on the poems as answers to `instructions`, each to the last one that it fits.

    `batch_size` counts rows, each as long as the model's context, with about three poems in a row. `seed` decides the
    order of the rows. Raises ValueError if there are no poems, or if one fits no instruction.
    """
    checkpoint = base.with_roles(instructions)
    checkpoint = replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    batches_of = partial(
        InstructionBatches.from_poems,
        tokenizer=checkpoint.tokenizer,
        instructions=instructions,
        context=base.model.config.max_position_embeddings,
        batch_size=batch_size,
    )
    batches = batches_of(poems, seed=seed)
    held_out = batches_of(evaluation, seed=None) if evaluation else None
    names = ",".join(instruction.name for instruction in instructions)
    identity = {"kind": "instruction", "base": weights_digest(base.model), "instructions": names}
    identity |= identity_of(poems, batches)
    return Recipe("instruction", checkpoint, batches, held_out, identity=identity, poems=poems, parent=parent)
