"""A checkpoint to a table of figures, all on titles and poems it has never read.

    evaluate(checkpoint, load_poems("test"))      the figures of one checkpoint
    compare(checkpoint, load_poems("test"), …)    side by side with the base model, real poems and shuffled ones
    judge(poems)                                  what can be said of texts alone, whoever wrote them

Figures that are means over texts come with their 95 % interval, from the bootstrap (Efron 1979): had we asked for
other titles, they would most likely lie there. Two checkpoints whose intervals overlap widely may well be equally
good. `course_lib.evaluation.metrics` names the figures, `course_lib.prosody` and `course_lib.evaluation.novelty` define most of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from course_lib.batches import IGNORE, Batch, Batches, InstructionBatches, PlainTextBatches
from course_lib.checkpoints import Checkpoint
from course_lib.engine.chunked_loss import token_losses
from course_lib.engine.machine import choose_precision
from course_lib.evaluation.metrics import Evaluation, Figure, known, mean_figure
from course_lib.evaluation.novelty import Library, distinct_2, training_library
from course_lib.evaluation.title_fit import OTHERS, Progress, listening
from course_lib.generation import GenerationSettings, Written, write_many
from course_lib.losses import Loss, sums_on, targets_of
from course_lib.poems import Poem, han, is_well_formed
from course_lib.prosody import Score, scan
from course_lib.prosody import score as prosody_score
from course_lib.roles import Instruct, plainly

LISTENED = 120  # so many poems at most are read under 16 titles each, which is most of the work
BLANK_ROW = "\n\n"  # in plain text, what stands between a poem and the next title

fastest = cache(choose_precision)  # measured once, so that all columns have the same


# --- texts ----------------------------------------------------------------------------------------


def judge(texts: Sequence[Written], library: Library | None = None) -> dict[str, Figure]:
    """What can be said of texts without a model.

    A base model does not end, but goes on to a blank row and the next title: so it neither ends nor is well formed,
    even if it was stopped there. Everything else is asked of the poem before the blank row. `library`: the Tang
    training poems.
    """
    library = library or training_library()
    poems = [first_poem(written.text) for written in texts]
    heard = [scan(poem) for poem in poems]
    in_form = [len(s.lines) in (4, 8) and s.form.characters is not None for s in heard]
    rhymes, alternating = [s.rhymes for s in heard], [s.alternating for s in heard]
    lines = [len(s.lines) for s in heard]
    figures = {
        "ended": mean_figure([written.reason == "end" for written in texts]),
        "well_formed": mean_figure([w.reason != "stopped" and is_well_formed(w.text) for w in texts]),
        "repeats_a_line": mean_figure([len(set(s.lines)) < len(s.lines) for s in heard]),
        "rhymes": mean_figure(rhymes),
        "rhymes_in_form": mean_figure(weighed(rhymes, in_form), in_form),
        "alternating": mean_figure(alternating, lines),
        "alternating_in_form": mean_figure(weighed(alternating, in_form), weighed(lines, in_form)),
        "regulated": mean_figure([s.regulated for s in heard]),
        "longest_run": mean_figure([library.nearest(poem).longest for poem in poems]),
        "copies_a_line": mean_figure([bool(library.copied(poem)) for poem in poems]),
        "distinct_2": Figure(distinct_2(poems)),  # no interval: a poem drawn twice would repeat itself
    }
    return known(figures)


def passes(text: str, library: Library | None = None) -> dict[str, bool]:
    """What `judge` asks of each text, asked of one that its writer ended: question → whether it passes."""
    found = judge([Written(text, "end")], library)
    return {
        "well formed": found["well_formed"].value == 1,
        "no line comes twice": found["repeats_a_line"].value == 0,
        "rhymes": found["rhymes"].value == 1,
        "tones without fault": found["regulated"].value == 1,
        "no line copied": found["copies_a_line"].value == 0,
    }


def weighed(values: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Each value times its weight."""
    return [a * b for a, b in zip(values, weights, strict=True)]


