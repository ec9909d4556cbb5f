"""Prompt in, tokens out, one at a time: one poem, many poems, the best of several.

A poem depends on checkpoint, title, instruction, settings and seed. Written alone or among others it is the same,
except where two tokens are so close that rounding decides: about one poem in 2,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib import prosody
from course_lib.checkpoints import Checkpoint
from course_lib.instructions import Instruction
from course_lib.model import KVCache, PoetryModel, evaluating
from course_lib.roles import prompt_segments
from course_lib.sampling import GenerationSettings, Repetition, Words, absorb, draw, text_key
from course_lib.tokenizer import CharacterTokenizer

Reason = Literal["end", "length", "stopped"]
Step = list[tuple[int, int]]
"""One step of several texts: (number of the text, its new token) for each text that goes on."""

LINE_ENDS = "，。？！；：\n \u3000"  # marks that end a line; with white space, so that a blank makes no line look new


# --- the loop -------------------------------------------------------------------------------------


class GenerationLimits(NamedTuple):
    """Where a text ends, and what it may not contain, in tokens of one vocabulary."""

    end_id: int | None
    banned: tuple[int, ...] = ()  # never written
    line_ends: frozenset[int] = frozenset()  # a line between two of these is not written twice
    stop: tuple[int, ...] = ()  # a text also ends after these tokens in a row


def generation_limits(tokenizer: CharacterTokenizer, stop: str = "") -> GenerationLimits:
    """The limits for poems: they end at the end mark, or after the text `stop`, and have no other special token."""
    end = tokenizer.eos_id
    return GenerationLimits(
        end_id=end,
        banned=tuple(i for i in tokenizer.special_tokens if i != end),
        line_ends=frozenset(tokenizer.encode(LINE_ENDS)) - {tokenizer.unk_id},
        stop=tuple(tokenizer.encode(stop)),
    )


@torch.inference_mode()
def generate(
    model: PoetryModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    limits: GenerationLimits,
    keys: Words | None = None,
) -> Iterator[Step]:
    """Continue several prompts at once. Each step yields a new token for every text that has not ended.

    A text ends with the end mark or the tokens of `stop`, which are yielded; after `max_new_tokens`; or where the
    model's context ends. `keys`, (B,), replaces the settings' seed as the source of randomness.

    Raises:
        ValueError: a prompt is empty or fills the context.
        FloatingPointError: the model's logits are not numbers.
    """
    context = model.config.max_position_embeddings
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise ValueError(f"a prompt of {len(prompt)} tokens; the model reads 1 to {context - 1}")
    device = model.model.embed_tokens.weight.device
    if keys is None:
        keys = np.concatenate([text_key(settings.seed, 0, prompt) for prompt in prompts])
    texts = list(range(len(prompts)))  # the texts that go on
    ids = [list(prompt) for prompt in prompts]
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    columns = max(padding) + min(width + settings.max_new_tokens, context)
    cache = KVCache(model.config, padding, columns, device)
    repetition = Repetition(len(prompts), model.config.vocab_size, limits.banned, limits.line_ends)
    penalty = 0.0 if settings.greedy else settings.presence_penalty
    new = torch.tensor([[0] * space + row for space, row in zip(padding, ids, strict=True)])
    for step in range(1, settings.max_new_tokens + 1):
        with evaluating(model):
            logits = model(new.to(device), cache=cache, head=last_logits).float().cpu().numpy()
        tokens = draw(repetition.penalize(logits), absorb(keys, np.full(len(keys), step, np.uint32)), settings)
        repetition.add(tokens, penalty)
        for text, token in zip(texts, tokens.tolist(), strict=True):
            ids[text].append(token)
        yield [(text, ids[text][-1]) for text in texts]
        going = [row for row, text in enumerate(texts) if goes_on(ids[text], step, limits, context)]
        if not going or step == settings.max_new_tokens:
            return
        if len(going) < len(texts):
            texts = [texts[row] for row in going]
            keys, tokens = keys[going], tokens[going]
            repetition.keep(going)
            cache.keep(torch.tensor(going, device=device))
        new = torch.from_numpy(tokens)[:, None]


def goes_on(ids: Sequence[int], step: int, limits: GenerationLimits, context: int) -> bool:
    """Whether a text goes on after `step` new tokens."""
    stop = limits.stop
    stopped = 0 < len(stop) <= step and tuple(ids[-len(stop) :]) == stop
    return not stopped and ids[-1] != limits.end_id and len(ids) <= context


def last_logits(hidden: Tensor, embedding: Tensor) -> Tensor:
    """A head for the model: the logits after the last token alone, (B, T, D) and (V, D) -> (B, V)."""
    return F.linear(hidden[:, -1], embedding)


# --- one poem -------------------------------------------------------------------------------------


class PoemStream:
    """A text that is being written: iterate over its characters.

    `text` is what has been written so far; `reason` says why it ended, None until then.
    """

    def __init__(self, steps: Iterator[Step], tokenizer: CharacterTokenizer) -> None:
        self._steps = steps
        self._tokenizer = tokenizer
        self._stopping = False
        self.text = ""
        self.reason: Reason | None = None

    def __iter__(self) -> Iterator[str]:
        for step in self._steps:
            token = step[0][1]
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
        """End the text before its next character, for the reason "stopped". Any thread may call this."""
        self._stopping = True


def prompt_ids(checkpoint: Checkpoint, title: str, instruction: Instruction | None = None) -> list[int]:
    """The prompt for a title: with roles and the instruction if the model was taught any, else title and newline.

    Without `instruction` it is the first that the checkpoint was taught.
    """
    if not checkpoint.instructions:
        return checkpoint.tokenizer.encode(f"{title}\n")
    segments = prompt_segments(title, instruction or checkpoint.instructions[0])
    return checkpoint.tokenizer.encode_segments(segments)


def write(
    checkpoint: Checkpoint,
    title: str,
    settings: GenerationSettings | None = None,
    instruction: Instruction | None = None,
) -> PoemStream:
    """A poem on `title`, character by character. A base model knows no end, and writes up to the limit."""
    return stream(checkpoint, prompt_ids(checkpoint, title, instruction), settings)


def continue_text(checkpoint: Checkpoint, text: str, settings: GenerationSettings | None = None) -> PoemStream:
    """A continuation of `text`, which is read as plain text without roles."""
    return stream(checkpoint, checkpoint.tokenizer.encode(text), settings)


def stream(checkpoint: Checkpoint, ids: Sequence[int], settings: GenerationSettings | None = None) -> PoemStream:
    """A continuation of these token ids."""
    tokenizer = checkpoint.tokenizer
    steps = generate(checkpoint.model, [ids], settings or GenerationSettings(), generation_limits(tokenizer))
    return PoemStream(steps, tokenizer)


# --- many poems, and the best of several ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WrittenPoem:
    """A text the model wrote, and why it ended there.

    `log_likelihood`, in nats per token, is set only when several candidates were written.
    """

    text: str
    reason: Reason
    log_likelihood: float | None = None


def rank(poem: WrittenPoem) -> prosody.Score:
    """The score by which the best of several candidates is chosen, everywhere in the course; the largest is best."""
    return prosody.score(poem.text, poem.reason == "end", poem.log_likelihood or 0.0)


def iter_poems(
    checkpoint: Checkpoint,
    titles: Sequence[str],
    settings: GenerationSettings | None = None,
    *,
    instruction: Instruction | None = None,
    seeds: Sequence[int] | None = None,
    stop: str = "",
    batch_size: int = 64,
    candidates: int = 1,
) -> Iterator[WrittenPoem]:
    """A poem for each title, in order; `batch_size` texts are written at a time.

    `seeds`, one for each title, replace the settings' seed. A poem also ends after the text `stop`, if there is one:
    for base models, which have no end mark. With several `candidates`, that many poems are written on each title and
    the one of the highest `rank` is yielded; the first candidate is the poem that one alone would be.

    Raises:
        ValueError: there is not one seed for each title, or fewer than one candidate is asked for.
    """
    settings = settings or GenerationSettings()
    if candidates < 1:
        raise ValueError(f"candidates is {candidates}, must be at least 1")
    if seeds is not None and len(seeds) != len(titles):
        raise ValueError(f"{len(seeds)} seeds for {len(titles)} titles")
    limits = generation_limits(checkpoint.tokenizer, stop)
    seeds = [settings.seed] * len(titles) if seeds is None else seeds
    prompts = [prompt_ids(checkpoint, title, instruction) for title in titles]
    tasks = [(seed, n, prompt) for seed, prompt in zip(seeds, prompts, strict=True) for n in range(candidates)]
    at_once = max(1, batch_size // candidates) * candidates
    for start in range(0, len(tasks), at_once):
        batch = tasks[start : start + at_once]
        keys = np.concatenate([text_key(*task) for task in batch])
        texts: list[list[int]] = [[] for _ in batch]
        for step in generate(checkpoint.model, [prompt for *_, prompt in batch], settings, limits, keys):
            for number, token in step:
                texts[number].append(token)
        for first in range(0, len(batch), candidates):
            prompt = batch[first][2]
            written = [written_poem(checkpoint, prompt, ids, stop, candidates) for ids in texts[first:][:candidates]]
            yield max(written, key=rank)


def written_poem(
    checkpoint: Checkpoint, prompt: Sequence[int], ids: Sequence[int], stop: str, candidates: int
) -> WrittenPoem:
    """New tokens as a poem; the end mark becomes its reason."""
    text = checkpoint.tokenizer.decode(ids)
    reason: Reason = "end" if ids[-1] == checkpoint.tokenizer.eos_id else "length"
    if stop and text.endswith(stop):
        reason = "stopped"
    return WrittenPoem(text, reason, log_likelihood(checkpoint.model, prompt, ids) if candidates > 1 else None)


@torch.inference_mode()
def log_likelihood(model: PoetryModel, prompt: Sequence[int], ids: Sequence[int]) -> float:
    """The mean log-probability of the tokens `ids` after `prompt`, in nats per token."""
    device = model.model.embed_tokens.weight.device
    with evaluating(model):
        logits = model(torch.tensor([[*prompt, *ids[:-1]]], device=device))[0, len(prompt) - 1 :]
    return -F.cross_entropy(logits, torch.tensor(ids, device=device)).item()
