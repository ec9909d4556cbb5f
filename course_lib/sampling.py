"""From logits to the next token: temperature, three limits, two rules against repetition, and a draw.

`next_token_probabilities` defines the distribution. `draw` draws from it, for many rows at once and without
sorting. It divides each probability by a random number of the exponential distribution; the token with the largest
quotient wins (the Gumbel-max trick, Gumbel 1954). The random numbers come from a hash, which a browser can compute too.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course_lib.language import check_range

Floats = NDArray[np.float32]
Words = NDArray[np.uint32]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How the next token is drawn, and after how many tokens to stop. A setting out of its range raises ValueError.

    `temperature` divides the logits. At 0 nothing is drawn: the likeliest token is taken (greedy decoding), and only
    `max_new_tokens` applies. Three limits act on the probabilities at that temperature: `top_p` keeps the likeliest
    tokens that together reach it (Holtzman et al. 2019), `top_k` keeps that many (0: all), `min_p` keeps those that
    have at least this share of the likeliest one's probability (Nguyen et al. 2024).

    `presence_penalty` is subtracted from the logit of each character that the text has already, punctuation apart,
    and no line is written twice. A penalty of 0 switches both rules off. In regulated verse hardly any character comes
    twice, and a rhyme word that comes twice is a fault.
    """

    temperature: float = 0.8
    top_p: float = 0.9
    top_k: int = 0
    max_new_tokens: int = 200
    seed: int = 0
    min_p: float = 0.0
    presence_penalty: float = 4.0

    def __post_init__(self) -> None:
        for name, most in {"temperature": 5, "top_p": 1, "min_p": 1, "presence_penalty": 100, "top_k": 10**9}.items():
            check_range(name, getattr(self, name), 0, most, positive=name == "top_p")
        check_range("max_new_tokens", self.max_new_tokens, 1)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken: the temperature is 0, or too small for float32."""
        return self.temperature < 1e-6


def next_token_probabilities(logits: Tensor, settings: GenerationSettings) -> Tensor:
    """The probabilities that the next token is drawn from: (B, V) logits -> (B, V), each row sums to 1.

    Tokens of equal probability are kept or dropped together. Repetition is not considered here.
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


def absorb(key: Words, number: Words) -> Words:
    """A new key from a key and a number. All three are 32-bit words of the same shape.

    The mixing is the last step of MurmurHash3 (Appleby 2011). `site/poem/sampling.js` is the same in JavaScript.
    """
    h = (key + np.uint32(0x9E3779B9)) ^ number
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def text_key(seed: int, candidate: int, prompt: Sequence[int]) -> Words:
    """The key of one text, (1,). It depends on the prompt, so two titles with one seed are drawn independently."""
    key = np.zeros(1, dtype=np.uint32)
    for number in (seed, candidate, *prompt):
        key = absorb(key, np.array([number % 2**32], dtype=np.uint32))
    return key


def exponential(key: Words, number: Words) -> NDArray[np.float64]:
    """Random numbers of the exponential distribution, one for each pair of key and number, in their shape."""
    return -np.log((absorb(key, number) + 0.5) / 2**32)


def draw(logits: Floats, keys: Words, settings: GenerationSettings) -> Integers:
    """One token for each row: (B, V) logits and (B,) keys -> (B,). Each step needs new keys.

    Raises FloatingPointError if a logit is not a number.
    """
    largest = logits.max(-1, keepdims=True)
    if not np.isfinite(largest).all():
        raise FloatingPointError("the model's logits are not numbers: its weights are damaged")
    if settings.greedy:
        return logits.argmax(-1)
    weights = np.exp((logits - largest) / np.float32(settings.temperature))
    total = weights.sum(-1, dtype=np.float64)
    # Take a token inside top-p. It and all tokens that are no likelier have more than 1 - top_p together, and are at
    # most V. So it weighs at least this much. The tokens that weigh less need no random number, and they are many.
    least = np.maximum((1 - settings.top_p) * total / weights.shape[1], settings.min_p)
    places = np.flatnonzero(weights >= least[:, None])
    rows, tokens = np.divmod(places, weights.shape[1])
    weight = weights.ravel()[places]
    race = np.zeros_like(weights)
    race.ravel()[places] = weight / exponential(keys[rows], tokens.astype(np.uint32))
    while True:
        winner = race.argmax(-1)
        likelier = weight > weights[np.arange(len(race)), winner][rows]
        outside = np.zeros(len(race), dtype=bool)
        if settings.top_p < 1:
            outside = np.bincount(rows[likelier], weight[likelier], len(race)) >= settings.top_p * total
        if settings.top_k:
            outside |= np.bincount(rows[likelier], minlength=len(race)) >= settings.top_k
        if not outside.any():
            return winner
        lost = outside[rows] & ~likelier  # all that are no likelier than the winner are outside too
        race.ravel()[places[lost]] = 0


class Repetition:
    """What each of several texts must not say again, and the `banned` tokens, which none may say."""

    def __init__(self, rows: int, vocab_size: int, banned: Sequence[int], line_ends: Collection[int]) -> None:
        self.line_ends = line_ends
        self.penalties = np.zeros((rows, vocab_size), dtype=np.float32)
        self.penalties[:, list(banned)] = np.inf
        self.lines: list[tuple[int, ...]] = [()] * rows  # the line that each text has begun
        # for each text: a finished line without its last token -> the tokens that ended such lines
        self.said: list[dict[tuple[int, ...], list[int]]] = [{} for _ in range(rows)]

    def penalize(self, logits: Floats) -> Floats:
        """The logits, (B, V), lowered for all tokens that the texts should not say again."""
        logits = logits - self.penalties
        for row, (line, said) in enumerate(zip(self.lines, self.said, strict=True)):
            logits[row, said.get(line, [])] = -np.inf
        return logits

    def add(self, tokens: Integers, penalty: float) -> None:
        """Remember one more token of each text, (B,); its logit is lowered by `penalty` from now on."""
        if not penalty:
            return
        for row, token in enumerate(tokens.tolist()):
            line = self.lines[row]
            if token not in self.line_ends:
                self.penalties[row, token] = max(self.penalties[row, token], penalty)
                self.lines[row] = (*line, token)
            elif line:
                self.said[row].setdefault(line[:-1], []).append(line[-1])
                self.lines[row] = ()

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all texts but these."""
        self.penalties = self.penalties[rows]
        self.lines = [self.lines[row] for row in rows]
        self.said = [self.said[row] for row in rows]
