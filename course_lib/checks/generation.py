"""The exercises of notebook 05: how the next character is drawn, and when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, isclose
from typing import Any

from course_lib.checks.verdict import call, exercise


@exercise("a temperature below 1 spreads the scores out, so the likeliest character becomes still likelier.")
def sharpened(function: Any) -> str | None:
    """Scores as probabilities at a temperature."""
    for logits, temperature in (([2.0, 1.0, 0.0], 0.5), ([0.0, 3.0], 2.0), ([1.0, 1.0, -1.0, 0.5], 1.0)):
        found = [float(p) for p in call(function, list(logits), temperature)]
        if len(found) != len(logits):
            return f"{len(logits)} scores give {len(logits)} probabilities; you returned {len(found)}"
        if abs(sum(found) - 1) > 1e-4:
            return f"probabilities sum to 1, yours to {sum(found):.3f}; which comes first, the division or the softmax?"
        if _close(found, _softmax(logits, temperature)):
            continue
        if _close(found, _softmax(logits, 1 / temperature)):
            return "a low temperature must make the likeliest character likelier; yours does the opposite"
        if _close(found, _softmax(logits, 1.0)):
            return "your probabilities are the same at every temperature"
        return f"for the scores {logits} at temperature {temperature} you returned {[round(p, 3) for p in found]}"
    return None


def _softmax(logits: list[float], temperature: float) -> list[float]:
    weights = [exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _close(found: list[float], expected: list[float]) -> bool:
    return all(isclose(f, e, abs_tol=1e-4) for f, e in zip(found, expected, strict=True))


@exercise("the likeliest characters are kept until together they reach top-p, so at least one is always kept.")
def nucleus_size(function: Any) -> str | None:
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
            return f"{given}, so nothing is left to draw from; keep the one that passes top-p as well"
        if found == expected - 1:
            return f"{given}; their sum is {sum(ranked[:found])}, which does not reach top-p yet"
        if found == expected + 1:
            return f"{given}, but the first {expected} reach top-p already"
        return f"{given}; add them up from the left: after how many is top-p reached?"
    return None


@exercise("reading stops for two reasons, and only the end mark is the model's own decision.")
def read_until(function: Any) -> str | None:
    """The ids before the end mark or the limit, and the reason for stopping."""
    cases = [
        ([7, 8, 9, 2, 5, 5], 10, ([7, 8, 9], "end")),
        ([7, 8, 9, 7, 8, 9], 4, ([7, 8, 9, 7], "length")),
        ([2, 7], 3, ([], "end")),
        ([7, 8, 2], 3, ([7, 8], "end")),
    ]
    for tokens, limit, (kept, reason) in cases:
        drawn: list[int] = []
        ids, found_reason = call(function, _drawing(tokens, drawn), 2, limit)
        given = f"for the tokens {tokens}, the end mark 2 and a limit of {limit}"
        if list(ids) == [*kept, 2] and reason == "end":
            return f"{given} you kept the end mark; it is a signal to the reader, not a part of the poem"
        if list(ids) != kept:
            return f"{given} the poem is {kept}; you returned {list(ids)}"
        if found_reason != reason:
            return f"{given} the reason is {reason!r}; you returned {found_reason!r}"
        if len(drawn) > limit:
            return f"{given} you drew {len(drawn)} tokens; stop drawing when there are enough"
    return None


def _drawing(tokens: list[int], drawn: list[int]) -> Iterator[int]:
    for token in tokens:
        drawn.append(token)
        yield token
