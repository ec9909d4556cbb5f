"""The exercises of notebook 05: how the next character is drawn, when to stop, and what an instruction changes."""

from collections.abc import Iterator

from course_lib import paths
from course_lib.checkpoints import load_checkpoint
from course_lib.checks.verdict import Answer, Judged, exercise, number
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
        given = f"you keep {found:g} of {ranked} with top-p {top_p}"
        if found == 0:
            yield f"{given}, so nothing is left to draw from; keep the one that passes top-p as well"
        if found == expected - 1:
            yield f"{given}; their sum is {sum(ranked[: expected - 1])}, which does not reach top-p yet"
        if found == expected + 1:
            yield f"{given}, but the first {expected} reach top-p already"
        yield f"{given}; add them up from the left: after how many is top-p reached?"


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
        given = f"for the tokens {tokens}, the end mark 2 and a limit of {limit}"
        if ids == [*kept, 2] and reason == "end":
            yield f"{given} you kept the end mark; it is a signal to the reader, not a part of the poem"
        if ids != kept:
            yield f"{given} the poem is {kept}; you returned {ids}"
        if found_reason != reason:
            yield f"{given} the reason is {reason!r}; you returned {found_reason!r}"
        if drawn > len(kept) + (reason == "end"):
            yield f"{given} you drew {drawn} tokens; stop drawing when there are enough"


@exercise()
def quatrains(answer: Answer) -> Iterator[str]:
    """Eight poems under an instruction of one's own, and how many of them have four lines of the length it asks for."""
    checkpoint = load_checkpoint(paths.FINETUNED)
    told, seen = [], []
    for wording, size in (("請用以下題目寫一首七言絕句", 7), ("請用以下題目寫一首五言絕句", 5)):
        poems, counted = answer(checkpoint, wording, size)
        texts = ["".join(getattr(poem, "text", poem)) for poem in poems]
        obeyed = sum([len(line) for line in split_lines(text)] == [size] * 4 for text in texts)
        if len(texts) != 8 or len(set(texts)) < 6:
            yield f"write eight poems, each with its own seed; {len(set(texts))} of your {len(texts)} are different"
        if texts in seen:
            yield "the poems are the same under both instructions; does the wording reach the model?"
        if number(counted) != obeyed:
            yield f"{obeyed} of your eight poems have four lines of {size} characters; you counted {counted}"
        if not obeyed:
            yield f"none of your eight poems has four lines of {size} characters; is the prompt {wording}?"
        seen.append(texts)
        told.append(f"{obeyed} of 8 under {wording}")
    raise Judged("right", f"{', '.join(told)}. The model was taught neither sentence.")
