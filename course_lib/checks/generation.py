"""The exercises of notebook 05: how the next character is drawn, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from course_lib.checks.verdict import call, exercise


@exercise
def sharpened(function: Any) -> str | None:
    """dividing the scores by a temperature below 1 spreads them out, so the likeliest gains still more."""
    for logits, temperature in (([2.0, 1.0, 0.0], 0.5), ([0.0, 3.0], 2.0), ([1.0, 1.0, -1.0, 0.5], 1.0)):
        found = [float(p) for p in call(function, list(logits), temperature)]
        if len(found) != len(logits):
            return f"{len(logits)} scores give {len(logits)} probabilities; yours are {len(found)}"
        if abs(sum(found) - 1) > 1e-4:
            return f"probabilities sum to 1; yours to {sum(found):.3f}. Which comes first, division or softmax?"
        if _close(found, _softmax(logits, temperature)):
            continue
        if _close(found, _softmax(logits, 1 / temperature)):
            return "a low temperature is to make the likeliest character likelier; yours does the opposite"
        if _close(found, _softmax(logits, 1.0)):
            return "your probabilities are the same at every temperature"
        return f"for the scores {logits} at temperature {temperature} you gave {[round(p, 3) for p in found]}"
    return None


def _softmax(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _close(found: list[float], expected: list[float]) -> bool:
    return all(math.isclose(f, e, abs_tol=1e-4) for f, e in zip(found, expected, strict=True))


@exercise
def nucleus_size(function: Any) -> str | None:
    """the likeliest are kept until together they reach top-p, so one is always kept."""
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
        given = f"of {ranked} with top-p {top_p} you keep {found}"
        if found == 0:
            return f"{given}: then there is nothing to draw from. The one that passes top-p is kept as well"
        if found == expected - 1:
            return f"{given}, which is {sum(ranked[:found])} in all: top-p is not reached yet"
        if found == expected + 1:
            return f"{given}, but {expected} had reached top-p already"
        return f"{given}: add them up from the left; after how many is top-p reached?"
    return None


@exercise
def read_until(function: Any) -> str | None:
    """whoever reads a model has two ways out, and only the first is the model's own."""
    cases = [
        ([7, 8, 9, 2, 5, 5], 10, ([7, 8, 9], "end")),
        ([7, 8, 9, 7, 8, 9], 4, ([7, 8, 9, 7], "length")),
        ([2, 7], 3, ([], "end")),
        ([7, 8, 2], 3, ([7, 8], "end")),
    ]
    for tokens, limit, (kept, reason) in cases:
        drawn: list[int] = []
        ids, why = call(function, _drawing(tokens, drawn), 2, limit)
        given = f"for the tokens {tokens}, the end mark 2 and a limit of {limit}"
        if list(ids) == [*kept, 2] and reason == "end":
            return f"{given} you kept the end mark; it is a signal to the reader, not a part of the poem"
        if list(ids) != kept:
            return f"{given} the poem is {kept}; yours is {list(ids)}"
        if why != reason:
            return f"{given} the reason is {reason!r}; you say {why!r}"
        if len(drawn) > limit:
            return f"{given} you drew {len(drawn)} tokens: stop drawing when there are enough"
    return None


def _drawing(tokens: list[int], drawn: list[int]) -> Iterator[int]:
    for token in tokens:
        drawn.append(token)
        yield token
