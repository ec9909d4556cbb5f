"""Prompt in, characters out, one at a time.

A poem is, by definition, what the plain model of `course_lib.model` writes when it reads everything anew for each
character. It is written much faster, by `course_lib.inference`, for many titles at once, and the last bits of
such sums depend on how many rows are added up together. So wherever a choice hangs on these bits, about once in
some thousand characters, the plain model is asked. That is why a poem depends on checkpoint, title, settings and
seed alone, and not on its neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from course_lib.inference import CachedModel
from course_lib.model import PoetryModel
from course_lib.poems import is_well_formed
from course_lib.roles import WRITE_A_POEM, prompt_segments
from course_lib.sampling import (
    Floats,
    GenerationSettings,
    draw,
    gumbel_noise,
    next_token_probabilities,
    row_generator,
)
from course_lib.tokenizer import CharacterTokenizer

if TYPE_CHECKING:
    from course_lib.checkpoints import Checkpoint

__all__ = [
    "GenerationSettings",
    "Reason",
    "Writing",
    "Written",
    "continue_text",
    "generate",
    "next_token_probabilities",
    "prompt_ids",
    "write",
    "write_each",
    "write_many",
]

Reason = Literal["end", "length", "stopped"]

DOUBT = 5e-4  # half of it is eight times what a logit was seen to differ by: 3e-5, in `benchmarks/README.md`
LINE_ENDS = "，。？！；：\n \u3000"  # what ends a line; the blanks, so that a line is no other for one


# --- the loop -------------------------------------------------------------------------------------


class Row:
    """A text in the making: its tokens, its own source of chance, and the characters and lines it has."""

    def __init__(self, number: int, prompt: Sequence[int], chance: random.Random) -> None:
        self.number, self.ids, self.chance = number, list(prompt), chance
        self.said: list[int] = []  # its characters so far, the prompt's and punctuation apart
        self.line: tuple[int, ...] = ()  # the one begun
        self.last_of: dict[tuple[int, ...], list[int]] = {}  # all but a line's last token -> that token

    def add(self, token: int, line_ends: Collection[int]) -> None:
        """One more token."""
        self.ids.append(token)
        if token not in line_ends:
            self.line += (token,)
            self.said += [token] if token not in self.said else []
        elif self.line:
            self.last_of.setdefault(self.line[:-1], []).append(self.line[-1])
            self.line = ()

    def repeating(self) -> list[int]:
        """The tokens that would make the line begun the same as an earlier one."""
        return self.last_of.get(self.line, [])


@torch.inference_mode()
def generate(
    model: PoetryModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    end_id: int | None,
    stop: Sequence[int] = (),
    banned: Sequence[int] = (),
    line_ends: Collection[int] = (),
    chances: Sequence[random.Random] | None = None,
) -> Iterator[list[tuple[int, int]]]:
    """Continue several prompts at once; each step yields (row, new token) for the rows still going.

    A row ends with `end_id` or, if there are any, the tokens of `stop`, which are yielded; after `max_new_tokens`; or
    where the model's context ends. `banned` tokens are never drawn, nor is, unless `repeat_lines` is set, one that
    would complete a line for the second time: `line_ends` are the marks that end one. `chances` takes the place of the
    settings' seed.

    Raises:
        ValueError: a prompt is empty or leaves no room in the context.
    """
    context = model.config.max_position_embeddings
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise ValueError(f"a prompt of {len(prompt)} tokens; the model reads 1 to {context - 1}")
    model.eval()
    chances = chances or [row_generator(prompt, settings.seed) for prompt in prompts]
    rows = [Row(i, prompt, chance) for i, (prompt, chance) in enumerate(zip(prompts, chances, strict=True))]
    width = max(map(len, prompts))
    columns = max(width - len(p) + min(len(p) + settings.max_new_tokens, context) for p in prompts)
    cached = CachedModel(model, [width - len(p) for p in prompts], columns)
    read = np.array([[0] * (width - len(p)) + list(p) for p in prompts])
    for made in range(1, settings.max_new_tokens + 1):
        logits = as_floats(cached.read(read))
        tokens = [next_token(model, row, own, settings, banned) for row, own in zip(rows, logits, strict=True)]
        yield [(row.number, token) for row, token in zip(rows, tokens, strict=True)]
        for i in reversed(range(len(rows))):
            row = rows[i]
            row.add(tokens[i], line_ends)
            stopped = 0 < len(stop) <= made and row.ids[-len(stop) :] == list(stop)
            if stopped or tokens[i] == end_id or len(row.ids) > context or made == settings.max_new_tokens:
                cached.drop(i)
                rows[i], tokens[i] = rows[-1], tokens[-1]
                del rows[-1], tokens[-1]
        if not rows:
            return
        read = np.array(tokens)[:, None]


def next_token(
    model: PoetryModel, row: Row, logits: Floats, settings: GenerationSettings, banned: Sequence[int]
) -> int:
    """A row's next token from its logits, (V,), and where these do not decide beyond doubt, from the plain model's."""
    noise = gumbel_noise(row.chance, len(logits))
    token, certain = draw(allowed(logits, row, settings, banned), noise, settings, DOUBT)
    if not certain:
        ids = torch.tensor([row.ids], device=model.model.embed_tokens.weight.device)
        plain = model(ids, head=lambda hidden, embedding: embedding @ hidden[0, -1])
        token, _ = draw(allowed(as_floats(plain), row, settings, banned), noise, settings)
    return token


def as_floats(logits: Any) -> Floats:
    """Logits, wherever they are, in float32 and at hand."""
    return logits.float().cpu().numpy() if isinstance(logits, Tensor) else logits


def allowed(logits: Floats, row: Row, settings: GenerationSettings, banned: Sequence[int]) -> Floats:
    """The logits, (V,), lower for what a text has said already, minus infinity for what must not be drawn.

    They are changed in place.
    """
    logits[list(banned)] = -np.inf
    if settings.presence_penalty and row.said:
        logits[row.said] -= settings.presence_penalty
    if not settings.repeat_lines:
        logits[row.repeating()] = -np.inf
    return logits


# --- poems ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """A text the model wrote, and why it stopped there.

    `log_likelihood`, in nats per character, is known of candidates alone.
    """

    text: str
    reason: Reason
    log_likelihood: float | None = None


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
    return Writing(generate(model, [ids], settings or GenerationSettings(), **marks(tokenizer)), tokenizer)


Score = Callable[[Written], Any]
"""What candidates are ranked by: anything that can be compared, the largest is best."""


def well_made(written: Written) -> tuple[bool, bool, float]:
    """The usual score: well-formed and ended first, then what ended, then what the model finds likely."""
    ended = written.reason == "end"
    return ended and is_well_formed(written.text), ended, written.log_likelihood or 0.0


def write_each(
    checkpoint: Checkpoint,
    titles: Sequence[str],
    settings: GenerationSettings | None = None,
    *,
    seeds: Sequence[int] | None = None,
    stop: str = "",
    batch_size: int = 64,
    candidates: int = 1,
    score: Score = well_made,
) -> Iterator[Written]:
    """A poem for each title, in order, `batch_size` of them written at a time.

    A poem is also at its end where it comes to `stop`, if that is any text: for a base model, which has no end mark.
    With `seeds`, one for each title, the settings' seed does not count. With several `candidates` so many poems
    are written on each title and the one of the highest `score` is kept; the first is what one alone would be.

    Raises:
        ValueError: there is not a seed for each title, or less than one candidate is asked for.
    """
    if candidates < 1:
        raise ValueError(f"candidates is {candidates}, must be at least 1")
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    settings = settings or GenerationSettings()
    seeds = [settings.seed] * len(titles) if seeds is None else seeds
    tasks = [(prompt_ids(tokenizer, title), seed) for title, seed in zip(titles, seeds, strict=True)]
    at_once = max(1, batch_size // candidates)
    how: dict[str, Any] = {"stop": tokenizer.encode(stop), **marks(tokenizer)}
    for start in range(0, len(tasks), at_once):
        batch = [(p, seed, n) for p, seed in tasks[start : start + at_once] for n in range(candidates)]
        prompts = [prompt for prompt, *_ in batch]
        ids: list[list[int]] = [[] for _ in batch]
        chances = [row_generator(*task) for task in batch]
        for step in generate(model, prompts, settings, **how, chances=chances):
            for row, token in step:
                ids[row].append(token)
        for first in range(0, len(batch), candidates):
            texts = ids[first : first + candidates]
            likely = [log_likelihood(model, prompts[first], t) if candidates > 1 else None for t in texts]
            yield max((as_written(tokenizer, t, stop, n) for t, n in zip(texts, likely, strict=True)), key=score)


def write_many(
    checkpoint: Checkpoint,
    titles: Sequence[str],
    settings: GenerationSettings | None = None,
    *,
    progress: Callable[[int], object] = lambda done: None,
    **how: Any,
) -> list[Written]:
    """All that `write_each` yields, which see; `progress` is told how many are done."""
    done: list[Written] = []
    for written in write_each(checkpoint, titles, settings, **how):
        done.append(written)
        progress(len(done))
    return done


def as_written(tokenizer: CharacterTokenizer, ids: Sequence[int], stop: str, likely: float | None) -> Written:
    """Tokens as a text, what it was stopped at included; the end mark becomes its reason."""
    text = tokenizer.decode(ids)
    ended: Reason = "end" if ids[-1] == tokenizer.eos_id else "length"
    return Written(text, "stopped" if stop and text.endswith(stop) else ended, likely)


@torch.inference_mode()
def log_likelihood(model: PoetryModel, prompt: Sequence[int], ids: Sequence[int]) -> float:
    """How likely the model finds `ids` after `prompt`: the mean log-probability, in nats per token."""
    device = model.model.embed_tokens.weight.device
    logits = model(torch.tensor([[*prompt, *ids[:-1]]], device=device))[0, len(prompt) - 1 :]
    return -torch.nn.functional.cross_entropy(logits, torch.tensor(ids, device=device)).item()


def marks(tokenizer: CharacterTokenizer) -> dict[str, Any]:
    """What `generate` must know of a vocabulary: its end mark, what is no part of a poem, and what ends a line."""
    line_ends = set(tokenizer.encode(LINE_ENDS)) - {tokenizer.unk_id}
    return {"end_id": tokenizer.eos_id, "banned": banned_ids(tokenizer), "line_ends": line_ends}


def banned_ids(tokenizer: CharacterTokenizer) -> list[int]:
    """Control tokens that have no place in a poem: all but the end mark."""
    return [i for i in tokenizer.controls if i != tokenizer.eos_id]