def first_poem(text: str) -> str:
    """What stands before the first blank row."""
    return text.partition(BLANK_ROW)[0]


def shuffled(poem: Poem, seed: int = 0) -> Written:
    """A poem's characters in any order, its punctuation where it was: nothing is left but which words occur."""
    characters = list(han(poem.text))
    random.Random(f"{seed} {poem.text}").shuffle(characters)
    rest = iter(characters)
    return Written("".join(next(rest) if han(c) else c for c in poem.text), "end")


def sounding(written: Written) -> Score:
    """A score for `write_many(…, candidates=8, score=sounding)`: the poem that rhymes and keeps the tones wins."""
    return prosody_score(written.text, written.reason == "end", written.log_likelihood or 0.0)


# --- losses ---------------------------------------------------------------------------------------


def held_out_loss(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    precision: torch.dtype = torch.float32,
    batch_size: int = 8,
    instruct: Instruct = plainly,
) -> Loss:
    """The losses on `poems`: as instruction examples if the checkpoint knows roles, else as plain text.

    In plain text every character counts, title and newlines too, so both are the same. float32 by default,
    so that every machine gives the same figure.
    """
    learned, learned_count, whole, whole_count = (
        loss_rows(checkpoint, poems, precision, batch_size, instruct).sum(0).tolist()
    )
    return Loss(learned / learned_count, whole / whole_count)


