"""All metrics of a checkpoint, alone or beside others, on titles and poems that it has never read.

`precision` is the type of the matrix products in losses and title fit; poems are always written in float32. With
float32, the table is the same on every machine, up to rounding.
"""

from collections.abc import Sequence
from functools import partial

import torch

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.held_out import Progress, losses
from course_lib.evaluation.measures import BLANK_ROW, first_poem, measure_poems, share_obeyed, shuffled
from course_lib.evaluation.metrics import Evaluation
from course_lib.evaluation.novelty import PoemIndex
from course_lib.evaluation.title_fit import OTHERS, title_fit
from course_lib.generation import WrittenPoem, iter_poems
from course_lib.instructions import Instruction
from course_lib.language import say
from course_lib.poems import Poem
from course_lib.sampling import GenerationSettings

COMPARED = 120  # only this many poems are read under 16 titles each, because that takes most of the time


def evaluate(
    checkpoint: Checkpoint,
    poems: Sequence[Poem],
    *,
    titles: int = 200,
    texts: Sequence[WrittenPoem] | None = None,
    candidates: int = 1,
    settings: GenerationSettings | None = None,
    precision: torch.dtype = torch.float32,
    instruction: Instruction | None = None,
    index: PoemIndex | None = None,
    progress: Progress = lambda *_: None,
) -> Evaluation:
    """All metrics of a checkpoint: losses on all `poems`, the others on poems it writes on the first `titles` titles.

    It follows `instruction`, or the first one that it was taught. With several `candidates`, the best by
    `generation.score_of` is judged. A base model is stopped at the blank row. `index` holds the poems to search for
    copied lines; None means the Tang training poems. If `texts` are given, they are judged in place of the model's own
    poems, and there are no losses. Raises ValueError if `titles` is not between 1 and the number of poems.
    """
    if not 0 < titles <= len(poems):
        raise ValueError(say("titles is {it}, must be from 1 to {n}, the number of poems", it=titles, n=len(poems)))
    pool = [poem.title for poem in poems]
    asked = instruction or next(iter(checkpoint.instructions), None)
    written = list(texts or ())
    if texts is None:
        stop = "" if checkpoint.instructions else BLANK_ROW
        writing = iter_poems(checkpoint, pool[:titles], settings, instruction=asked, candidates=candidates, stop=stop)
        for poem in writing:
            written.append(poem)
            progress("writing", len(written), titles)
    estimates = measure_poems(written, index)
    if asked:
        estimates |= share_obeyed(pool[:titles], written, asked)
    if len(set(pool)) > OTHERS:
        read = [first_poem(poem.text) for poem in written[:COMPARED]]
        fit = partial(title_fit, checkpoint, instruction=asked, precision=precision, progress=progress)
        estimates |= fit(pool[: len(read)], read, pool, seed=(settings or GenerationSettings()).seed)
    if texts is not None:
        return Evaluation(estimates, titles)
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
    Raises ValueError as `evaluate` does.
    """
    evaluation = partial(evaluate, poems=poems, titles=titles, settings=settings, precision=precision, index=index)
    own = partial(evaluation, checkpoint, instruction=instruction)
    columns: dict[str, partial[Evaluation]] = {}
    if base and checkpoint.instructions:
        columns["base"] = partial(evaluation, base)
    columns["fine-tuned" if checkpoint.instructions else "base"] = own
    if candidates > 1:
        columns[f"best of {candidates}"] = partial(own, candidates=candidates)
    columns["real poems"] = partial(own, texts=[WrittenPoem(poem.text, "end") for poem in poems[:titles]])

    def progress_of(name: str) -> Progress:
        return lambda stage, done, total: progress(f"{name}: {stage}", done, total)

    evaluations = {name: column(progress=progress_of(name)) for name, column in columns.items()}
    nonsense = measure_poems([shuffled(poem) for poem in poems[:titles]], index)
    return evaluations | {"shuffled": Evaluation(nonsense, titles)}
