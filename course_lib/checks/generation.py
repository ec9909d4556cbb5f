"""The exercises of notebook 05: how the next character is drawn, when to stop, and what an instruction changes."""

from collections.abc import Iterator

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.checks.verdict import Answer, Judged, exercise, number
from course_lib.language import say
from course_lib.prosody import split_lines


@exercise("the likeliest characters are kept until together they reach top-p, so at least one is always kept.")
def nucleus_size(answer: Answer) -> Iterator[str]:
    """The number of characters that top-p keeps."""
    cases = [
        ([0.5, 0.25, 0.125, 0.125], 0.6, 2),
        ([0.5, 0.25, 0.125, 0.125], 0.5, 1),
        ([0.5, 0.25, 0.125, 0.125], 1.0, 4),
        ([0.75, 0.25], 0.1, 1),
    ]
    for ranked, top_p, expected in cases:
        found = number(answer(ranked.copy(), top_p))
        if found == expected:
            continue
        given = say("you keep {found:g} of {ranked} with top-p {top_p}", found=found, ranked=ranked, top_p=top_p)
        if found == 0:
            yield say("{given}, so nothing is left to draw from; keep the one that passes top-p as well", given=given)
        if found == expected - 1:
            total = sum(ranked[: expected - 1])
            yield say("{given}; their sum is {total}, which does not reach top-p yet", given=given, total=total)
        if found == expected + 1:
            yield say("{given}, but the first {n} reach top-p already", given=given, n=expected)
        yield say("{given}; add them up from the left: after how many is top-p reached?", given=given)


@exercise("reading stops for two reasons, and only the end mark is the model's own decision.")
def read_until(answer: Answer) -> Iterator[str]:
    """The ids before the end mark or the limit, and the reason for stopping."""
    cases = [
        ([7, 8, 9, 2, 5, 5], 10, ([7, 8, 9], "end")),
        ([7, 8, 9, 7, 8, 9], 4, ([7, 8, 9, 7], "length")),
        ([2, 7], 3, ([], "end")),
        ([7, 8, 2], 3, ([7, 8], "end")),
        ([7, 8, 2], 2, ([7, 8], "length")),
    ]
    for tokens, limit, (kept, reason) in cases:
        source = iter(tokens)
        ids, found_reason = answer(source, 2, limit)
        drawn = len(tokens) - len(list(source))
        given = say("for the tokens {tokens}, the end mark 2 and a limit of {limit}", tokens=tokens, limit=limit)
        if ids == [*kept, 2] and reason == "end":
            yield say("{given} you kept the end mark; it is a signal, and not a part of the poem", given=given)
        if ids != kept:
            yield say("{given} the poem is {kept}; you returned {found}", given=given, kept=kept, found=ids)
        if found_reason != reason:
            reasons = {"reason": reason, "found": found_reason}
            yield say("{given} the reason is {reason!r}; you returned {found!r}", given=given, **reasons)
        if drawn > len(kept) + (reason == "end"):
            yield say("{given} you drew {n} tokens; stop drawing when there are enough", given=given, n=drawn)


@exercise()
def quatrains(answer: Answer) -> Iterator[str]:
    """Eight poems under an instruction of one's own, and how many of them have four lines of the length it asks for."""
    checkpoint = load_checkpoint(paths.FINETUNED)
    told, seen = [], []
    for wording, size in (("請用以下題目寫一首七言絕句", 7), ("請用以下題目寫一首五言絕句", 5)):
        poems, counted = answer(checkpoint, wording, size)
        texts = ["".join(getattr(poem, "text", poem)) for poem in poems]
        obeyed = sum([len(line) for line in split_lines(text)] == [size] * 4 for text in texts)
        n = {"obeyed": obeyed, "size": size, "counted": counted, "wording": wording}
        n |= {"texts": len(texts), "different": len(set(texts))}
        if len(texts) != 8 or len(set(texts)) < 6:
            yield say("write eight poems, each with its own seed; {different} of your {texts} are different", **n)
        if texts in seen:
            yield say("the poems are the same under both instructions; does the wording reach the model?")
        if number(counted) != obeyed:
            yield say("{obeyed} of your eight poems have four lines of {size} characters; you counted {counted}", **n)
        if not obeyed:
            yield say("none of your eight poems has four lines of {size} characters; is the prompt {wording}?", **n)
        seen.append(texts)
        told.append(say("{obeyed} of 8 under {wording}", **n))
    raise Judged("right", say("{told}. The model was taught neither sentence.", told=say(", ").join(told)))