def loss_rows(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    precision: torch.dtype = torch.float32,
    batch_size: int = 8,
    instruct: Instruct = plainly,
    progress: Progress = lambda *_: None,
) -> Tensor:
    """(rows, 4): the sums of `row_sums` for each row of the batches that `poems` make."""
    model, tokenizer = checkpoint.model.eval(), checkpoint.tokenizer
    context = model.config.max_position_embeddings
    how: dict[str, Any] = {"context": context, "batch_size": batch_size, "seed": None}
    batches: Batches = (
        InstructionBatches.from_poems(poems, tokenizer, **how, instruct=instruct)
        if tokenizer.has_roles
        else PlainTextBatches(poems, tokenizer, **how)
    )
    device = model.model.embed_tokens.weight.device
    sums = partial(sums_on, device, precision, model, pad_id=tokenizer.pad_id, loss_sums=row_sums)
    rows: list[Tensor] = []
    with torch.no_grad():
        for batch in batches.epoch(0):
            rows.append(sums(batch).cpu())
            progress("taking the loss", len(poems) * len(rows) // len(batches), len(poems))
    return torch.cat(rows).double()


def row_sums(model: Callable[..., Tensor], batch: Batch, pad_id: int) -> Tensor:
    """(B, 4) sums: loss of the learned tokens, how many they are, loss of all tokens, how many."""
    targets, learned = targets_of(batch, pad_id)
    losses = token_losses(model, batch, targets)
    return torch.stack(((losses * learned).sum(1), learned.sum(1), losses.sum(1), (targets != IGNORE).sum(1)), dim=1)


def losses(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    precision: torch.dtype = torch.float32,
    instruct: Instruct = plainly,
    progress: Progress = lambda *_: None,
) -> dict[str, Figure]:
    """The losses that apply to the checkpoint. Their intervals are from drawing rows, of a few poems each, anew."""
    rows = loss_rows(checkpoint, poems, precision, instruct=instruct, progress=progress)
    learned, learned_count, whole, whole_count = rows.T.tolist()
    if not checkpoint.tokenizer.has_roles:
        return known({"plain_text_loss": mean_figure(whole, whole_count)})
    response = mean_figure(learned, learned_count)
    return known({"response_loss": response, "whole_loss": mean_figure(whole, whole_count)})


def unknown_share(checkpoint: Checkpoint, poems: Sequence[Poem]) -> float:
    """The share of characters, of titles and poems, that the vocabulary does not have."""
    rows = [checkpoint.tokenizer.encode(p.title + p.text) for p in poems]
    return sum(row.count(checkpoint.tokenizer.unk_id) for row in rows) / sum(map(len, rows))


# --- the whole ------------------------------------------------------------------------------------


def evaluate(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    *,
    titles: int = 200,
    candidates: int = 1,
    settings: GenerationSettings | None = None,
    precision: torch.dtype = torch.float32,
    instruct: Instruct = plainly,
    library: Library | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """All figures of a checkpoint: losses on all `poems`, everything else on the titles of the first so many.

    A base model gets the title and a newline as its prompt, and is stopped at the blank row. With several
    `candidates`, the one that sounds best is judged. `instruct` gives the instruction under which a poem's loss is
    taken, for models that were taught more than one.

    Raises:
        ValueError: there are fewer poems than titles asked for, or none was asked for.
    """
    asked = first_titles(poems, titles)
    written = write_many(
        checkpoint,
        asked,
        settings,
        candidates=candidates,
        score=sounding,
        stop="" if checkpoint.tokenizer.has_roles else BLANK_ROW,
        progress=lambda done: progress("writing", done, titles),
    )
    found = judge(written, library)
    found |= heard_titles(checkpoint, poems, [w.text for w in written], settings, progress)
    return Evaluation(found | losses(checkpoint, poems, precision, instruct, progress), titles, len(poems))


def compare(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    *,
    base: Checkpoint | None = None,
    titles: int = 200,
    candidates: int = 1,
    settings: GenerationSettings | None = None,
    precision: torch.dtype = torch.float32,
    instruct: Instruct = plainly,
    library: Library | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Evaluation]:
    """The figures of a checkpoint beside those of `base`, of the real poems on the same titles, and of shuffled ones.

    With several candidates, the best of them have a column of their own beside the raw poems. How well the
    real poems fit their titles is what `checkpoint` thinks of it.

    Raises:
        ValueError: as `evaluate` does.
    """
    first_titles(poems, titles)
    how: dict[str, Any] = {
        "titles": titles,
        "settings": settings,
        "precision": precision,
        "library": library,
        "instruct": instruct,
    }
    taught = checkpoint.tokenizer.has_roles
    columns: dict[str, Evaluation] = {}

    def told(name: str) -> Progress:
        return lambda stage, done, total: progress(f"{name}: {stage}", done, total)

    if base and taught:
        columns["base"] = evaluate(base, poems, **how, progress=told("base"))
    name = "fine-tuned" if taught else "base"
    columns[name] = evaluate(checkpoint, poems, **how, progress=told(name))
    if candidates > 1:
        best = f"best of {candidates}"
        columns[best] = evaluate(checkpoint, poems, **how, candidates=candidates, progress=told(best))
    asked = poems[:titles]
    real = judge([Written(p.text, "end") for p in asked], library)
    real |= heard_titles(checkpoint, poems, [p.text for p in asked], settings, told("real poems"))
    columns["real poems"] = Evaluation(real, titles)
    columns["shuffled"] = Evaluation(judge([shuffled(p) for p in asked], library), titles)
    return columns


def first_titles(poems: Sequence[Poem], titles: int) -> list[str]:
    """The titles to write on.

    Raises:
        ValueError: there are fewer poems than titles asked for, or none was asked for.
    """
    if not 0 < titles <= len(poems):
        raise ValueError(f"titles is {titles}, must lie in 1 … {len(poems)}, the number of poems")
    return [poem.title for poem in poems[:titles]]


def heard_titles(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    texts: Iterable[str],
    settings: GenerationSettings | None,
    progress: Progress,
) -> dict[str, Figure]:
    """`listening` for the first `LISTENED` of the texts, in the fastest precision; nothing if titles are too few."""
    pool = [poem.title for poem in poems]
    if len(set(pool)) <= OTHERS:
        return {}
    read = [first_poem(text) for text in texts][:LISTENED]
    seed = (settings or GenerationSettings()).seed
    precision = fastest(checkpoint.model.model.embed_tokens.weight.device)
    return listening(checkpoint, pool[: len(read)], read, pool, seed=seed, precision=precision, progress=progress)
