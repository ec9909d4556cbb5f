"""The loss: which tokens are predicted, which are learned, and how their losses are averaged.

At place t the model predicts the token at t + 1. Labels stand at the place of their ids until `next_tokens` moves them.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch


class Loss(NamedTuple):
    """Mean losses in nats per token: over the learned tokens, and over the whole sequence."""

    response: float
    whole: float


class LossSums(NamedTuple):
    """Sums of losses in nats, and counts of tokens: each has the shape () for a batch, or (B,) for its rows."""

    response: Tensor  # over the learned tokens; training uses the gradient of this sum
    response_count: Tensor
    whole: Tensor  # over all tokens that are predicted
    whole_count: Tensor

    def stacked(self) -> Tensor:
        """The four sums as one float tensor, (4,) or (4, B)."""
        return torch.stack(self)

    def means(self) -> Loss:
        """The mean losses of a batch."""
        response, response_count, whole, whole_count = self.stacked().tolist()
        return Loss(response / response_count, whole / whole_count)


def total(sums: Iterable[LossSums]) -> LossSums:
    """The sums of several batches, added up."""
    return LossSums(*torch.stack([s.stacked() for s in sums]).sum(0))


def mean_loss(sums: Iterable[LossSums]) -> Loss:
    """The mean losses over several batches, without a gradient. All tokens have the same weight."""
    with torch.no_grad():
        return total(sums).means()


def next_tokens(ids: Tensor) -> Tensor:
    """The ids moved one place to the left, (B, T): place t holds the token to predict there, the last place IGNORE."""
    return F.pad(ids, (0, 1), value=IGNORE)[:, 1:]


def targets_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """The token to predict at each place, (B, T), and whether it is learned, (B, T) bool.

    The target is IGNORE where there is nothing to predict: before padding and before a new example.
    """
    unpredictable = ~batch.attention_mask
    if batch.position_ids is not None:
        unpredictable |= batch.position_ids == 0
    targets = next_tokens(batch.input_ids.masked_fill(unpredictable, IGNORE))
    return targets, (next_tokens(batch.labels) != IGNORE) & (targets != IGNORE)


def token_losses(model: Callable[..., Tensor], batch: Batch, targets: Tensor) -> Tensor:
    """The cross entropy of each target in nats, (B, T); 0 where the target is IGNORE."""
    logits = model(batch.input_ids, batch.position_ids).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view_as(targets)


def loss_sums(model: Callable[..., Tensor], batch: Batch, dim: int | None = None) -> LossSums:
    """The sums over a batch, () each; with `dim=1`, over each of its rows, (B,)."""
    targets, is_learned = targets_of(batch)
    losses = token_losses(model, batch, targets)
    return LossSums((losses * is_learned).sum(dim), is_learned.sum(dim), losses.sum(dim), (targets != IGNORE).sum(dim))


def distillation_sums(model: Callable[..., Tensor], batch: Batch, teacher: Callable[..., Tensor]) -> LossSums:
    """The sums over a batch for a model that learns the probabilities of `teacher`, which has the same vocabulary.

    `response` is the cross entropy between the two at the learned tokens (Hinton et al. 2015, temperature 1). `whole`
    is that of the batch's own tokens, as in `loss_sums`, and has no gradient.
    """
    targets, is_learned = targets_of(batch)
    with torch.no_grad():
        wanted = teacher(batch.input_ids, batch.position_ids).float().softmax(-1)
    logits = model(batch.input_ids, batch.position_ids).float()
    losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(0, 1), reduction="none").view_as(targets)
    whole = token_losses(lambda *_: logits.detach(), batch, targets).sum()
    return LossSums((losses * is_learned).sum(), is_learned.sum(), whole, (targets != IGNORE).sum())


def example_sums(values: Tensor, batch: Batch) -> Tensor:
    """The sums of `values`, (B, T), over each example of a packed batch: (examples,), in the order of the rows."""
    assert batch.position_ids is not None, "only a packed batch has positions"
    begins = (batch.position_ids == 0) & batch.attention_mask
    number = begins.flatten().cumsum(0).sub(1).clamp(min=0)  # of the example at each place
    return values.new_zeros(int(begins.sum())).index_add(0, number, (values * batch.attention_mask).flatten())


def preference_sums(
    model: Callable[..., Tensor],
    batch: Batch,
    reference: Callable[..., Tensor],
    beta: float = 0.1,
    anchor: float = 0.5,
    per_token: bool = False,
) -> LossSums:
    """The sums over a batch whose examples are pairs: a chosen answer, then the rejected answer to the same prompt.

    `response` sums over pairs what direct preference optimisation minimises (Rafailov et al. 2023, equation 7):

        -log sigmoid(beta * margin),  margin = gain of the chosen answer - gain of the rejected one

    The gain of an answer is how much likelier the model finds it than `reference` does, in nats; with `per_token`, in
    nats per token. `anchor` times the mean loss on the chosen answer is added, in nats per token. It keeps this answer
    from becoming less likely too (Pang et al. 2024). `response_count` counts pairs. `whole` is that of `loss_sums`.
    """
    targets, is_learned = targets_of(batch)
    losses = token_losses(model, batch, targets)
    with torch.no_grad():
        before = token_losses(reference, batch, targets)
    lengths = example_sums(is_learned.float(), batch)
    gains = example_sums((before - losses) * is_learned, batch) / (lengths if per_token else 1)
    chosen = (example_sums(losses * is_learned, batch) / lengths)[::2]
    pair_losses = anchor * chosen - F.logsigmoid(beta * (gains[::2] - gains[1::2]))
    pairs = torch.tensor(len(pair_losses), device=losses.device)
    return LossSums(pair_losses.sum(), pairs, losses.detach().sum(), (targets != IGNORE).sum())


def count_pairs(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """How many pairs these batches have, and how many tokens are predicted in them: () each, as `count_targets`."""
    _, predicted = count_targets(batches)
    examples = [((batch.position_ids == 0) & batch.attention_mask).sum() for batch in batches]
    return torch.stack(examples).sum() // 2, predicted


row_sums = partial(loss_sums, dim=1)  # (B,) each
LossFunction = Callable[[Callable[..., Tensor], Batch], LossSums]  # such as `loss_sums`


def count_targets(batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """How many tokens of these batches are learned, and how many are predicted: () each, on the batches' device."""
    learned = predicted = torch.tensor(0)
    for targets, is_learned in map(targets_of, batches):
        learned = learned + is_learned.sum()
        predicted = predicted + (targets != IGNORE).sum()
    return learned, predicted
