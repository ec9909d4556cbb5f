"""Prompt in, characters out, one at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from course_lib.model import ModelConfig, PoetryModel
from course_lib.roles import WRITE_A_POEM, prompt_segments
from course_lib.tokenizer import CharacterTokenizer

if TYPE_CHECKING:
    from course_lib.checkpoints import Checkpoint

Reason = Literal["end", "length", "stopped"]


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How the next character is drawn, and when to stop at the latest.

    `temperature` divides the logits (0 takes the likeliest character). `top_p` keeps the likeliest
    characters that together reach that probability (Holtzman et al. 2019), `top_k` that many (0: all).

    Raises:
        ValueError: a setting is out of its range.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 0
    max_new_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 5:
            raise ValueError(f"temperature is {self.temperature}, must lie in 0 … 5")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, must lie above 0 and at most at 1")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}, must be 0 (no limit) or more")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}, must be at least 1")


class KeyValueCache:
    """Keys and values of the tokens already read, so that each token is read once.

    `keys` and `values` are (layers, B, H, max_position_embeddings, head_dim), allocated once.
    """

    def __init__(self, config: ModelConfig, batch_size: int, like: Tensor) -> None:
        layers, heads, context = config.num_hidden_layers, config.num_attention_heads, config.max_position_embeddings
        self.keys = like.new_zeros(layers, batch_size, heads, context, config.head_dim)
        self.values = torch.zeros_like(self.keys)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the batch alone."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]

    def store(self, layer: int, positions: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep (B, H, T, head_dim) at positions (B, T); all that layer's keys and values come back."""
        rows = torch.arange(len(positions), device=positions.device)[:, None]
        self.keys[layer][rows, :, positions] = k.transpose(1, 2)
        self.values[layer][rows, :, positions] = v.transpose(1, 2)
        return self.keys[layer], self.values[layer]


# --- drawing one token ----------------------------------------------------------------------------


def next_token_probabilities(logits: Tensor, settings: GenerationSettings) -> Tensor:
    """What the next token is drawn from: (B, V) logits to (B, V) probabilities, each row summing to 1."""
    if settings.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    ranked, order = torch.sort(logits / settings.temperature, dim=-1, descending=True, stable=True)
    probabilities = ranked.softmax(-1)
    if settings.top_k:
        probabilities[:, settings.top_k :] = 0
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.masked_fill(before >= settings.top_p, 0)
    kept = torch.zeros_like(probabilities).scatter(-1, order, probabilities)
    return kept / kept.sum(-1, keepdim=True)


def draw(probabilities: Tensor, where: Tensor) -> Tensor:
    """One token a row: the first at which the summed probabilities pass `where`, (B,) numbers in 0 … 1."""
    below = probabilities.cumsum(-1) <= where[:, None] * probabilities.sum(-1, keepdim=True) * (1 - 1e-6)
    return below.sum(-1).clamp(max=probabilities.shape[-1] - 1)


