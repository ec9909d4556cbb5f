"""Pretraining: a model reads poems end to end and learns to predict every next character."""

import copy
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from course_lib.batches import PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import Poem
from course_lib.recipes.recipe import Recipe, identity_of, weights_digest
from course_lib.tokenizer import CharacterTokenizer


def pretraining(
    poems: Sequence[Poem],
    tokenizer: CharacterTokenizer,
    *,
    shape: ModelConfig | None = None,
    start: Checkpoint | None = None,
    evaluation: Sequence[Poem] = (),
    batch_size: int = 16,
    seed: int = 0,
    parent: Path | None = None,
) -> Recipe:
    """Train a new model of this shape, or a copy of `start`, on the poems as plain text.

    `batch_size` counts rows, each as long as the model's context. `seed` decides the first weights (it seeds PyTorch)
    and the order of the poems. Raises ValueError if there are no poems.
    """
    torch.manual_seed(seed)
    model = copy.deepcopy(start.model) if start else PoetryModel(shape or ModelConfig(len(tokenizer)))
    context = model.config.max_position_embeddings
    batches_of = partial(PlainTextBatches, tokenizer=tokenizer, context=context, batch_size=batch_size)
    batches = batches_of(poems, seed=seed)
    held_out = batches_of(evaluation, seed=None) if evaluation else None
    identity = {"kind": "base", **({"base": weights_digest(model)} if start else {}), **identity_of(poems, batches)}
    identity |= {"hidden_size": model.config.hidden_size, "layers": model.config.num_hidden_layers, "context": context}
    checkpoint = Checkpoint(model, tokenizer)
    return Recipe("base", checkpoint, batches, held_out, identity=identity, poems=poems, parent=parent)
