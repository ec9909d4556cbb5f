"""Logits to one token: temperature, the three ways to cut off what is unlikely, and chance.

`next_token_probabilities` says what is drawn from. `draw` draws from just that, but sorts nothing: add noise of the
right kind to the logits, and the largest is a draw (the Gumbel-max trick, Gumbel 1954). It also says how safe its
choice is: whether logits that differ a little would have led to another.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

STRIP = 2**20  # numbers of noise; each draw reads as many in a row as there are tokens


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How the next character is drawn, and when to stop at the latest.

    `temperature` divides the logits (0 takes the likeliest character). Three limits, each on the probabilities
    at that temperature: `top_p` keeps the likeliest characters that together reach it (Holtzman et al. 2019),
    `top_k` that many (0: all), `min_p` those that have this share of the likeliest one's (Nguyen et al. 2024).
    Against repetition, `presence_penalty` is taken from the logit of each character that the text has already,
    punctuation apart, and unless `repeat_lines` is set no line comes twice.

    Poets of regulated verse hardly use a character twice; a model, left to itself, does five times as often, and loses
    its rhymes by it. With 2.0 it repeats itself as little as they do (`benchmarks/README.md`).

    Raises:
        ValueError: a setting is out of its range.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    max_new_tokens: int = 200
    seed: int = 0
    min_p: float = 0.0
    repeat_lines: bool = False
    presence_penalty: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 5:
            raise ValueError(f"temperature is {self.temperature}, must lie in 0 … 5")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, must lie above 0 and at most at 1")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, must be 0 (no limit) or more")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}, must lie in 0 (no limit) … 1")
        if not 0 <= self.presence_penalty <= 100:
            raise ValueError(f"presence_penalty is {self.presence_penalty}, must lie in 0 (none) … 100")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, must be at least 1")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest character is always taken: the temperature is 0, or float32 cannot tell."""
        return self.temperature < 1e-6


def next_token_probabilities(logits: Tensor, settings: GenerationSettings) -> Tensor:
    """What the next token is drawn from: (B, V) logits to (B, V) probabilities, each row summing to 1.

    Tokens of equal probability are kept or dropped together; at temperature 0 the first of them is taken.
    """
    if settings.greedy:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    probabilities = (logits / settings.temperature).softmax(-1)
    ranked = probabilities.sort(dim=-1, descending=True).values
    kept = ranked >= settings.min_p * ranked[:, :1]
    if settings.top_p < 1:
        kept &= ranked.cumsum(-1) - ranked < settings.top_p
    count = kept.sum(-1, keepdim=True).clamp(max=settings.top_k or kept.shape[-1])
    probabilities = probabilities.masked_fill(probabilities < ranked.gather(-1, count - 1), 0)
    return probabilities / probabilities.sum(-1, keepdim=True)


# --- chance ---------------------------------------------------------------------------------------


def row_generator(prompt: Sequence[int], seed: int, candidate: int = 0) -> random.Random:
    """A source of chance of a prompt's own, so that its poem does not depend on its neighbours in a batch."""
    return random.Random(repr((seed, candidate, list(prompt))))


@cache
def strip() -> Floats:
    """A long strip of noise: `STRIP` numbers of the Gumbel distribution, the same on every machine.

    9,000 fresh numbers and their logarithms would take longer than all else in drawing a character.
    """
    uniform = np.random.Generator(np.random.PCG64(0)).random(STRIP)
    return -np.log(-np.log(uniform.clip(1e-300))).astype(np.float32)


def gumbel_noise(chance: random.Random, size: int) -> Floats:
    """`size` numbers of the Gumbel distribution, only to be read: a piece of the strip, cut where chance says.

    Raises:
        ValueError: the strip is shorter than that.
    """
    if size > STRIP:
        raise ValueError(f"{size} numbers asked for, the strip of noise has {STRIP}")
    start = int(chance.random() * (STRIP - size + 1))
    return strip()[start : start + size]


# --- drawing --------------------------------------------------------------------------------------


def draw(logits: Floats, noise: Floats, settings: GenerationSettings, doubt: float = 0) -> tuple[int, bool]:
    """A token, and whether it is certain, from (V,) logits and as much `gumbel_noise`.

    Certain: were each logit off by up to half of `doubt`, the token would be the same.

    A token that the limits exclude takes all less likely ones with it, and the next one is looked at.
    """
    if settings.greedy:
        return _largest(logits, doubt)
    scaled = logits / np.float32(settings.temperature)
    doubt /= settings.temperature
    scores = scaled + noise
    while True:
        token, certain = _largest(scores, doubt)
        if _within(scaled, token, settings, doubt):
            return token, certain
        if _within(scaled, token, settings, -doubt):
            return token, False  # excluded, but not beyond doubt
        scores[scaled <= scaled[token]] = -np.inf


def _largest(scores: Floats, doubt: float) -> tuple[int, bool]:
    """The token of the highest score, and whether no other comes near it."""
    token = int(scores.argmax())
    highest, scores[token] = scores[token], -np.inf
    second, scores[token] = scores[scores.argmax()], highest
    return token, bool(second < highest - doubt)


def _within(scaled: Floats, token: int, settings: GenerationSettings, slack: float) -> bool:
    """Whether a token is within the limits, and would be, were its logit lower by `slack`, beside all likelier ones.

    Top-p's limit is on what the likelier ones have together: its odds are what grows by a factor of e^slack then.
    """
    own = scaled[token] - np.float32(slack)
    likelier = scaled > own
    likelier[token] = False
    count = np.count_nonzero(likelier)
    if count == 0:
        return True
    if settings.top_k and count >= settings.top_k:
        return False
    if settings.min_p and own < scaled.max() + math.log(settings.min_p):
        return False
    if settings.top_p == 1:
        return True
    weights = np.exp(scaled - scaled.max())
    above = float(weights[likelier].sum())
    odds = above / (float(weights.sum()) - above)
    return odds * math.exp(slack) < settings.top_p / (1 - settings.top_p)
