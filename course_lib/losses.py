"""The loss: which tokens are to be predicted, which are learned, and how it is averaged.

The model predicts at t the token at t + 1; labels and ids stand at the same place until `next_tokens` moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch


class Loss(NamedTuple):
    """Mean losses, nats per token: over the tokens that are learned, and over the whole sequence."""

    response: float
    whole: float


def next_tokens(ids: Tensor) -> Tensor:
    """Move (B, T) one place to the left: at t stands what must be predicted there; IGNORE at the end."""
    return F.pad(ids, (0, 1), value=IGNORE)[:, 1:]


def targets_of(batch: Batch, pad_id: int) -> tuple[Tensor, Tensor]:
    """What is to be predicted at each place, (B, T), and whether it is learned, (B, T) bool.

    Where there is nothing to predict (padding, the first token of an example) the target is IGNORE.
    """
    nothing = batch.input_ids == pad_id
    if batch.position_ids is not None:
        nothing |= batch.position_ids == 0
    targets = next_tokens(batch.input_ids.masked_fill(nothing, IGNORE))
    return targets, (next_tokens(batch.labels) != IGNORE) & (targets != IGNORE)


def token_losses(model: Callable[..., Tensor], batch: Batch, targets: Tensor) -> Tensor:
    """Cross entropy in nats, (B, T): at t that of the token at t + 1; 0 where the target is IGNORE."""
    logits = model(batch.input_ids, batch.position_ids).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view_as(targets)


def loss_sums(model: Callable[..., Tensor], batch: Batch, pad_id: int) -> Tensor:
    """(4,) sums over a batch: loss of the learned tokens, how many they are, loss of all tokens, how many."""
    targets, learned = targets_of(batch, pad_id)
    losses = token_losses(model, batch, targets)
    return torch.stack(((losses * learned).sum(), learned.sum(), losses.sum(), (targets != IGNORE).sum()))


def sums_on(
    device: torch.device,
    precision: torch.dtype,
    model: Callable[..., Tensor],
    batch: Batch,
    pad_id: int,
    loss_sums: Callable[[Callable[..., Tensor], Batch, int], Tensor] = loss_sums,
) -> Tensor:
    """`loss_sums` (or its twin in `course_lib.engine.chunked_loss`) on a device, with matrix products in this precision."""
    if device.type == "cuda":  # from pinned memory, the copy need not be waited for
        parts = (None if part is None else part.pin_memory().to(device, non_blocking=True) for part in batch)
    else:
        parts = (None if part is None else part.to(device) for part in batch)
    batch = Batch._make(parts)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        return loss_sums(model, batch, pad_id)


def mean_losses(sums: Callable[[Batch], Tensor], batches: Iterable[Batch]) -> Loss:
    """The mean losses over all batches, each token counted once; `sums` gives the four sums of a batch."""
    with torch.no_grad():
        total = torch.stack([sums(batch) for batch in batches]).sum(0)
    learned, learned_count, whole, whole_count = total.tolist()
    return Loss(learned / learned_count, whole / whole_count)


def count_targets(batches: Sequence[Batch], pad_id: int) -> tuple[int, int]:
    """How many tokens of these batches are learned, and how many are predicted at all."""
    learned = whole = 0
    for targets, is_learned in (targets_of(batch, pad_id) for batch in batches):
        learned += int(is_learned.sum())
        whole += int((targets != IGNORE).sum())
    return learned, whole
