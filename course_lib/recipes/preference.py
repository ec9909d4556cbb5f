"""Preference alignment: a model that can answer learns which of two answers is the better one.

Direct preference optimisation (DPO, Rafailov et al. 2023) needs pairs of answers, and a frozen copy of the model.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from course_lib.batches import IGNORE, Batch, Example, InstructionBatches
from course_lib.checkpoints import Checkpoint
from course_lib.losses import LossSums, count_pairs, preference_sums
from course_lib.recipes.recipe import Recipe, digest_of, weights_digest
from course_lib.roles import message_segments
from course_lib.tasks import Pair
from course_lib.tokenizer import CharacterTokenizer


def preference(
    start: Checkpoint,
    pairs: Sequence[Pair],
    *,
    evaluation: Sequence[Pair] = (),
    beta: float = 0.1,
    anchor: float = 0.5,
    per_token: bool = False,
    batch_size: int = 4,
    seed: int = 0,
    parent: Path | None = None,
) -> Recipe:
    """Train a copy of `start` to find the chosen answers likelier than the rejected ones, compared with `start` itself.

    `losses.preference_sums` explains `beta`, `anchor` and `per_token`; with a higher `beta` the model stays nearer to
    `start`. `batch_size` counts rows of two contexts. Raises ValueError if no pair fits, or `start` is a base model.
    """
    start.instruction()  # raises ValueError for a base model
    checkpoint = replace(start, model=copy.deepcopy(start.model))
    reference = copy.deepcopy(start.model).eval().requires_grad_(False)

    def loss(model: Callable[..., Tensor], batch: Batch) -> LossSums:
        return preference_sums(model, batch, reference.to(batch.input_ids.device), beta, anchor, per_token)

    batches_of = partial(pair_batches, checkpoint=start, batch_size=batch_size)
    batches = batches_of(pairs, seed=seed)
    held_out = batches_of(evaluation, seed=None) if evaluation else None
    identity = {"kind": "preference", "base": weights_digest(start.model), "pairs": len(pairs)}
    identity |= {"sha256_of_pairs": digest_of(str(pairs)), "beta": beta, "anchor": anchor, "per_token": per_token}
    identity |= {"batch_size": batch_size, "seed": seed}
    return Recipe("preference", checkpoint, batches, held_out, loss, loss, count_pairs, identity, parent=parent)


def pair_batches(
    pairs: Sequence[Pair], checkpoint: Checkpoint, batch_size: int = 4, seed: int | None = None
) -> InstructionBatches:
    """The pairs in batches: in each row, a chosen answer and then the rejected one, with their prompts, pair by pair.

    Any two answers fit into a row, since it is twice as long as the context of the checkpoint's model. Raises
    ValueError if there is no pair whose answers fit into the context.
    """
    context, pad_id = checkpoint.context, checkpoint.tokenizer.pad_id
    examples, width = pair_examples(pairs, checkpoint.tokenizer, context), 2 * context
    return InstructionBatches(examples, pad_id=pad_id, context=width, batch_size=batch_size, seed=seed, together=2)


def pair_examples(pairs: Sequence[Pair], tokenizer: CharacterTokenizer, context: int) -> list[Example]:
    """Two examples for each pair, the chosen answer first. Only the answers are learned, with their end marks.

    Leaves out pairs of which one answer, with its prompt, is longer than the context.
    """
    examples: list[Example] = []
    for prompt, *answers in pairs:
        asked = tokenizer.encode_segments(message_segments(prompt, open_response=True))
        ended = [[*tokenizer.encode(answer), tokenizer.eos_id] for answer in answers]
        both = [Example(asked + ids, [IGNORE] * len(asked) + ids) for ids in ended]
        if max(len(example.input_ids) for example in both) <= context:
            examples += both
    return examples
