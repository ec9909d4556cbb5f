"""Instruction fine-tuning: a base model learns to answer a title with a poem, and to stop.

`finetuning` makes the conversations from poems; `conversing` takes any conversations.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from course_lib.batches import InstructionBatches
from course_lib.checkpoints import Checkpoint
from course_lib.instructions import POEM, Instruction
from course_lib.poems import Poem
from course_lib.recipes.recipe import Recipe, digest_of, identity_of, weights_digest
from course_lib.roles import Conversation, plain_conversations


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
    train, held_out = (plain_conversations(some, instructions) for some in (poems, evaluation))
    method = partial(conversing, instructions=instructions, batch_size=batch_size, seed=seed, parent=parent)
    return method(base, train, evaluation=held_out, poems=poems)


def conversing(
    base: Checkpoint,
    conversations: Sequence[Conversation],
    *,
    evaluation: Sequence[Conversation] = (),
    instructions: Sequence[Instruction] = (POEM,),
    batch_size: int = 16,
    seed: int = 0,
    poems: Sequence[Poem] = (),
    parent: Path | None = None,
) -> Recipe:
    """Train a copy of `base` on conversations: it learns what the assistant says in them.

    The checkpoint says that it was taught `instructions`. `poems` are those in the conversations, for the model card.
    Raises ValueError if no conversation has an answer within the context.
    """
    checkpoint = base.with_roles(instructions)
    checkpoint = replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    batches_of = partial(
        InstructionBatches.from_conversations,
        tokenizer=checkpoint.tokenizer,
        context=base.context,
        batch_size=batch_size,
    )
    batches = batches_of(conversations, seed=seed)
    held_out = batches_of(evaluation, seed=None) if evaluation else None
    names = ",".join(instruction.name for instruction in instructions)
    identity = {"kind": "instruction", "base": weights_digest(base.model), "instructions": names}
    data = {"poems": len(conversations), "sha256_of_poems": digest_of(str(conversations))}
    identity |= identity_of(poems, batches) | data
    return Recipe("instruction", checkpoint, batches, held_out, identity=identity, poems=poems, parent=parent)
