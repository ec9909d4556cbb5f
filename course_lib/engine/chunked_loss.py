"""The losses of `course_lib.losses`, computed without holding all logits at once.

A training step has 2,816 positions or more, with 9,085 logits each: 0.1 GB, and as much again for their gradient. Here
a few hundred positions are computed at a time. Each piece adds its losses and its gradient, and its logits are dropped
(Hsu et al. 2024). Positions without a label cost no gradient products, and padding is skipped.
`course_lib.losses` is the definition; the tests compare the two.
"""

from __future__ import annotations

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
    """The sums of `losses.loss_sums`. Only `response` has a gradient.

    `model` is a `PoetryModel` or its compiled or DDP-wrapped form; `piece` is how many positions to take at a time.
    """
    targets, is_learned = targets_of(batch)
    head = partial(_uncompiled_head(), targets=targets, is_learned=is_learned, piece=piece)
    return LossSums(*model(batch.input_ids, batch.position_ids, head=head))


@torch.no_grad()
def row_sums(model: Callable[..., Tensor], batch: Batch, piece: int = PIECE) -> LossSums:
    """The sums of `losses.row_sums`, one for each row of the batch, (B,), without a gradient."""
    targets, is_learned = targets_of(batch)
    losses = token_losses(model, batch, targets, piece)
    return LossSums((losses * is_learned).sum(1), is_learned.sum(1), losses.sum(1), (targets != IGNORE).sum(1))


@torch.no_grad()
def token_losses(model: Callable[..., Tensor], batch: Batch, targets: Tensor, piece: int = PIECE) -> Tensor:
    """The losses of `losses.token_losses`, (B, T), without a gradient."""

    def head(hidden: Tensor, embedding: Tensor) -> Tensor:
        return losses_of(hidden.flatten(0, 1), embedding, targets.flatten(), piece).view_as(targets)

    return model(batch.input_ids, batch.position_ids, head=head)


def losses_of(hidden: Tensor, embedding: Tensor, targets: Tensor, piece: int = PIECE) -> Tensor:
    """Cross entropy in nats at each position, (N,), from (N, D), (V, D) and (N,); 0 where the target is IGNORE."""
    pieces = zip(torch.split(hidden, piece), torch.split(targets, piece), strict=True)
    cross_entropy = partial(F.cross_entropy, ignore_index=IGNORE, reduction="none")
    return torch.cat([cross_entropy(F.linear(states, embedding).float(), target) for states, target in pieces])


@cache
def _uncompiled_head() -> Callable[..., LossSums]:
    """`_sums_of`, never compiled: the number of pieces varies, and compiling it gains little.

    Made at the first call, because `torch.compiler.disable` imports the compiler, which is slow.
    """
    return torch.compiler.disable(_sums_of)


def _sums_of(hidden: Tensor, embedding: Tensor, targets: Tensor, is_learned: Tensor, piece: int) -> tuple[Tensor, ...]:
    """The four sums from the last hidden states, (B, T, D), the embedding, (V, D), and `targets_of`, (B, T) each."""
    flat = (hidden.flatten(0, 1), embedding, targets.flatten(), is_learned.flatten())
    return _Sums.apply(*flat, piece)  # type: ignore[no-untyped-call]


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
        for positions in torch.split(learned_first, piece):
            target = targets[positions].clamp(min=0)[:, None]
            learned = is_learned[positions]
            compute_all = kind != "cpu"  # reading a flag would make the program wait for the GPU
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
        """The gradient of the first sum; nothing is learned from the others."""
        return *(gradient.mul_(of_sums[0]) for gradient in ctx.saved_tensors), None, None, None
