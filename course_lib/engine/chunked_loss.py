"""The losses of `course_lib.losses`, computed without holding all logits at once.

With 9,085 logits each, 2,816 positions take 0.1 GB, and as much again for the gradient. Here a few hundred positions
are computed at a time. Each piece adds its losses and its gradient, then drops its logits (Hsu et al. 2024). A CPU
skips padding, and computes no gradient for pieces without a label.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch
from course_lib.losses import LossSums, targets_of

PIECE = 256  # positions; for other sizes see `benchmarks/LOG.md`: The loss in pieces


def loss_sums(model: Callable[..., Tensor], batch: Batch, piece: int = PIECE) -> LossSums:
    """The sums of `losses.loss_sums`, computed from `piece` positions at a time. Only `response` has a gradient."""
    targets, is_learned = targets_of(batch)
    head = partial(_uncompiled_head(), targets=targets, is_learned=is_learned, piece=piece)
    return LossSums(*model(batch.input_ids, batch.position_ids, head=head))


@torch.no_grad()
def row_sums(model: Callable[..., Tensor], batch: Batch, piece: int = PIECE) -> LossSums:
    """The sums of `losses.row_sums`, (B,) each, without a gradient."""
    targets, is_learned = targets_of(batch)
    losses = model(batch.input_ids, batch.position_ids, head=partial(losses_of, targets=targets, piece=piece))
    return LossSums((losses * is_learned).sum(1), is_learned.sum(1), losses.sum(1), (targets != IGNORE).sum(1))


def losses_of(hidden: Tensor, embedding: Tensor, targets: Tensor, piece: int = PIECE) -> Tensor:
    """Cross entropy of each target in nats, from (…, D), (V, D) and (…); same shape, 0 where the target is IGNORE."""
    pieces = zip(hidden.flatten(0, -2).split(piece), targets.flatten().split(piece), strict=True)
    cross_entropy = partial(F.cross_entropy, ignore_index=IGNORE, reduction="none")
    losses = [cross_entropy(F.linear(states, embedding).float(), target) for states, target in pieces]
    return torch.cat(losses).view_as(targets)


@cache
def _uncompiled_head() -> Callable[..., tuple[Tensor, ...]]:
    """The head that returns the four sums. It is never compiled, because that gains little."""

    def sums(hidden: Tensor, embedding: Tensor, targets: Tensor, is_learned: Tensor, piece: int) -> tuple[Tensor, ...]:
        flat = (hidden.flatten(0, 1), embedding, targets.flatten(), is_learned.flatten())
        return _Sums.apply(*flat, piece)  # type: ignore[no-untyped-call]

    return torch.compiler.disable(sums)  # at the first call, because this imports the compiler, which is slow


class _Sums(torch.autograd.Function):
    """Computes the gradient during the forward pass, because the logits no longer exist at the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embedding: Tensor, targets: Tensor, is_learned: Tensor, piece: int
    ) -> tuple[Tensor, ...]:
        """(N, D), (V, D), (N,), (N,) -> the four numbers of `LossSums`."""
        kind = hidden.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        weight = embedding.to(precision)
        hidden_gradient = torch.zeros_like(hidden)
        embedding_gradient = torch.zeros_like(embedding)
        is_target = targets != IGNORE
        response = hidden.new_zeros((), dtype=torch.float32)
        whole = torch.zeros_like(response)
        learned_first = torch.argsort(2 * is_learned + is_target, descending=True, stable=True)
        compute_all = kind != "cpu"  # reading a flag would make the program wait for the GPU
        for positions in torch.split(learned_first, piece):
            target = targets[positions].clamp(min=0)[:, None]
            learned = is_learned[positions]
            if not (compute_all or is_target[positions].any()):
                break
            states = hidden[positions].to(precision)
            logits = (states @ weight.T).float()
            normalizer = logits.logsumexp(dim=-1, keepdim=True)
            losses = (normalizer - logits.gather(1, target))[:, 0] * is_target[positions]
            response += (losses * learned).sum()
            whole += losses.sum()
            if any(ctx.needs_input_grad) and (compute_all or learned.any()):
                error = logits.sub_(normalizer).exp_()  # the predicted probabilities …
                error.scatter_add_(1, target, torch.full_like(error[:, :1], -1.0))  # … minus 1 at the target
                error = (error * learned[:, None]).to(precision)
                hidden_gradient[positions] = (error @ weight).to(hidden.dtype)
                embedding_gradient += error.T @ states
        ctx.save_for_backward(hidden_gradient, embedding_gradient)
        return response, is_learned.sum(), whole, is_target.sum()

    @staticmethod
    def backward(ctx: Any, *of_sums: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the first sum; the others have none."""
        return *(gradient.mul_(of_sums[0]) for gradient in ctx.saved_tensors), None, None, None
