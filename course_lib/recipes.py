"""The two runs of the course, pretraining and fine-tuning, as settings for the one loop.

The notebooks and the command line both call these; what comes back is a `Trainer` to iterate over.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from course_lib.batches import InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.model import ModelConfig, PoetryModel
from course_lib.poems import ASSETS, Poem, load_poems
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import Trainer, TrainingSettings

BASE = ASSETS / "checkpoints" / "base"
FINETUNED = ASSETS / "checkpoints" / "finetuned"
OWN = Path("checkpoints") / "finetuned"  # the learner's, below the folder they work in


def pretraining(
    settings: TrainingSettings,
    tokenizer: CharacterTokenizer,
    poems: Sequence[Poem],
    *,
    shape: ModelConfig | None = None,
    batch_size: int = 16,
    seed: int = 0,
    device: torch.device | None = None,
    precision: torch.dtype | None = None,
    compiled: bool = True,
) -> tuple[Checkpoint, Trainer]:
    """A new model and the trainer that reads `poems` end to end; the validation poems are its evaluation."""
    torch.manual_seed(seed)
    checkpoint = Checkpoint(PoetryModel(shape or ModelConfig(vocab_size=len(tokenizer))), tokenizer)
    context = checkpoint.model.config.max_position_embeddings
    batches = PlainTextBatches(poems, tokenizer, context=context, batch_size=batch_size, seed=seed)
    held_out = PlainTextBatches(
        load_poems("validation"), tokenizer, context=context, batch_size=batch_size, seed=None
    )
    trainer = Trainer(
        checkpoint.model,
        batches,
        settings,
        pad_id=tokenizer.pad_id,
        evaluation=held_out,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    return checkpoint, trainer


def finetuning(
    base: Checkpoint,
    settings: TrainingSettings,
    poems: Sequence[Poem],
    *,
    evaluation: Sequence[Poem] = (),
    batch_size: int = 16,
    seed: int = 0,
    device: torch.device | None = None,
    precision: torch.dtype | None = None,
    compiled: bool = False,
) -> tuple[Checkpoint, Trainer]:
    """A copy of `base` that knows the roles, and the trainer that teaches it to answer a title with a poem.

    `batch_size` counts rows of the model's context, each with about three poems.
    """
    checkpoint = base.with_roles()
    tokenizer, context = checkpoint.tokenizer, checkpoint.model.config.max_position_embeddings

    def batches(of: Sequence[Poem], seed: int | None) -> InstructionBatches:
        return InstructionBatches.from_poems(of, tokenizer, context=context, batch_size=batch_size, seed=seed)

    trainer = Trainer(
        checkpoint.model,
        batches(poems, seed),
        settings,
        pad_id=tokenizer.pad_id,
        evaluation=batches(evaluation, None) if evaluation else None,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    return checkpoint, trainer
