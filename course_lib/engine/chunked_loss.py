"""The losses of `course_lib.losses`, computed without holding all logits at once.

With 9,085 logits each, 2,816 positions take 0.1 GB, and as much again for the gradient. Here some positions are
computed at a time. Each piece adds its losses and its gradient, then drops its logits (Hsu et al. 2024). A CPU
skips padding, and computes no gradient for pieces without a label.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch
from course_lib.engine.machine import try_compile
from course_lib.losses import LossSums, targets_of


def piece_for(device: torch.device) -> int:
    """How many positions to compute at a time. A CPU keeps their logits in its cache; a GPU works best on many."""
    return 256 if device.type == "cpu" else 8192  # see `benchmarks/LOG.md`: The loss in pieces


def multiple_for(device: torch.device) -> int:
    """The vocabulary is padded to a multiple of this: a GPU is slow with matrices of other sizes."""
    return 1 if device.type == "cpu" else 8  # see `benchmarks/LOG.md`: A vocabulary that is a multiple of 8


def loss_sums(model: Callable[..., Tensor], batch: Batch, piece: int | None = None) -> LossSums:
    """The sums of `losses.loss_sums`, computed from `piece` positions at a time. Only `response` has a gradient."""
    targets, is_learned = targets_of(batch)
    head = partial(_head, _uncompiled(_sums), targets=targets, is_learned=is_learned, piece=piece)
    return LossSums(*model(batch.input_ids, batch.position_ids, head=head))


@torch.no_grad()
def row_sums(model: Callable[..., Tensor], batch: Batch, piece: int | None = None) -> LossSums:
    """The sums of `losses.row_sums`, (B,) each, without a gradient."""
    targets, is_learned = targets_of(batch)
    losses = model(batch.input_ids, batch.position_ids, head=partial(losses_of, targets=targets, piece=piece))
    return LossSums((losses * is_learned).sum(1), is_learned.sum(1), losses.sum(1), (targets != IGNORE).sum(1))


def losses_of(hidden: Tensor, embedding: Tensor, targets: Tensor, piece: int | None = None) -> Tensor:
    """Cross entropy of each target in nats, from (…, D), (V, D) and (…); same shape, 0 where the target is IGNORE."""
    piece = piece or piece_for(hidden.device)
    pieces = zip(hidden.flatten(0, -2).split(piece), targets.flatten().split(piece), strict=True)
    cross_entropy = partial(F.cross_entropy, ignore_index=IGNORE, reduction="none")
    losses = [cross_entropy(F.linear(states, embedding).float(), target) for states, target in pieces]
    return torch.cat(losses).view_as(targets)


def cross_entropy(logits: Tensor, targets: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """The losses for (N,) targets, (N,) float32; if asked for, their gradient with respect to the logits, (N, V).

    The gradient is the predicted probabilities, minus 1 at the target.
    """
    targets = targets[:, None]
    log_probabilities = logits.log_softmax(dim=-1, dtype=torch.float32)
    losses = -log_probabilities.gather(1, targets)
    if not with_gradient:
        return losses[:, 0], None
    gradient = log_probabilities.exp_().to(logits.dtype)
    return losses[:, 0], gradient.scatter_(1, targets, torch.expm1(-losses).to(logits.dtype))


@cache
def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but the compiler does not look inside; only this call imports the compiler, which is slow."""
    return torch.compiler.disable(function)


_compiled = cache(try_compile)


def _head(sums: Callable[..., tuple[Tensor, ...]], *states: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
    """Call `sums`, and tell it whether the model around it is compiled."""
    return sums(*states, **arguments, compiled=torch.compiler.is_compiling())


def _sums(
    hidden: Tensor, embedding: Tensor, targets: Tensor, is_learned: Tensor, piece: int | None, compiled: bool
) -> tuple[Tensor, ...]:
    """(B, T, D), (V, D), (B, T), (B, T) -> the four numbers of `LossSums`."""
    flat = (hidden.flatten(0, 1), embedding, targets.flatten(), is_learned.flatten())
    return _Sums.apply(*flat, piece or piece_for(hidden.device), compiled)  # type: ignore[no-untyped-call]


class _Sums(torch.autograd.Function):
    """Computes the gradient during the forward pass, because the logits no longer exist at the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, embedding: Tensor, targets: Tensor, is_learned: Tensor, piece: int, compiled: bool
    ) -> tuple[Tensor, ...]:
        """(N, D), (V, D), (N,), (N,) -> the four numbers of `LossSums`."""
        kind = hidden.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        vocab_size = len(embedding)
        weight = F.pad(embedding.to(precision), (0, 0, 0, -vocab_size % multiple_for(hidden.device)))
        hidden_gradient = torch.zeros_like(hidden)
        embedding_gradient = torch.zeros_like(embedding)
        is_target = targets != IGNORE
        response = hidden.new_zeros((), dtype=torch.float32)
        whole = torch.zeros_like(response)
        learned_first = torch.argsort(2 * is_learned + is_target, descending=True, stable=True)
        compute_all = kind != "cpu"  # reading a flag would make the program wait for the GPU
        losses_of_piece = _compiled(cross_entropy) if compiled else cross_entropy
        for positions in torch.split(learned_first, piece):
            is_asked, learned = is_target[positions], is_learned[positions]
            if not (compute_all or is_asked.any()):
                break
            with_gradient = any(ctx.needs_input_grad) and (compute_all or bool(learned.any()))
            states = hidden[positions].to(precision)
            logits = states @ weight.T
            if len(weight) > vocab_size:
                logits[:, vocab_size:] = -torch.inf
            losses, error = losses_of_piece(logits, targets[positions].clamp(min=0), with_gradient)
            response += (losses * learned).sum()
            whole += (losses * is_asked).sum()
            if error is not None:
                hidden_gradient[positions] = (error @ weight).to(hidden.dtype) * learned[:, None]
                embedding_gradient += (error.T @ (states * learned[:, None]))[:vocab_size]
        ctx.save_for_backward(hidden_gradient, embedding_gradient)
        return response, is_learned.sum(), whole, is_target.sum()

    @staticmethod
    def backward(ctx: Any, *of_sums: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the first sum; the others have none."""
        return *(gradient.mul_(of_sums[0]) for gradient in ctx.saved_tensors), None, None, None, None
