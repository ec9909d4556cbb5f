"""The losses of `course_lib.losses` once more, without ever holding all logits at once.

A step of training has 2,816 places or more and 9,085 logits at each: 0.1 GB, and as much again for their gradient. Here
they come into being a few hundred places at a time; each piece yields its losses and its gradient, and is dropped
(Hsu et al. 2024). Places that are not learned are spared the products of a gradient, and padding is not looked at.
`course_lib.losses` is the definition, and the tests hold the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch
from course_lib.losses import targets_of

PLACES = 256  # in a piece; what others cost is in `benchmarks/README.md`


def loss_sums(model: Callable[..., Tensor], batch: Batch, pad_id: int) -> Tensor:
    """The four sums that `losses.loss_sums` gives, (4,). The first of them, what is learned, has a gradient.

    `model` is a `PoetryModel`, or what was made of one to run it compiled or on several processes.
    """
    targets, learned = targets_of(batch, pad_id)
    return model(batch.input_ids, batch.position_ids, head=partial(never_compiled(), targets=targets, learned=learned))


@cache
def never_compiled() -> Callable[..., Tensor]:
    """`sums_of`, which a compiler is to leave alone: the pieces differ in number, and there is little to gain."""
    return torch.compiler.disable(sums_of)  # type: ignore[no-untyped-call]  # here and not above it, since this imports the compiler


@torch.no_grad()
def token_losses(model: Callable[..., Tensor], batch: Batch, targets: Tensor) -> Tensor:
    """What `losses.token_losses` gives, (B, T), without a gradient."""

    def head(hidden: Tensor, embedding: Tensor) -> Tensor:
        return losses_of(hidden.flatten(0, 1), embedding, targets.flatten()).view_as(targets)

    return model(batch.input_ids, batch.position_ids, head=head)


def losses_of(hidden: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy in nats at each place, (N,), from (N, D), (V, D) and (N,); 0 where the target is IGNORE."""
    pieces = zip(torch.split(hidden, PLACES), torch.split(targets, PLACES), strict=True)
    of = partial(F.cross_entropy, ignore_index=IGNORE, reduction="none")
    return torch.cat([of(F.linear(states, embedding).float(), target) for states, target in pieces])


def sums_of(hidden: Tensor, embedding: Tensor, targets: Tensor, learned: Tensor) -> Tensor:
    """The four sums from the last hidden states, (B, T, D), and the embedding, (V, D).

    `targets` and `learned`, (B, T), are those of `losses.targets_of`.
    """
    places = (hidden.flatten(0, 1), embedding, targets.flatten(), learned.flatten())
    return _Sums.apply(*places)  # type: ignore[no-untyped-call]


class _Sums(torch.autograd.Function):
    """Forward finds the gradient as well: by the time of backward the logits are gone."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embedding: Tensor, targets: Tensor, learned: Tensor) -> Tensor:
        """(N, D), (V, D), (N,), (N,) -> (4,)"""
        kind = hidden.device.type
        products = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        weight = embedding.to(products)
        of_hidden, of_embedding = torch.zeros_like(hidden), torch.zeros_like(embedding)
        there = targets != IGNORE
        zero = hidden.new_zeros((), dtype=torch.float32)
        sums = torch.stack((zero, learned.sum(), zero, there.sum()))
        learned_first = torch.argsort(2 * learned + there, descending=True, stable=True)
        for piece in torch.split(learned_first, PLACES):
            target, is_learned = targets[piece].clamp(min=0)[:, None], learned[piece]
            wait = kind != "cpu"  # to look at its flags would mean to wait for a GPU
            if not (wait or there[piece].any()):
                break
            states = hidden[piece].to(products)
            logits = (states @ weight.T).float()
            total = logits.logsumexp(dim=-1, keepdim=True)
            losses = (total - logits.gather(1, target))[:, 0] * there[piece]
            sums[0] += (losses * is_learned).sum()
            sums[2] += losses.sum()
            if any(ctx.needs_input_grad) and (wait or is_learned.any()):
                error = logits.sub_(total).exp_()  # what the model expected …
                error.scatter_add_(1, target, torch.full_like(error[:, :1], -1.0))  # … less what came
                error = (error * is_learned[:, None]).to(products)
                of_hidden[piece] = (error @ weight).to(hidden.dtype)
                of_embedding += error.T @ states
        ctx.save_for_backward(of_hidden, of_embedding)
        return sums

    @staticmethod
    def backward(ctx: Any, of_sums: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the first sum; nothing is learned from the others."""
        return *(gradient.mul_(of_sums[0]) for gradient in ctx.saved_tensors), None, None
