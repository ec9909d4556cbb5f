"""The exercises of notebook 7: what an instruction asks for, what a model still reads, a row of your own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import torch

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.checks.verdict import Answer, Judged, described, exercise
from course_lib.engine.machine import Machine
from course_lib.evaluation.metrics import bootstrap_mean
from course_lib.generation import iter_poems
from course_lib.instructions import POEM, Exchange, Instruction
from course_lib.language import say, sentences
from course_lib.poems import load_poems
from course_lib.recipes import conversing
from course_lib.roles import opening
from course_lib.tasks import MANY
from course_lib.training import Trainer, TrainingSettings

ACROSTICS = {
    "right": ("春眠不覺曉，夏木自陰陰。", "春夏", True),
    "one character in each line, in order": ("春眠不覺曉，木自夏陰陰。", "春夏", False),
    "each line has its own": ("夏木自陰陰，春眠不覺曉。", "春夏", False),
    "no line is left over": ("春眠不覺曉，夏木自陰陰。\n處處聞啼鳥，花落知多少。", "春夏", False),
    "no character is left over": ("春眠不覺曉，夏木自陰陰。", "春夏秋冬", False),
    "a new row does not matter": ("春眠不覺曉，夏木自陰陰。\n秋風動千里，冬雪滿青山。", "春夏秋冬", True),
}


@exercise("the first characters of all lines, in order, are the ones that were asked for: no more, and no fewer.")
def is_acrostic(answer: Answer) -> Iterator[str]:
    """Whether the lines of a poem begin with the characters of a word."""
    for hint, (text, word, expected) in ACROSTICS.items():
        if bool(answer(text, word)) != expected:
            case = {"word": word, "text": text.replace("\n", " "), "expected": expected, "hint": say(hint)}
            yield say("for {word} and {text} the answer is {expected}: {hint}", **case)


@exercise("the oldest answers go, each with the request after it, and the title stays.")
def kept_messages(answer: Answer) -> Iterator[str]:
    """The numbers of the messages that a model with little room still reads."""
    cases = [([5, 2, 20, 4, 20, 4], 55, [0, 1, 2, 3, 4, 5]), ([5, 2, 20, 4, 20, 4], 31, [0, 1, 4, 5])]
    cases += [([5, 2, 20, 4, 20, 4, 20, 4], 40, [0, 1, 6, 7]), ([5, 2, 9, 4, 30, 4], 45, [0, 1, 4, 5])]
    cases += [([5, 2, 9, 4, 30, 4, 9, 4], 45, [0, 1, 6, 7])]
    for lengths, room, expected in cases:
        kept = answer(list(lengths), room)
        if kept == expected:
            continue
        case = {"lengths": lengths, "room": room, "kept": kept}
        given = say("for messages of {lengths} tokens and room for {room} you keep {kept}", **case)
        if 0 not in kept or 1 not in kept:
            yield say("{given}; the system's line (0) and the first request (1) always stay", given=given)
        if (total := sum(lengths[i] for i in kept)) > room:
            yield say("{given}, which have {total} tokens", given=given, total=total)
        if any((i in kept) != (i + 1 in kept) for i in range(2, len(lengths), 2)):
            yield say("{given}; an answer (2, 4, …) goes together with the request after it", given=given)
        yield say("{given}; the oldest answer goes first, and only as many as necessary", given=given)


def rose(before: Sequence[float], after: Sequence[float]) -> bool:
    """Whether the mean of the differences, title by title, is above 0 with its whole interval (notebook 6)."""
    rise = bootstrap_mean([b - a for a, b in zip(before, after, strict=True)])
    return bool(rise and rise.interval and rise.interval[0] > 0)


@exercise()
def own_row(answer: Answer) -> Iterator[str]:
    """A row of the learner's own: a model is trained on it for a moment, and asked before and after."""
    row = answer()
    if not isinstance(row, Instruction):
        yield say("return an `Instruction`; you returned {row!r:.60}", row=row)
    if len(set(row.wordings)) < 2 or set(row.wordings) & {wording for each in MANY for wording in each.wordings}:
        yield say("give it at least two wordings of its own; the last is not trained")
    poems = load_poems("train")
    try:
        fitting = [poem for poem in poems[:8000] if len(poem.lines) <= 8 and row.can_use(poem)][:200]
        others = [poem for poem in poems[:2000] if len(poem.lines) <= 8 and not row.can_use(poem)][:100]
    except Exception as error:  # of the learner's rule
        raise Judged("raised", described(error)) from None
    if len(fitting) < 100 or len(others) < 100:
        some = {"fit": len(fitting), "others": len(others)}
        yield say("{fit} poems fit, {others} do not: choose something that many poems have, and many lack", **some)
    draw = Random(0)
    talks = [opening(draw.choice(row.taught_wordings), row.exchange(poem, draw)) for poem in fitting]
    talks += [opening(POEM.wording, Exchange(poem.title, poem.text)) for poem in others]
    start = load_checkpoint(paths.INSTRUCTED)
    recipe = conversing(start, talks, instructions=(*MANY, row), batch_size=4)
    titles = [poem.title for poem in load_poems("validation")[:60]]
    last = replace(row, wordings=row.wordings[-1:])
    obeyed = []
    for steps in (0, 40):
        if steps:
            settings = TrainingSettings(steps, learning_rate=1e-3, warmup_steps=2)
            list(Trainer(recipe, settings, Machine(start.device, torch.float32)))
        texts = [poem.text for poem in iter_poems(recipe.checkpoint, titles, instruction=last)]
        obeyed.append([bool(row.obeyed(Exchange(title, text))) for title, text in zip(titles, texts, strict=True)])
    n = {"of": len(titles), "n": [sum(each) for each in obeyed]}
    told = say("it obeyed {n[0]} of {of} times before, and {n[1]} after 40 steps, in your last wording.", **n)
    if not rose(*obeyed):
        doubt = say("This may be chance. Can the answer be seen in a poem at all, and does your rule find it?")
        yield sentences(told, doubt)
    both = {"asked": last.wording, "found": texts[obeyed[1].index(True)].replace("\n", "")}
    raise Judged("right", sentences(told, say("Asked: 「{asked}」. Found: 「{found}」. Do both say the same?", **both)))
