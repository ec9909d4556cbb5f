"""The exercises of notebook 8: the preference loss, the step to keep, a judge of your own."""

from collections.abc import Iterator, Sequence
from math import exp, isclose, log1p
from random import Random
from statistics import mean

import torch

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.checks.instructing import rose
from course_lib.checks.verdict import Answer, Judged, exercise, number
from course_lib.engine.machine import Machine
from course_lib.generation import WrittenPoem, iter_poems
from course_lib.language import say, sentences
from course_lib.poems import load_poems
from course_lib.preferences import iter_pairs
from course_lib.prosody import is_well_formed
from course_lib.recipes import preference
from course_lib.tasks import Request, requests
from course_lib.training import Trainer, TrainingSettings


@exercise("only the two gains count: how much likelier each poem has become.")
def preference_loss(answer: Answer) -> Iterator[str]:
    """The loss of one pair, from the log-likelihoods of both poems: now, and before the training."""
    for chosen, rejected, beta in (((-95.0, -100.0), (-130.0, -120.0), 0.1), ((-80.0, -70.0), (-61.0, -66.0), 0.2)):
        found = number(answer(chosen, rejected, beta))
        margin = (chosen[0] - chosen[1]) - (rejected[0] - rejected[1])
        probability = 1 / (1 + exp(-beta * margin))
        loss, without = log1p(exp(-beta * margin)), log1p(exp(-beta * (chosen[0] - rejected[0])))
        slips = {
            say("the margin is the gain of the chosen poem less that of the rejected one"): log1p(exp(beta * margin)),
            say("multiply the margin by beta"): log1p(exp(-margin)),
            say("this is the probability of the right choice; the loss is its negative logarithm"): probability,
            say("a loss is not negative: what stands before the logarithm?"): -loss,
            say("what about the log-likelihoods before? The margin is made of gains"): without,
            say("this is the margin, and not yet the loss"): margin,
        }
        if not isclose(found, loss, rel_tol=1e-4):
            yield from (hint for hint, value in slips.items() if isclose(found, value, rel_tol=1e-4))
            n = {"margin": margin, "beta": beta, "loss": loss, "found": found}
            yield say("a pair with the margin {margin:g} and beta {beta} has the loss {loss:.3f}, not {found:.3f}", **n)


PLOTS = [  # the step to keep, the least gain, and the plot: each step with the gains of chosen and rejected poems
    (30, -2, [(0, 0, 0), (10, 2, -3), (20, -3, -8), (30, -2, -16), (40, -4, -25), (50, -3, -30)]),
    (10, 0, [(0, 0, 0), (5, 1, -1), (10, 4, -6), (15, 6, -2), (20, 5, -1)]),
    (0, -0.5, [(0, 0, 0), (8, -1, -4), (16, -5, -12)]),
]


@exercise("the margin alone cannot say that a model forgets; the gain of the chosen poems can.")
def step_to_keep(answer: Answer) -> Iterator[str]:
    """The step with the greatest margin among those at which the gain of the chosen poems is large enough."""
    for expected, least, rows in PLOTS:
        found = number(answer(list(rows), least))
        gains = {step: (chosen, rejected) for step, chosen, rejected in rows}
        if found not in gains:
            yield say("{found:g} is not one of the steps {steps}", found=found, steps=list(gains))
        chosen, rejected = gains[int(found)]
        n = {"step": found, "margin": chosen - rejected, "chosen": chosen, "least": least}
        told = say("at step {step:g} the margin is {margin}, and the gain of the chosen poems {chosen}", **n)
        if chosen < least:
            yield say("{told}: that is less than {least}", told=told, **n)
        if found != expected:
            yield say("{told}: at another step the margin is greater, and that gain at least {least}", told=told, **n)


@exercise()
def own_judge(answer: Answer) -> Iterator[str]:
    """A judge of the learner's own: a model learns from its choices for a moment, and is judged before and after."""

    def judge(request: Request, answers: Sequence[WrittenPoem]) -> list[float]:
        scores = answer(request, answers)
        if len(scores) != len(answers):
            n = {"scores": len(scores), "answers": len(answers)}
            raise Judged("wrong", say("{scores} scores for {answers} answers: give each answer a score", **n))
        return [number(score) for score in scores]

    start = load_checkpoint(paths.INSTRUCTED)
    asked = requests(start.instructions, Random(1).sample(load_poems("train"), 40), plain=1)
    pairs = [pair for pairs in iter_pairs(start, asked, judge, batch_size=64) for pair in pairs[:1]]
    if len(pairs) < 20:
        yield say("only {n} of 40 titles made a pair: you give nearly all poems the same score", n=len(pairs))
    recipe = preference(start, pairs, batch_size=3)
    new = requests(start.instructions, load_poems("test")[:100], plain=1)
    scores, in_form = [], []
    for steps in (0, 20):
        if steps:
            settings = TrainingSettings(steps, learning_rate=3e-4, warmup_steps=2, weight_decay=0.0)
            list(Trainer(recipe, settings, Machine(start.device, torch.float32)))
        poems = list(iter_poems(recipe.checkpoint, [request.given for request in new]))
        scores.append([judge(request, [poem])[0] for request, poem in zip(new, poems, strict=True)])
        in_form.append(sum(poem.reason == "end" and is_well_formed(poem.text) for poem in poems))
    n = {"of": len(new), "m": [mean(each) for each in scores], "well": in_form}
    told = say("{of} new poems had a mean score of {m[0]:.2f}, after 20 steps {m[1]:.2f}.", **n)
    told = sentences(told, say("Well formed were {well[0]}, then {well[1]}.", **n))
    if not rose(*scores):
        doubt = say("Can what you reward be seen in single poems, and do the eight poems on a title differ in it?")
        yield sentences(told, say("This may be chance."), doubt)
    advice = say("Read some of these poems: what else has changed, that your judge did not ask for.")
    raise Judged("right", sentences(told, advice))
