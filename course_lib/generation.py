"""From a prompt to a poem, one token at a time: one poem, many poems, the best of several.

A poem depends on checkpoint, title, instruction, settings and seed. It is the same whether it is written alone or
with others, unless two tokens are so close that rounding decides: about one poem in 2,000.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib import prosody
from course_lib.checkpoints import Checkpoint
from course_lib.instructions import Instruction
from course_lib.language import check_range
from course_lib.model import KVCache, PoetryModel, evaluating
from course_lib.roles import Conversation, message_segments, prompt_segments, within
from course_lib.sampling import GenerationSettings, Repetition, Words, absorb, draw, text_key

Reason = Literal["end", "length", "stopped"]
PRINTABLE = string.printable[:95]  # ASCII, with the blank
LINE_ENDS = "，。？！；：\n \u3000"  # and white space, or a line after a blank would look new


class GenerationLimits(NamedTuple):
    """Where a text ends and what it may not contain, in tokens of one vocabulary."""

    end_id: int | None
    banned: tuple[int, ...] = ()  # never written
    line_ends: frozenset[int] = frozenset()  # a line between two of these is not written twice
    stop: tuple[int, ...] = ()  # a text also ends after these tokens in a row
    may_repeat: bool = False  # prose repeats its characters, so there is no presence penalty


def generation_limits(checkpoint: Checkpoint, stop: str = "") -> GenerationLimits:
    """The limits of a text: it ends at the end mark, or after the text `stop`. It has no other special token.

    A model that was taught to answer with verse alone may not write a blank or a Latin character. A base model also
    writes titles. A model of your own data may write anything, and repeat itself.
    """
    tokenizer, taught = checkpoint.tokenizer, checkpoint.instructions
    may_repeat = any(each.given == "text" for each in taught)
    end = tokenizer.eos_id
    not_in_poems = tokenizer.encode(PRINTABLE) if taught and not may_repeat else []
    banned = tuple({*tokenizer.special_tokens, *not_in_poems} - {end})
    line_ends = frozenset(tokenizer.encode(LINE_ENDS)) - {tokenizer.unk_id}
    return GenerationLimits(end, banned, line_ends, tuple(tokenizer.encode(stop)), may_repeat)


@torch.inference_mode()
def generate(
    model: PoetryModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    limits: GenerationLimits,
    keys: Words | None = None,
) -> Iterator[list[list[int]]]:
    """Continue several prompts at once. Each step yields all new tokens so far, one list for each prompt.

    A text ends after the end mark or the tokens of `stop`, which are part of the text. It also ends after
    `max_new_tokens`, and where the model's context ends. `keys`, (B,), replace the settings' seed.

    Raises:
        ValueError: a prompt is empty or fills the context.
        FloatingPointError: the model's logits are not numbers.
    """
    context = model.config.max_position_embeddings
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise ValueError(f"a prompt of {len(prompt)} tokens; the model reads 1 to {context - 1}")
    if keys is None:
        keys = np.concatenate([text_key(settings.seed, 0, prompt) for prompt in prompts])
    device = model.model.embed_tokens.weight.device
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    cache = KVCache(model.config, padding, max(padding) + min(width + settings.max_new_tokens, context), device)
    repetition = Repetition(len(prompts), model.config.vocab_size, limits.banned, limits.line_ends)
    penalty = 0.0 if settings.greedy or limits.may_repeat else settings.presence_penalty
    texts: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))  # the numbers of the texts that go on
    ids = torch.tensor([[0] * space + list(prompt) for space, prompt in zip(padding, prompts, strict=True)])
    for step in range(1, settings.max_new_tokens + 1):
        with evaluating(model):
            logits = model(ids.to(device), cache=cache, head=last_logits).float().cpu().numpy()
        tokens = draw(repetition.penalize(logits), absorb(keys, np.full(len(keys), step, np.uint32)), settings)
        repetition.add(tokens, penalty)
        for number, token in zip(going, tokens.tolist(), strict=True):
            texts[number].append(token)
        yield texts
        rows = [r for r, n in enumerate(going) if not has_ended(texts[n], context - len(prompts[n]), limits)]
        if not rows:
            return
        if len(rows) < len(going):
            going = [going[row] for row in rows]
            keys, tokens = keys[rows], tokens[rows]
            repetition.keep(rows)
            cache.keep(torch.tensor(rows, device=device))
        ids = torch.from_numpy(tokens)[:, None]


def has_ended(new: Sequence[int], room: int, limits: GenerationLimits) -> bool:
    """Whether a text ends after these new tokens; the context has room for `room` of them, and one may follow."""
    stopped = limits.stop and tuple(new[-len(limits.stop) :]) == limits.stop
    return bool(stopped) or new[-1] == limits.end_id or len(new) > room


def last_logits(hidden: Tensor, embedding: Tensor) -> Tensor:
    """A head for the model: the logits after the last token alone, (B, T, D) and (V, D) -> (B, V)."""
    return F.linear(hidden[:, -1], embedding)


@dataclass(frozen=True, slots=True)
class WrittenPoem:
    """A text the model wrote, and why it ended there."""

    text: str
    reason: Reason
    log_likelihood: float | None = None  # in nats per token; only if several candidates were written


def score_of(poem: WrittenPoem) -> prosody.Score:
    """The score by which the best of several candidates is chosen, everywhere in the course; the largest is best."""
    return prosody.score(poem.text, poem.reason == "end", poem.log_likelihood or 0.0)


def prompt_ids(checkpoint: Checkpoint, title: str, instruction: Instruction | None = None) -> list[int]:
    """The prompt for a title: with roles and the instruction if the model was taught any, else title and newline.

    Without `instruction`, the prompt has the first one that the checkpoint was taught.
    """
    if not checkpoint.instructions:
        return checkpoint.tokenizer.encode(f"{title}\n")
    return checkpoint.tokenizer.encode_segments(prompt_segments(title, instruction or checkpoint.instructions[0]))


class PoemStream:
    """A text that is being written: iterate over its characters.

    `text` is what has been written so far. `reason` says why the text ended; until then it is None. With several
    candidates, all are written before the first character of the best one appears.
    """

    def __init__(
        self, checkpoint: Checkpoint, prompt: Sequence[int], settings: GenerationSettings | None, candidates: int = 1
    ) -> None:
        check_range("candidates", candidates, 1)
        self._checkpoint = checkpoint
        self._prompt = prompt
        self._settings = settings or GenerationSettings()
        self._candidates = candidates
        self._stopping = False
        self._ending: Reason = "length"
        self.text = ""
        self.reason: Reason | None = None

    def __iter__(self) -> Iterator[str]:
        self.text, self.reason = "", None  # a second loop writes the same text again
        for character in self._characters():
            if self._stopping:
                break
            self.text += character
            yield character
        self.reason = "stopped" if self._stopping else self._ending

    def _characters(self) -> Iterator[str]:
        checkpoint = self._checkpoint
        keys = np.concatenate([text_key(self._settings.seed, n, self._prompt) for n in range(self._candidates)])
        prompts = [self._prompt] * self._candidates
        texts: list[list[int]] = []
        for texts in generate(checkpoint.model, prompts, self._settings, generation_limits(checkpoint), keys):
            if self._stopping:
                return
            if self._candidates == 1 and texts[0][-1] != checkpoint.tokenizer.eos_id:
                yield checkpoint.tokenizer.decode(texts[0][-1:])
        best = best_of(checkpoint, self._prompt, texts)
        self._ending = best.reason
        if self._candidates > 1:
            yield from best.text

    def stop(self) -> None:
        """End the text before its next character, for the reason "stopped". Any thread may call this."""
        self._stopping = True


def write(
    checkpoint: Checkpoint,
    title: str,
    settings: GenerationSettings | None = None,
    instruction: Instruction | None = None,
    candidates: int = 1,
) -> PoemStream:
    """A poem on `title`, character by character. A base model knows no end, and writes up to the limit."""
    prompt = prompt_ids(checkpoint, title, instruction)
    return PoemStream(checkpoint, prompt, settings_for(instruction, settings), candidates)


def reply(
    checkpoint: Checkpoint, messages: Conversation, settings: GenerationSettings | None = None, candidates: int = 1
) -> PoemStream:
    """The assistant's answer to a conversation. Old messages that have no room are left out (`roles.within`).

    Raises ValueError for a base model, or if the first request and the last message have no room.
    """
    checkpoint.instruction()  # raises ValueError for a base model
    segments = message_segments(within(messages, room_in(checkpoint)), open_response=True)
    return PoemStream(checkpoint, checkpoint.tokenizer.encode_segments(segments), settings, candidates)


def room_in(checkpoint: Checkpoint) -> int:
    """How many tokens the messages of a conversation may have: a third of the context is kept for the answer."""
    return checkpoint.context * 2 // 3


def settings_for(instruction: Instruction | None, settings: GenerationSettings | None = None) -> GenerationSettings:
    """The settings, but with temperature 0 if only one answer to the instruction is right."""
    settings = settings or GenerationSettings()
    return replace(settings, temperature=0.0) if instruction and instruction.one_answer else settings


def continue_text(checkpoint: Checkpoint, text: str, settings: GenerationSettings | None = None) -> PoemStream:
    """A continuation of `text`, which is read as plain text without roles."""
    return PoemStream(checkpoint, checkpoint.tokenizer.encode(text), settings)


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
    the one with the highest `score_of` is yielded. The first of them is the poem that `candidates=1` gives. Raises
    ValueError if there is not one seed for each title, or if `candidates` is below 1.
    """
    if seeds is not None and len(seeds) != len(titles):
        raise ValueError(f"{len(seeds)} seeds for {len(titles)} titles")
    settings = settings_for(instruction, settings)
    seeds = seeds or [settings.seed] * len(titles)
    prompts = [prompt_ids(checkpoint, title, instruction) for title in titles]
    return iter_answers(checkpoint, prompts, settings, seeds, stop=stop, batch_size=batch_size, candidates=candidates)