def row_generator(prompt: Sequence[int], seed: int) -> torch.Generator:
    """A source of chance of a prompt's own, so that its poem does not depend on its neighbours in a batch."""
    digest = hashlib.sha256(repr((seed, list(prompt))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


# --- the loop -------------------------------------------------------------------------------------


@torch.inference_mode()
def generate(
    model: PoetryModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    end_id: int | None,
    banned: Sequence[int] = (),
) -> Iterator[list[tuple[int, int]]]:
    """Continue several prompts at once; each step yields (row, new token) for the rows still going.

    A row ends with `end_id`, which is yielded, after `max_new_tokens`, or where the model's context ends.
    `banned` tokens are never drawn.

    Raises:
        ValueError: a prompt is empty or leaves no room in the context.
    """
    context = model.config.max_position_embeddings
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise ValueError(f"a prompt of {len(prompt)} tokens; the model reads 1 to {context - 1}")
    model.eval()
    device = model.model.embed_tokens.weight.device
    chances = [row_generator(prompt, settings.seed) for prompt in prompts]
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    rows = torch.arange(len(prompts))
    cache = KeyValueCache(model.config, len(prompts), model.model.embed_tokens.weight)

    width = int(lengths.max())
    padded = torch.tensor([list(prompt) + [0] * (width - len(prompt)) for prompt in prompts])
    positions = torch.arange(width).expand(len(prompts), -1)
    logits = model(padded.to(device), positions.to(device), cache)
    logits = logits[rows.to(device), (lengths - 1).to(device)]  # what follows padding is never looked at
    for made in range(1, settings.max_new_tokens + 1):
        logits = logits.float().cpu()
        logits[:, list(banned)] = -torch.inf
        where = torch.stack([torch.rand((), generator=chances[row]) for row in rows.tolist()])
        tokens = draw(next_token_probabilities(logits, settings), where)
        yield list(zip(rows.tolist(), tokens.tolist(), strict=True))
        alive = (lengths < context) & (made < settings.max_new_tokens)
        if end_id is not None:
            alive &= tokens != end_id
        if not alive.all():
            rows, lengths, tokens = rows[alive], lengths[alive], tokens[alive]
            cache.keep(alive.to(device))
        if not len(rows):
            return
        logits = model(tokens[:, None].to(device), lengths[:, None].to(device), cache)[:, -1]
        lengths = lengths + 1


# --- poems ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """A text the model wrote, and why it stopped there."""

    text: str
    reason: Reason


class Writing:
    """A text being written: iterate for its characters; `text` and `reason` say how far it got.

    `stop()`, called from anywhere, ends it at the next character.
    """

    def __init__(self, tokens: Iterator[list[tuple[int, int]]], tokenizer: CharacterTokenizer) -> None:
        self._tokens, self._tokenizer, self._stopping = tokens, tokenizer, False
        self.text, self.reason = "", None

    text: str
    reason: Reason | None

    def __iter__(self) -> Iterator[str]:
        for ((_, token),) in self._tokens:
            if self._stopping:
                self.reason = "stopped"
                return
            if token == self._tokenizer.eos_id:
                self.reason = "end"
                return
            character = self._tokenizer.decode([token])
            self.text += character
            yield character
        self.reason = "length"

    def stop(self) -> None:
        """End at the next character, with the reason "stopped"."""
        self._stopping = True


def prompt_ids(tokenizer: CharacterTokenizer, title: str, instruction: str = WRITE_A_POEM) -> list[int]:
    """How a title is put to a model: in roles if it knows them, else as plain text, title and newline."""
    if tokenizer.has_roles:
        return tokenizer.encode_segments(prompt_segments(title, instruction))
    return tokenizer.encode(f"{title}\n")


def write(checkpoint: Checkpoint, title: str, settings: GenerationSettings | None = None) -> Writing:
    """A poem on `title`, character by character. A base model, which knows no end, writes on and on."""
    return continue_ids(checkpoint, prompt_ids(checkpoint.tokenizer, title), settings)


def continue_text(checkpoint: Checkpoint, text: str, settings: GenerationSettings | None = None) -> Writing:
    """Whatever the model finds likely after `text`, read as plain text without roles."""
    return continue_ids(checkpoint, checkpoint.tokenizer.encode(text), settings)


def continue_ids(checkpoint: Checkpoint, ids: Sequence[int], settings: GenerationSettings | None = None) -> Writing:
    """Whatever the model finds likely after these ids."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    tokens = generate(
        model, [ids], settings or GenerationSettings(), end_id=tokenizer.eos_id, banned=banned_ids(tokenizer)
    )
    return Writing(tokens, tokenizer)


def write_many(
    checkpoint: Checkpoint,
    titles: Sequence[str],
    settings: GenerationSettings | None = None,
    *,
    batch_size: int = 64,
    progress: Callable[[int], object] = lambda done: None,
) -> list[Written]:
    """A poem for each title, in order, `batch_size` at a time; `progress` is told how many are done."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    settings = settings or GenerationSettings()
    done: list[Written] = []
    for start in range(0, len(titles), batch_size):
        prompts = [prompt_ids(tokenizer, title) for title in titles[start : start + batch_size]]
        ids: list[list[int]] = [[] for _ in prompts]
        steps = generate(model, prompts, settings, end_id=tokenizer.eos_id, banned=banned_ids(tokenizer))
        for step in steps:
            for row, token in step:
                ids[row].append(token)
        done += [Written(tokenizer.decode(row), "end" if row[-1] == tokenizer.eos_id else "length") for row in ids]
        progress(len(done))
    return done


def banned_ids(tokenizer: CharacterTokenizer) -> list[int]:
    """Control tokens that have no place in a poem: all but the end mark."""
    return [i for i in tokenizer.controls if i != tokenizer.eos_id]
