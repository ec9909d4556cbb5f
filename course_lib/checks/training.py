"""The exercises of notebooks 03 and 04: the base model, and the loop that fine-tunes it."""

from __future__ import annotations

import math
from typing import Any

import torch

from course_lib.batches import IGNORE
from course_lib.checks.verdict import call, exercise
from course_lib.losses import next_tokens

# --- notebook 03: the pretrained checkpoint -------------------------------------------------------


@exercise
def layer_parameters(function: Any) -> str | None:
    """four square matrices, three of the MLP and two norms: the layers are most of what the model is."""
    for size, inner in ((256, 704), (8, 20)):
        found = int(call(function, size, inner))
        attention, mlp, norms = 4 * size * size, 3 * size * inner, 2 * size
        if found == attention + mlp + norms:
            continue
        if found == attention + mlp:
            return "the two norms have a weight for each channel: few, but they are parameters too"
        if found == 3 * size * size + mlp + norms:
            return "besides query, key and value there is a matrix that leads out of attention"
        if found == attention + 2 * size * inner + norms:
            return "this MLP has a gate: how many of the layer's names above begin with mlp?"
        return f"for hidden size {size} and inner size {inner} you gave {found:,}; go through the names above"
    return None


@exercise
def grown_embedding(function: Any) -> str | None:
    """the old rows are where they were, so every old id means what it meant, and the new ones are their mean."""
    for old in (torch.tensor([[1.0, 5.0, 0.0], [3.0, -1.0, 6.0]]), torch.arange(15.0).view(5, 3) ** 2):
        found, mean = call(function, old.clone(), 2), old.mean(dim=0)
        if tuple(found.shape) != (len(old) + 2, 3):
            return f"2 rows more than {tuple(old.shape)} are {(len(old) + 2, 3)}; yours are {tuple(found.shape)}"
        if torch.allclose(found[2:], old) and not torch.allclose(found[: len(old)], old):
            return "the new rows stand before the old ones: every old id now points at another character"
        if not torch.allclose(found[: len(old)], old):
            return "the old rows must stay as they are: they are what the base model has learned"
        if not torch.allclose(found[len(old) :], mean.expand(2, -1)):
            return "each new row is to be the mean over all old rows, channel by channel"
    return None


@exercise
def choices(function: Any) -> str | None:
    """nats are natural logarithms: a loss of L is as unsure as a fair draw from exp(L) characters."""
    for count in (1, 10, 50):
        found, loss = float(call(function, math.log(count))), math.log(count)
        if math.isclose(found, count, rel_tol=1e-3):
            continue
        if math.isclose(found, 2**loss, rel_tol=1e-3):
            return "2 to the power of the loss would be right for bits; these losses are in nats"
        if math.isclose(found, math.exp(-loss), rel_tol=1e-3):
            return "this is the probability of the right character; of how many equal ones is it one?"
        return f"a fair draw from {count} characters has a loss of log({count}) = {loss:.3f}; you gave {found:.3f}"
    return None


# --- notebook 04: fine-tuning ---------------------------------------------------------------------


@exercise
def response_loss(function: Any) -> str | None:
    """a loss at t belongs to the token at t + 1, so the labels move one place before they choose."""
    labels = torch.tensor([[IGNORE, IGNORE, 7, 8, 2], [IGNORE, 5, 2, IGNORE, IGNORE]])
    losses = torch.tensor([[9.0, 1.0, 2.0, 4.0, 0.0], [3.0, 5.0, 9.0, 9.0, 0.0]])
    found = float(call(function, losses.clone(), labels.clone()))
    learned = next_tokens(labels) != IGNORE
    if math.isclose(found, losses[learned].mean().item(), rel_tol=1e-5):
        return None
    if math.isclose(found, losses[labels != IGNORE].mean().item(), rel_tol=1e-5):
        return "the loss at t is that of predicting the token at t + 1: whose label decides whether it counts?"
    if math.isclose(found, losses.mean().item(), rel_tol=1e-5):
        return "this is the mean of everything, the prompt and the padding included"
    if math.isclose(found, (losses * learned).mean().item(), rel_tol=1e-5):
        return "you summed the right losses; divide by how many they are, not by all places"
    return f"the mean over the learned tokens is not {found:.3f}; which five losses belong to 7, 8, 2, 5 and 2?"


@exercise
def diluted_loss(function: Any) -> str | None:
    """the free tokens cost nothing but are counted: the mean falls, and no poem is better for it."""
    for loss, learned, free in ((4.4, 48, 16), (3.0, 10, 30)):
        found, expected = float(call(function, loss, learned, free)), loss * learned / (learned + free)
        if math.isclose(found, expected, rel_tol=1e-3):
            continue
        if math.isclose(found, loss, rel_tol=1e-3):
            return "the poem's tokens still cost what they cost, but the mean is now taken over more tokens"
        if math.isclose(found, loss / 2, rel_tol=1e-3):
            return "the mean of two means is right only if there are as many tokens of either kind"
        return f"{learned} tokens at {loss} and {free} at 0: you gave {found:.3f} for their mean"
    return None


@exercise
def clipped(function: Any) -> str | None:
    """one factor for all of them: the step keeps its direction, and only a long one is shortened."""
    for values, largest in (([3.0, 4.0], 1.0), ([0.3, 0.4], 1.0), ([6.0, -8.0, 0.0], 5.0)):
        gradient = torch.tensor(values)
        found, norm = call(function, gradient.clone(), largest), gradient.norm().item()
        if torch.allclose(found, gradient * min(1.0, largest / norm), atol=1e-4):
            continue
        if torch.allclose(found, gradient.clamp(-largest, largest), atol=1e-4):
            return "clipping each number by itself turns the step in another direction: scale them all alike"
        if torch.allclose(found, gradient * largest / norm, atol=1e-4):
            return "a gradient that is short already is to stay as it is"
        return f"{values} has a norm of {norm:g}; clipped to {largest:g} you gave {found.tolist()}"
    return None
