"""The losses on poems that the model has not read."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from course_lib.batches import Batches, InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.engine.chunked_loss import row_sums
from course_lib.engine.machine import Machine
from course_lib.evaluation.metrics import Estimate, bootstrap_mean, without_none
from course_lib.instructions import Instruction
from course_lib.losses import Loss, LossSums
from course_lib.model import evaluating
from course_lib.poems import Poem
from course_lib.roles import plain_conversations
from course_lib.tasks import FORMS

Progress = Callable[[str, int, int], object]
"""A function that is called with the name of the stage, how much of it is done, and how much there is to do."""


def held_out_loss(
    checkpoint: Checkpoint, poems: Sequence[Poem], precision: torch.dtype = torch.float32, batch_size: int = 8
) -> Loss:
    """The mean losses on `poems`, in nats per token.

    A model that was taught instructions reads each poem as the answer to one of its `general_instructions`. A base
    model reads plain text; there every character counts, so both losses are the same.
    """
    rows = loss_rows(checkpoint, poems, precision, batch_size)
    return LossSums(*(part.sum() for part in rows)).means()


def loss_rows(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    precision: torch.dtype = torch.float32,
    batch_size: int = 8,
    progress: Progress = lambda *_: None,
) -> LossSums:
    """The loss sums of each row of the batches that `poems` make: four float64 tensors, (rows,), on the CPU."""
    machine = Machine(checkpoint.device, precision)
    context = checkpoint.context
    kind: Callable[..., Batches] = PlainTextBatches
    texts: Sequence[Any] = poems
    if checkpoint.instructions:
        kind = InstructionBatches.from_conversations
        texts = plain_conversations(poems, general_instructions(checkpoint.instructions))
    batches = kind(texts, checkpoint.tokenizer, context=context, batch_size=batch_size, seed=None).to(machine.device)
    rows: list[list[Tensor]] = []
    with torch.no_grad(), evaluating(checkpoint.model), machine.autocast():
        for batch in batches.epoch(0):
            rows.append([part.cpu() for part in row_sums(checkpoint.model, batch)])
            progress("taking the loss", len(poems) * len(rows) // len(batches), len(poems))
    return LossSums(*(torch.cat(parts).double() for parts in zip(*rows, strict=True)))


def general_instructions(taught: Sequence[Instruction]) -> list[Instruction]:
    """The instructions to answer a title that name no form of regulated verse, so that models can be compared."""
    named = {form.name for form in FORMS}
    return [i for i in taught if i.kind == "sentence" and i.given in ("title", "text") and i.name not in named]


def losses(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    precision: torch.dtype = torch.float32,
    progress: Progress = lambda *_: None,
) -> dict[str, Estimate]:
    """The losses that apply to the checkpoint. The bootstrap draws rows of batches, each with a few poems."""
    rows = loss_rows(checkpoint, poems, precision, progress=progress)
    whole = bootstrap_mean(rows.whole, rows.whole_count)
    if not checkpoint.instructions:
        return without_none({"plain_text_loss": whole})
    return without_none({"response_loss": bootstrap_mean(rows.response, rows.response_count), "whole_loss": whole})


def unknown_share(checkpoint: Checkpoint, poems: Sequence[Poem]) -> float:
    """The share of characters, in titles and poems, that are not in the vocabulary."""
    rows = [checkpoint.tokenizer.encode(poem.title + poem.text) for poem in poems]
    return sum(row.count(checkpoint.tokenizer.unk_id) for row in rows) / sum(map(len, rows))
