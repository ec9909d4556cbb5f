"""Does a poem fit its title? The model says how likely the poem is under this title, and under 15 others."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from course_lib.batches import IGNORE
from course_lib.checkpoints import Checkpoint
from course_lib.engine.chunked_loss import losses_of
from course_lib.engine.machine import Machine
from course_lib.evaluation.held_out import Progress
from course_lib.evaluation.metrics import Estimate, bootstrap_mean, without_none
from course_lib.generation import prompt_ids
from course_lib.instructions import Instruction
from course_lib.model import evaluating

OTHERS = 15  # titles to compare a poem's own title with


def title_fit(
    checkpoint: Checkpoint,
    titles: Sequence[str],
    texts: Sequence[str],
    pool: Sequence[str],
    *,
    instruction: Instruction | None = None,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    batch_size: int = 16,
    progress: Progress = lambda *_: None,
) -> dict[str, Estimate]:
    """`own_title_gain` and `own_title_wins`: how much likelier each text is under its title than under 15 others.

    The gain is the log-likelihood under the own title less the mean under the others, in nats per character: nearly the
    pointwise mutual information of text and title (Church and Hanks 1990). The own title wins if the text is likelier
    under it than under any other: by chance 1 time in 16. Raises ValueError if `pool` has fewer than 15 other titles.
    """
    pairs: list[tuple[str, str]] = []
    for number, (title, text) in enumerate(zip(titles, texts, strict=True)):
        others = sorted(set(pool) - {title})
        if len(others) < OTHERS:
            raise ValueError(f"{len(others)} titles beside {title!r}; a comparison needs at least {OTHERS}")
        drawn = random.Random(f"{seed} {number} {title}").sample(others, OTHERS)
        pairs += [(t, text) for t in (title, *drawn)]
    by_length = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i])))  # little padding in a batch
    likelihoods = torch.zeros(len(pairs))
    for start in range(0, len(pairs), batch_size):
        batch = by_length[start : start + batch_size]
        likelihoods[batch] = log_likelihoods(checkpoint, [pairs[i] for i in batch], instruction, precision)
        progress("reading under 16 titles", (start + len(batch)) // (1 + OTHERS), len(texts))
    table = likelihoods.view(len(texts), 1 + OTHERS)
    gains = table[:, 0] - table[:, 1:].mean(dim=1)
    wins = table[:, 0] > table[:, 1:].amax(dim=1)
    return without_none({"own_title_gain": bootstrap_mean(gains), "own_title_wins": bootstrap_mean(wins)})


def log_likelihoods(
    checkpoint: Checkpoint,
    pairs: Sequence[tuple[str, str]],
    instruction: Instruction | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """The log-likelihood of each text under its title, in nats per character: (B,); 0 for an empty text.

    Characters beyond the context do not count. The end mark does not count, because a base model does not write it.
    """
    tokenizer = checkpoint.tokenizer
    decoder = checkpoint.model.model
    machine = Machine(checkpoint.device, precision)
    prompts = [prompt_ids(checkpoint, title, instruction) for title, _ in pairs]
    context = checkpoint.context
    rows = [(prompt + tokenizer.encode(text))[:context] for prompt, (_, text) in zip(prompts, pairs, strict=True)]
    ids = torch.full((len(rows), max(map(len, rows))), tokenizer.pad_id)
    targets = torch.full_like(ids, IGNORE)
    for i, (row, prompt) in enumerate(zip(rows, prompts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        targets[i, len(prompt) - 1 : len(row) - 1] = torch.tensor(row[len(prompt) :])
    counts = targets != IGNORE
    with torch.no_grad(), evaluating(checkpoint.model), machine.autocast():
        hidden = decoder(ids.to(machine.device), None)[counts.to(machine.device)]  # the texts' characters alone
        costs = losses_of(hidden, decoder.embed_tokens.weight, targets[counts].to(machine.device)).cpu()
    return -torch.zeros(len(rows)).index_add(0, counts.nonzero()[:, 0], costs) / counts.sum(1).clamp(min=1)
