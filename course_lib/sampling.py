"""Logits to one token: temperature, the three ways to cut off what is unlikely, and chance.

`next_token_probabilities` says what is drawn from. `draw` draws from just that, but neither sorts nor sums up
9,000 probabilities: add noise of the right kind to the logits, and the largest is a draw (the Gumbel-max trick,
Gumbel 1954). It also says how safe its choice is: whether logits that differ a little would have led to another.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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


def next_token_probabilities(logits: Tensor, settings: GenerationSettings) -> Tensor:
    """What the next token is drawn from: (B, V) logits to (B, V) probabilities, each row summing to 1.

    Tokens of equal probability are kept or dropped together; at temperature 0 the first of them is taken.
    """
    if settings.temperature == 0:
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


def row_generator(prompt: Sequence[int], seed: int, candidate: int = 0) -> torch.Generator:
    """A source of chance of a prompt's own, so that its poem does not depend on its neighbours in a batch."""
    digest = hashlib.sha256(repr((seed, candidate, list(prompt))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def gumbel_noise(generators: Sequence[torch.Generator], size: int) -> Tensor:
    """(B, size) numbers of the Gumbel distribution, each row from its own generator."""
    noise = torch.empty(len(generators), size)
    for row, generator in zip(noise, generators, strict=True):
        torch.rand(size, generator=generator, out=row)
    return noise.log_().neg_().log_().neg_()


# --- drawing --------------------------------------------------------------------------------------


def draw(logits: Tensor, noise: Tensor, settings: GenerationSettings, doubt: float = 0) -> tuple[Tensor, Tensor]:
    """One token a row, (B,), and whether it is certain, (B,), from (B, V) logits and as much `gumbel_noise`.

    Certain: were each logit off by up to half of `doubt`, the token would be the same.
    """
    if settings.temperature == 0:
        best, second = logits.topk(2).values.unbind(-1)
        return logits.argmax(-1), best - second > doubt
    scaled = logits / settings.temperature
    return _choose(scaled, noise + scaled, scaled.softmax(-1), settings, doubt / settings.temperature)


def _choose(
    scaled: Tensor, scores: Tensor, probabilities: Tensor, settings: GenerationSettings, doubt: float
) -> tuple[Tensor, Tensor]:
    """The token of the highest score within the limits. One that they exclude takes all less likely ones with it."""
    best, token = scores.topk(2)
    token = token[:, :1]
    within = _within(scaled, probabilities, token, settings, doubt)
    certain = within & (best[:, 0] - best[:, 1] > doubt)
    rows = (~within).nonzero()[:, 0]
    if len(rows):  # some are excluded beyond doubt, these are drawn again; others just perhaps, and stay uncertain
        rows = rows[~_within(scaled[rows], probabilities[rows], token[rows], settings, -doubt)]
    if len(rows):
        some = scaled[rows]
        left = scores[rows].masked_fill(some <= some.gather(-1, token[rows]), -torch.inf)
        token[rows, 0], certain[rows] = _choose(some, left, probabilities[rows], settings, doubt)
    return token[:, 0], certain


def _within(scaled: Tensor, probabilities: Tensor, token: Tensor, settings: GenerationSettings, slack: float) -> Tensor:
    """Whether a token, (B, 1), is within the limits, and would be, were it less likely by `slack`; (B,)."""
    own = scaled.gather(-1, token) - slack
    likelier = (scaled > own).scatter(-1, token, False)
    within = torch.ones(len(token), dtype=torch.bool)
    if settings.top_p < 1:
        within &= (probabilities * likelier).sum(-1) + slack < settings.top_p
    if settings.top_k:
        within &= likelier.sum(-1) < settings.top_k
    if settings.min_p:
        within &= own[:, 0] >= scaled.amax(-1) + math.log(settings.min_p)
    return within | ~likelier.any(-1)
