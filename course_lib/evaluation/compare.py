"""All metrics of a checkpoint, on titles and poems that it has never read.

    evaluate(checkpoint, load_poems("test"))             the metrics of one checkpoint
    compare(checkpoint, load_poems("test"), base=base)   beside those of the base model, real poems and shuffled ones

Matrix products have the type `precision`. With float32, the table is the same on every machine, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.held_out import Progress, losses
from course_lib.evaluation.judge import BLANK_ROW, first_poem, judge, obedience, shuffled
from course_lib.evaluation.metrics import Estimate, Evaluation
from course_lib.evaluation.novelty import PoemIndex
from course_lib.evaluation.title_fit import OTHERS, title_fit
from course_lib.generation import WrittenPoem, iter_poems
from course_lib.instructions import Instruction
from course_lib.poems import Poem
from course_lib.sampling import GenerationSettings

COMPARED = 120  # at most so many poems are read under 16 titles each, which takes most of the time


def evaluate(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    *,
    titles: int = 200,
    candidates: int = 1,
    settings: GenerationSettings | None = None,
    precision: torch.dtype = torch.float32,
    instruction: Instruction | None = None,
    index: PoemIndex | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """All metrics of a checkpoint: losses on all `poems`, the rest on poems it writes on the first `titles` titles.

    It writes with `instruction`, or with the first one that it was taught. With several `candidates`, the best by
    `generation.rank` is judged. A base model is given the title and a newline, and stopped at the blank row. `index`
    holds the poems to search for copied lines; None means the Tang training poems.

    Raises:
        ValueError: `titles` is not between 1 and the number of poems.
    """
    if not 0 < titles <= len(poems):
        raise ValueError(f"titles is {titles}; it must be in 1 … {len(poems)}, the number of poems")
    written: list[WrittenPoem] = []
    for poem in iter_poems(
        checkpoint,
        [poem.title for poem in poems[:titles]],
        settings,
        instruction=instruction,
        candidates=candidates,
        stop="" if checkpoint.instructions else BLANK_ROW,
    ):
        written.append(poem)
        progress("writing", len(written), titles)
    estimates = judge_on_titles(checkpoint, poems, written, settings, precision, instruction, index, progress)
    return Evaluation(estimates | losses(checkpoint, poems, precision, progress), titles, len(poems))


def compare(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    *,
    base: Checkpoint | None = None,
    titles: int = 200,
    candidates: int = 1,
    settings: GenerationSettings | None = None,
    precision: torch.dtype = torch.float32,
    instruction: Instruction | None = None,
    index: PoemIndex | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Evaluation]:
    """`evaluate` of a checkpoint, of `base`, of the real poems on the same titles, and of shuffled poems.

    Several `candidates` add a column for the best of them. The real poems' title fit is measured with `checkpoint`.

    Raises:
        ValueError: `titles` is not between 1 and the number of poems.
    """
    column = partial(evaluate, poems=poems, titles=titles, settings=settings, precision=precision, index=index)
    name = "fine-tuned" if checkpoint.instructions else "base"
    columns: dict[str, Evaluation] = {}

    def progress_of(column_name: str) -> Progress:
        return lambda stage, done, total: progress(f"{column_name}: {stage}", done, total)

    if base and checkpoint.instructions:
        columns["base"] = column(base, progress=progress_of("base"))
    columns[name] = column(checkpoint, instruction=instruction, progress=progress_of(name))
    if candidates > 1:
        best = f"best of {candidates}"
        columns[best] = column(checkpoint, instruction=instruction, candidates=candidates, progress=progress_of(best))
    real = [WrittenPoem(poem.text, "end") for poem in poems[:titles]]
    estimates = judge_on_titles(
        checkpoint, poems, real, settings, precision, instruction, index, progress_of("real poems")
    )
    columns["real poems"] = Evaluation(estimates, titles)
    columns["shuffled"] = Evaluation(judge([shuffled(poem) for poem in poems[:titles]], index), titles)
    return columns


def judge_on_titles(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    written: Sequence[WrittenPoem],
    settings: GenerationSettings | None,
    precision: torch.dtype,
    instruction: Instruction | None,
    index: PoemIndex | None,
    progress: Progress,
) -> dict[str, Estimate]:
    """`judge` of texts on the titles of the first `poems`, whether they obey `instruction`, and their `title_fit`.

    The title fit is left out if there are too few titles.
    """
    pool = [poem.title for poem in poems]
    estimates = judge(written, index)
    if instruction or checkpoint.instructions:
        estimates |= obedience(pool[: len(written)], written, instruction or checkpoint.instructions[0])
    if len(set(pool)) <= OTHERS:
        return estimates
    texts = [first_poem(poem.text) for poem in written[:COMPARED]]
    seed = (settings or GenerationSettings()).seed
    return estimates | title_fit(
        checkpoint,
        pool[: len(texts)],
        texts,
        pool,
        instruction=instruction,
        seed=seed,
        precision=precision,
        progress=progress,
    )
