"""The exercises of notebook 05: how the next character is drawn, and when to stop."""

from collections.abc import Iterator
from typing import Any

import torch

from course_lib.checks.verdict import call, exercise


@exercise("a temperature below 1 spreads the scores out, so the likeliest character becomes still likelier.")
def sharpened(function: Any) -> Iterator[str]:
    """Scores as probabilities at a temperature."""
    for logits, temperature in (([2.0, 1.0, 0.0], 0.5), ([0.0, 3.0], 2.0), ([1.0, 1.0, -1.0, 0.5], 1.0)):
        found = [float(p) for p in call(function, list(logits), temperature)]
        if len(found) != len(logits):
            yield f"{len(logits)} scores give {len(logits)} probabilities; you returned {len(found)}"
        if abs(sum(found) - 1) > 1e-4:
            yield f"probabilities sum to 1, yours to {sum(found):.3f}; which comes first, the division or the softmax?"
        scores, given = torch.tensor(logits), torch.tensor(found)
        if torch.allclose(given, (scores / temperature).softmax(0), atol=1e-4):
            continue
        if torch.allclose(given, (scores * temperature).softmax(0), atol=1e-4):
            yield "a low temperature must make the likeliest character likelier; yours does the opposite"
        if torch.allclose(given, scores.softmax(0), atol=1e-4):
            yield "your probabilities are the same at every temperature"
        yield f"for the scores {logits} at temperature {temperature} you returned {[round(p, 3) for p in found]}"


@exercise("the likeliest characters are kept until together they reach top-p, so at least one is always kept.")
def nucleus_size(function: Any) -> Iterator[str]:
    """The number of characters that top-p keeps."""
    cases = [
        ([0.5, 0.25, 0.125, 0.125], 0.6, 2),
        ([0.5, 0.25, 0.125, 0.125], 0.5, 1),
        ([0.5, 0.25, 0.125, 0.125], 1.0, 4),
        ([0.75, 0.25], 0.1, 1),
    ]
    for ranked, top_p, expected in cases:
        found = int(call(function, list(ranked), top_p))
        if found == expected:
            continue
        given = f"you keep {found} of {ranked} with top-p {top_p}"
        if found == 0:
            yield f"{given}, so nothing is left to draw from; keep the one that passes top-p as well"
        if found == expected - 1:
            yield f"{given}; their sum is {sum(ranked[:found])}, which does not reach top-p yet"
        if found == expected + 1:
            yield f"{given}, but the first {expected} reach top-p already"
        yield f"{given}; add them up from the left: after how many is top-p reached?"


@exercise("reading stops for two reasons, and only the end mark is the model's own decision.")
def read_until(function: Any) -> Iterator[str]:
    """The ids before the end mark or the limit, and the reason for stopping."""
    cases = [
        ([7, 8, 9, 2, 5, 5], 10, ([7, 8, 9], "end")),
        ([7, 8, 9, 7, 8, 9], 4, ([7, 8, 9, 7], "length")),
        ([2, 7], 3, ([], "end")),
        ([7, 8, 2], 3, ([7, 8], "end")),
    ]
    for tokens, limit, (kept, reason) in cases:
        source = iter(tokens)
        ids, found_reason = call(function, source, 2, limit)
        drawn = len(tokens) - len(list(source))
        given = f"for the tokens {tokens}, the end mark 2 and a limit of {limit}"
        if list(ids) == [*kept, 2] and reason == "end":
            yield f"{given} you kept the end mark; it is a signal to the reader, not a part of the poem"
        if list(ids) != kept:
            yield f"{given} the poem is {kept}; you returned {list(ids)}"
        if found_reason != reason:
            yield f"{given} the reason is {reason!r}; you returned {found_reason!r}"
        if drawn > limit:
            yield f"{given} you drew {drawn} tokens; stop drawing when there are enough"
