"""Which of two poems is the better one? Judges; pairs of a model's own poems, for `recipes.preference` to learn from.

A judge gives an answer a score, and of two answers the one with the greater score is chosen. There are two here, the
prosody and the title; the learner, who chooses by hand, is the third (`show.choice_box`).
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.title_fit import OTHERS, log_likelihoods
from course_lib.generation import WrittenPoem, iter_answers
from course_lib.instructions import OLD_STYLE
from course_lib.prosody import score
from course_lib.roles import message_segments
from course_lib.sampling import GenerationSettings
from course_lib.tasks import Pair, Request

Judge = Callable[[Request, Sequence[WrittenPoem]], Sequence[Any]]  # a score for each answer; the greater, the better
UNRULED = (OLD_STYLE.name, "mixed")  # verse that need not keep the rules of regulated verse
# Candidates are drawn at temperature 1, without top-p. Pairs of its safest answers would make a model less varied.
UNLIMITED = GenerationSettings(temperature=1.0, top_p=1.0)


def obeys(request: Request, answer: WrittenPoem) -> bool:
    """Whether the model ended the answer by itself, and it does what was asked."""
    return answer.reason == "end" and request.obeyed(answer.text)


def by_prosody(request: Request, answers: Sequence[WrittenPoem]) -> list[tuple[float, ...]]:
    """An answer that obeys is the better one; then, of regulated verse, one that rhymes, and has fewer faulty lines."""
    is_ruled = request.instruction.given == "title" and request.instruction.name.split(",")[0] not in UNRULED

    def judged(answer: WrittenPoem) -> tuple[float, ...]:
        is_right = obeys(request, answer)
        _, rhymes, faultless, _ = score(answer.text, is_right, 0.0)
        return (is_right, rhymes, faultless) if is_right and is_ruled else (is_right, 0, 0)

    return [judged(answer) for answer in answers]


def by_title(checkpoint: Checkpoint, pool: Sequence[str], others: int = OTHERS) -> Judge:
    """A judge: an answer that obeys is the better one; then the poem that fits its title better.

    The fit says how much likelier a poem is under its title than under `others` titles of `pool`, which has more, in
    nats a character. The likelihoods are those of `checkpoint`, under its first instruction; it need not be the model
    that wrote the poems.
    """
    known = sorted(set(pool))

    def judged(request: Request, answers: Sequence[WrittenPoem]) -> list[tuple[float, ...]]:
        right = [obeys(request, answer) for answer in answers]
        if request.instruction.given != "title":
            return [(is_right, 0.0) for is_right in right]
        drawn = [title for title in Random(request.given).sample(known, others + 1) if title != request.given]
        titles = [request.given, *drawn[:others]]
        pairs = [(title, answer.text) for answer in answers for title in titles]
        likelihoods = log_likelihoods(checkpoint, pairs).view(len(answers), -1)
        fits = (likelihoods[:, 0] - likelihoods[:, 1:].mean(1)).tolist()
        return [(is_right, fit if is_right else 0.0) for is_right, fit in zip(right, fits, strict=True)]

    return judged


def in_turn(*judges: Judge) -> Judge:
    """A judge who asks the others in turn: where one finds two answers equally good, the next one decides."""
    return lambda request, answers: list(zip(*(judge(request, answers) for judge in judges), strict=True))


def pairs_of(request: Request, answers: Sequence[WrittenPoem], judge: Judge, most: int = 3) -> list[Pair]:
    """The best answer with the worst one, the second best with the second worst, and so on: at most `most` pairs.

    Two answers with the same score make no pair.
    """
    scores = judge(request, answers)
    order = sorted(range(len(answers)), key=lambda i: scores[i], reverse=True)
    ends = list(zip(order, reversed(order), strict=True))[: len(order) // 2][:most]
    return [Pair(request.prompt, answers[i].text, answers[j].text) for i, j in ends if scores[i] > scores[j]]


def iter_pairs(
    checkpoint: Checkpoint,
    asked: Sequence[Request],
    judge: Judge = by_prosody,
    settings: GenerationSettings = UNLIMITED,
    candidates: int = 8,
    batch_size: int = 128,
) -> Iterator[list[Pair]]:
    """For each request the pairs that several answers of the checkpoint make.

    `candidates` answers are written, with the seeds from `settings.seed` on; `batch_size` of them at a time.
    """
    seeds = [settings.seed + i for i in range(candidates)]
    segments = [message_segments(request.prompt, open_response=True) for request in asked]
    prompts = [checkpoint.tokenizer.encode_segments(each) for each in segments for _ in seeds]
    written = iter_answers(checkpoint, prompts, settings, seeds * len(asked), batch_size=batch_size)
    for request in asked:
        yield pairs_of(request, [next(written) for _ in seeds], judge)
