"""Instruction fine-tuning: a base model learns to answer a title with a poem, and to stop."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
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
    order of the rows.

    Raises:
        ValueError: there are no poems, or one fits no instruction.
    """
    with_roles = base.with_roles(instructions)
    checkpoint = replace(with_roles, model=copy.deepcopy(with_roles.model))

    def batches(of: Sequence[Poem], seed: int | None) -> InstructionBatches:
        return InstructionBatches.from_poems(
            of,
            checkpoint.tokenizer,
            context=checkpoint.model.config.max_position_embeddings,
            batch_size=batch_size,
            seed=seed,
            instructions=instructions,
        )

    training = batches(poems, seed)
    identity = {
        "kind": "instruction",
        "base": weights_digest(base.model),
        "instructions": ",".join(instruction.name for instruction in instructions),
        **identity_of(poems, training),
    }
    return Recipe(
        kind="instruction",
        checkpoint=checkpoint,
        batches=training,
        evaluation=batches(evaluation, None) if evaluation else None,
        identity=identity,
        poems=poems,
        parent=parent,
    )
