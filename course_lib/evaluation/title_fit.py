"""Does a poem listen to its title? Ask the model how likely the poem is under this title, and under others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from course_lib.batches import IGNORE
from course_lib.checkpoints import Checkpoint
from course_lib.engine.chunked_loss import losses_of
from course_lib.evaluation.metrics import Figure, known, mean_figure
from course_lib.generation import prompt_ids

OTHERS = 15  # titles that are not the poem's own

Progress = Callable[[str, int, int], object]
"""Told what is being done, how much of it is done, and how much there is to do."""


def listening(
    checkpoint: Checkpoint,
    titles: Sequence[str],
    texts: Sequence[str],
    pool: Sequence[str],
    *,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    batch_size: int = 16,
    progress: Progress = lambda *_: None,
) -> dict[str, Figure]:
    """How much likelier the model finds each text under its own title than under 15 others drawn from `pool`.

    The gain is in nats per character, against the mean of the others; its own title wins if it is likelier than
    under any other: by chance in 1 of 16. A text of no characters gains nothing, and does not win.

    Raises:
        ValueError: the pool has fewer than 15 other titles.
    """
    asked: list[list[str]] = []
    for number, title in enumerate(titles):
        others = sorted(set(pool) - {title})
        if len(others) < OTHERS:
            raise ValueError(f"{len(others)} titles beside {title!r}, at least {OTHERS} are needed to compare with")
        asked.append([title, *random.Random(f"{seed} {number} {title}").sample(others, OTHERS)])
    pairs = [(title, text) for under, text in zip(asked, texts, strict=True) for title in under]
    by_length = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))  # in one batch, little padding
    likely = torch.zeros(len(pairs))
    for start in range(0, len(pairs), batch_size):
        batch = by_length[start : start + batch_size]
        likely[batch] = log_likelihoods(checkpoint, [pairs[i] for i in batch], precision)
        progress("reading under 16 titles", (start + len(batch)) // (1 + OTHERS), len(texts))
    table = likely.view(len(texts), 1 + OTHERS)
    own, rest = table[:, 0], table[:, 1:]
    gains, wins = own - rest.mean(dim=1), own > rest.amax(dim=1)
    return known({"own_title_gain": mean_figure(gains.tolist()), "own_title_wins": mean_figure(wins.tolist())})


@torch.inference_mode()
def log_likelihoods(
    checkpoint: Checkpoint, pairs: Sequence[tuple[str, str]], precision: torch.dtype = torch.float32
) -> Tensor:
    """What the model thinks of each (title, text): nats per character of the text, (B,), all below 0; 0 for no text.

    What exceeds the context is not looked at, nor is the end mark, which a base model does not set.
    """
    model, tokenizer = checkpoint.model.eval(), checkpoint.tokenizer
    prompts = [prompt_ids(tokenizer, title) for title, _ in pairs]
    context = model.config.max_position_embeddings
    rows = [(prompt + tokenizer.encode(text))[:context] for prompt, (_, text) in zip(prompts, pairs, strict=True)]
    shape = (len(rows), max(map(len, rows)))
    ids, targets = torch.full(shape, tokenizer.pad_id), torch.full(shape, IGNORE)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        targets[i, len(prompt) - 1 : len(row) - 1] = torch.tensor(row[len(prompt) :])
    weight, asked = model.model.embed_tokens.weight, targets != IGNORE
    with torch.autocast(weight.device.type, precision, enabled=precision != torch.float32):
        hidden = model.model(ids.to(weight.device), None)[asked.to(weight.device)]  # of the poems' characters alone
        costs = losses_of(hidden, weight, targets[asked].to(weight.device)).cpu()
    return -torch.zeros(len(rows)).index_add(0, asked.nonzero()[:, 0], costs) / asked.sum(1).clamp(min=1)
