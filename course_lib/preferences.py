"""Which of two poems is the better one? Judges; pairs of a model's own poems, for `recipes.preference` to learn from.

A judge gives an answer a score, and of two answers the one with the greater score is chosen. There are two here, the
prosody and the title; the learner, who chooses by hand, is the third (`show.choice_box`).
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

from course_lib.checkpoints import Checkpoint
from course_lib.evaluation.obedience import Question, questions
from course_lib.evaluation.title_fit import OTHERS, log_likelihoods
from course_lib.generation import WrittenPoem, iter_answers
from course_lib.instructions import OLD_STYLE, Instruction
from course_lib.poems import Poem
from course_lib.prosody import score
from course_lib.roles import message_segments
from course_lib.sampling import GenerationSettings
from course_lib.tasks import Pair

Judge = Callable[[Question, Sequence[WrittenPoem]], Sequence[Any]]  # a score for each answer; the greater, the better
UNRULED = (OLD_STYLE.name, "mixed")  # verse that need not keep the rules of regulated verse


def by_prosody(question: Question, answers: Sequence[WrittenPoem]) -> list[tuple[float, ...]]:
    """Does it end, and do what was asked? Then, of regulated verse: its rhyme, and its share of lines without fault."""

    def judged(answer: WrittenPoem) -> tuple[float, ...]:
        obeys = answer.reason == "end" and question.obeyed([answer.text])
        is_ruled = question.instruction.given == "title" and question.instruction.name not in UNRULED
        return (obeys, *score(answer.text, obeys, 0.0)) if is_ruled else (obeys,)

    return [judged(answer) for answer in answers]


def by_title(checkpoint: Checkpoint, pool: Sequence[str]) -> Judge:
    """A judge: how much likelier is the poem under its title than under fifteen others of `pool`, in nats a character?

    The likelihoods are those of `checkpoint`, which need not be the model that wrote the poems.
    """

    def judged(question: Question, answers: Sequence[WrittenPoem]) -> list[float]:
        others = Random(question.given).sample(sorted(set(pool) - {question.given}), OTHERS)
        pairs = [(title, answer.text) for answer in answers for title in (question.given, *others)]
        likelihoods = log_likelihoods(checkpoint, pairs, question.instruction).view(len(answers), -1)
        return (likelihoods[:, 0] - likelihoods[:, 1:].mean(1)).tolist()

    return judged


def requests(taught: Sequence[Instruction], poems: Sequence[Poem], plain: float = 0.5, seed: int = 0) -> list[Question]:
    """A question about each poem: with the probability `plain` a poem on its title, else any that is drawn by lot.

    Only questions to which many answers are right are drawn, and none that `tasks.lottery` holds out of training.
    """
    drawn = []
    for poem in poems:
        random = Random(f"{seed} {poem.title} {poem.text}")
        others = questions(taught, [poem], 0, wishes=()) if random.random() >= plain else []
        open_ones = [q for q in others if not q.turn and not q.instruction.one_answer and "," not in q.row]
        drawn.append(random.choice(open_ones or [Question(taught[0].name, taught[0], poem.title, 0)]))
    return drawn


def iter_pairs(
    checkpoint: Checkpoint,
    asked: Sequence[Question],
    judge: Judge = by_prosody,
    settings: GenerationSettings | None = None,
    candidates: int = 8,
    batch_size: int = 128,
) -> Iterator[Pair | None]:
    """For each question the best and the worst of several answers of the checkpoint, or None if they are equally good.

    `candidates` answers are written, with the seeds from `settings.seed` on; `batch_size` of them at a time.
    """
    settings = settings or GenerationSettings()
    seeds = [settings.seed + i for i in range(candidates)]
    segments = [message_segments(question.messages(), open_response=True) for question in asked]
    prompts = [checkpoint.tokenizer.encode_segments(each) for each in segments for _ in seeds]
    written = iter_answers(checkpoint, prompts, settings, seeds * len(asked), batch_size=batch_size)
    for question in asked:
        answers = [next(written) for _ in seeds]
        scores = judge(question, answers)
        best, worst = (answers[scores.index(extreme(scores))].text for extreme in (max, min))
        yield Pair(question.messages(), best, worst) if max(scores) > min(scores) else None
