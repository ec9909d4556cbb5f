"""The exercises of notebook 05: for each a right answer, plausible wrong ones, none, and one that raises."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from course_lib import checks


def sharpened(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def divided_after(logits: list[float], temperature: float) -> list[float]:
    return [p / temperature for p in sharpened(logits, 1)]


def nucleus_size(ranked: list[float], top_p: float) -> int:
    together = 0.0
    for size, p in enumerate(ranked, start=1):
        together += p
        if together >= top_p:
            return size
    return len(ranked)


def below(ranked: list[float], top_p: float) -> int:
    return sum(sum(ranked[: i + 1]) <= top_p for i in range(len(ranked)))


def one_more(ranked: list[float], top_p: float) -> int:
    return sum(sum(ranked[:i]) <= top_p for i in range(len(ranked)))


def read_until(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids: list[int] = []
    for token in tokens:
        if token == end_id:
            return ids, "end"
        ids.append(token)
        if len(ids) == limit:
            break
    return ids, "length"


def end_mark_kept(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    ids, reason = read_until(tokens, end_id, limit)
    return ([*ids, end_id], reason) if reason == "end" else (ids, reason)


def always_end(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    return read_until(tokens, end_id, limit)[0], "end"


def all_drawn_first(tokens: Iterable[int], end_id: int, limit: int) -> tuple[list[int], str]:
    return read_until(list(tokens), end_id, limit)


RIGHT = [(checks.sharpened, sharpened), (checks.nucleus_size, nucleus_size), (checks.read_until, read_until)]
WRONG = [
    (checks.sharpened, divided_after, "sum to 1"),
    (checks.sharpened, lambda logits, t: sharpened([x * t for x in logits], 1), "does the opposite"),
    (checks.sharpened, lambda logits, t: sharpened(logits, 1), "same at every temperature"),
    (checks.sharpened, lambda logits, t: sharpened([x - t for x in logits], 1), "same at every temperature"),
    (checks.sharpened, lambda logits, t: sharpened([x / (t + 0.1) for x in logits], 1), "you gave"),
    (checks.sharpened, lambda logits, t: sharpened(logits, t)[:1], "3 probabilities"),
    (checks.nucleus_size, below, "not reached yet"),
    (checks.nucleus_size, one_more, "had reached top-p already"),
    (checks.nucleus_size, lambda ranked, top_p: sum(p > top_p for p in ranked), "nothing to draw from"),
    (checks.nucleus_size, lambda ranked, top_p: 4, "add them up"),
    (checks.read_until, end_mark_kept, "you kept the end mark"),
    (checks.read_until, always_end, "the reason is 'length'"),
    (checks.read_until, all_drawn_first, "you drew 6 tokens"),
    (checks.read_until, lambda tokens, end, limit: ([t for t in tokens if t != end], "end"), "the poem is"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_a_right_answer(check: Callable[[Any], checks.Verdict], answer: Any) -> None:
    assert check(answer).state == "right"


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer(check: Callable[[Any], checks.Verdict], answer: Any, hint: str) -> None:
    verdict = check(answer)
    assert verdict.state == "wrong"
    assert hint in verdict.message


@pytest.mark.parametrize("check", [check for check, _ in RIGHT])
def test_no_answer_and_one_that_raises(check: Callable[[Any], checks.Verdict]) -> None:
    assert check(...).state == "not attempted"
    assert check(lambda *_: ...).state == "not attempted"
    assert check(lambda *_: 1 / 0).state == "raised"
