"""The exercises of notebooks 03 and 04: the base model, and the loop that fine-tunes it."""

from collections.abc import Iterator
from math import exp, isclose, log
from typing import Any

import torch

from course_lib.batches import IGNORE
from course_lib.checks.verdict import call, exercise
from course_lib.losses import next_tokens


@exercise("a layer has four square matrices, three matrices of the MLP and two norms.")
def layer_parameters(function: Any) -> Iterator[str]:
    """The number of parameters in one layer."""
    for size, inner in ((256, 704), (8, 20)):
        found = int(call(function, size, inner))
        attention, mlp, norms = 4 * size * size, 3 * size * inner, 2 * size
        if found == attention + mlp + norms:
            continue
        if found == attention + mlp:
            yield "the two norms are missing: they have one weight for each channel"
        if found == 3 * size * size + mlp + norms:
            yield "one matrix is missing: after query, key and value, o_proj leads out of attention"
        if found == attention + 2 * size * inner + norms:
            yield "this MLP has a gate: how many of the layer's names above begin with mlp?"
        yield f"for hidden size {size} and inner size {inner} you returned {found:,}; go through the names above"


@exercise("every old id keeps its row, and each new row is the mean of the old rows.")
def grown_embedding(function: Any) -> Iterator[str]:
    """An embedding with new rows below the old ones."""
    for old in (torch.tensor([[1.0, 5.0, 0.0], [3.0, -1.0, 6.0]]), torch.arange(15.0).view(5, 3) ** 2):
        found, mean = call(function, old.clone(), 2), old.mean(dim=0)
        if tuple(found.shape) != (len(old) + 2, 3):
            yield f"the new shape must be {(len(old) + 2, 3)}, 2 rows more; yours is {tuple(found.shape)}"
        if torch.allclose(found[2:], old) and not torch.allclose(found[: len(old)], old):
            yield "the new rows stand before the old ones, so every old id now means another character"
        if not torch.allclose(found[: len(old)], old):
            yield "the old rows must stay unchanged: they are what the base model has learned"
        if not torch.allclose(found[len(old) :], mean.expand(2, -1)):
            yield "each new row must be the mean over all old rows, channel by channel"


@exercise("a loss of L nats is as unsure as a fair draw from exp(L) characters.")
def choices(function: Any) -> Iterator[str]:
    """The number of equally likely characters that a loss stands for."""
    for count in (1, 10, 50):
        loss = log(count)
        found = float(call(function, loss))
        if isclose(found, count, rel_tol=1e-3):
            continue
        if isclose(found, 2**loss, rel_tol=1e-3):
            yield "2 to the power of the loss is right for bits; these losses are in nats"
        if isclose(found, exp(-loss), rel_tol=1e-3):
            yield "this is the probability of the right character; how many equally likely characters are there?"
        yield f"a fair draw from {count} characters has a loss of log({count}) = {loss:.3f}; you returned {found:.3f}"


@exercise("the loss at t belongs to the token at t + 1, so the labels are shifted before they select the losses.")
def response_loss(function: Any) -> Iterator[str]:
    """The mean loss over the learned tokens, from the losses of all places and the labels."""
    labels = torch.tensor([[IGNORE, IGNORE, 7, 8, 2], [IGNORE, 5, 2, IGNORE, IGNORE]])
    losses = torch.tensor([[9.0, 1.0, 2.0, 4.0, 0.0], [3.0, 5.0, 9.0, 9.0, 0.0]])
    found = float(call(function, losses.clone(), labels.clone()))
    learned = next_tokens(labels) != IGNORE
    if isclose(found, losses[learned].mean().item(), rel_tol=1e-5):
        return
    if isclose(found, losses[labels != IGNORE].mean().item(), rel_tol=1e-5):
        yield "the loss at t is for predicting the token at t + 1: whose label decides whether it counts?"
    if isclose(found, losses.mean().item(), rel_tol=1e-5):
        yield "this is the mean over all places; leave out the prompt and the padding"
    if isclose(found, (losses * learned).mean().item(), rel_tol=1e-5):
        yield "you added up the right losses; divide by their number, not by the number of all places"
    yield f"the mean over the learned tokens is not {found:.3f}; which five losses belong to 7, 8, 2, 5 and 2?"


@exercise("the free tokens cost nothing but are counted, so the mean falls although no poem is better.")
def diluted_loss(function: Any) -> Iterator[str]:
    """The mean loss of a poem and of free tokens before it."""
    for loss, learned, free in ((4.4, 48, 16), (3.0, 10, 30)):
        found = float(call(function, loss, learned, free))
        if isclose(found, loss * learned / (learned + free), rel_tol=1e-3):
            continue
        if isclose(found, loss, rel_tol=1e-3):
            yield "the sum of the losses stays the same, but the mean is now taken over more tokens"
        if isclose(found, loss / 2, rel_tol=1e-3):
            yield "the mean of the two means is right only if both parts have the same number of tokens"
        yield f"you returned {found:.3f} for the mean of {learned} tokens at {loss} and {free} tokens at 0"


@exercise("all numbers are scaled by one factor, so the gradient keeps its direction; only a long one is shortened.")
def clipped(function: Any) -> Iterator[str]:
    """A gradient shortened to a largest length."""
    for values, largest in (([3.0, 4.0], 1.0), ([0.3, 0.4], 1.0), ([6.0, -8.0, 0.0], 5.0)):
        gradient = torch.tensor(values)
        found, norm = call(function, gradient.clone(), largest), gradient.norm().item()
        if torch.allclose(found, gradient * min(1.0, largest / norm), atol=1e-4):
            continue
        if torch.allclose(found, gradient.clamp(-largest, largest), atol=1e-4):
            yield "clipping each number by itself turns the gradient in another direction; scale all by one factor"
        if torch.allclose(found, gradient * largest / norm, atol=1e-4):
            yield "a gradient that is short already must stay unchanged"
        yield f"{values} has a norm of {norm:g}; clipped to {largest:g} you returned {found.tolist()}"