def iter_answers(
    checkpoint: Checkpoint,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    seeds: Sequence[int],
    *,
    stop: str = "",
    batch_size: int = 64,
    candidates: int = 1,
) -> Iterator[WrittenPoem]:
    """What `iter_poems` does, for prompts instead of titles."""
    check_range("candidates", candidates, 1)
    limits = generation_limits(checkpoint, stop)
    tasks = [(seed, n, prompt) for seed, prompt in zip(seeds, prompts, strict=True) for n in range(candidates)]
    at_once = max(1, batch_size // candidates) * candidates
    for start in range(0, len(tasks), at_once):
        batch = tasks[start : start + at_once]
        keys = np.concatenate([text_key(*task) for task in batch])
        *_, texts = generate(checkpoint.model, [prompt for *_, prompt in batch], settings, limits, keys)
        for first in range(0, len(batch), candidates):
            yield best_of(checkpoint, batch[first][2], texts[first : first + candidates], stop)


def best_of(checkpoint: Checkpoint, prompt: Sequence[int], texts: Sequence[list[int]], stop: str = "") -> WrittenPoem:
    """The text with the highest `score_of`, as a poem without its end mark; `reason` says how it ended."""
    poems = []
    for ids in texts:
        text = checkpoint.tokenizer.decode(ids)
        reason: Reason = "end" if ids[-1] == checkpoint.tokenizer.eos_id else "length"
        if stop and text.endswith(stop):
            reason = "stopped"
        poems.append(WrittenPoem(text, reason, log_likelihood(checkpoint.model, prompt, ids) if texts[1:] else None))
    return max(poems, key=score_of)


@torch.inference_mode()
def log_likelihood(model: PoetryModel, prompt: Sequence[int], ids: Sequence[int]) -> float:
    """The mean log-probability of the tokens `ids` after `prompt`, in nats per token."""
    device = model.model.embed_tokens.weight.device
    with evaluating(model):
        logits = model(torch.tensor([[*prompt, *ids[:-1]]], device=device))[0, len(prompt) - 1 :]
    return -F.cross_entropy(logits, torch.tensor(ids, device=device)).item()
