"""The exercises of notebooks 03 and 04: a right answer, two plausible wrong ones, none at all, one that raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from course_lib import checks

Answer = Callable[..., Any]


def grow(embedding: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return torch.cat((embedding, rows))


RIGHT: dict[str, list[Answer]] = {
    "layer_parameters": [lambda size, inner: 4 * size**2 + 3 * size * inner + 2 * size],
    "grown_embedding": [
        lambda old, count: grow(old, old.mean(dim=0).expand(count, -1)),
        lambda old, count: torch.vstack([old, *[old.mean(0, keepdim=True)] * count]),
    ],
    "choices": [lambda loss: 2.718281828**loss],
    "response_loss": [
        lambda losses, labels: losses[:, :-1][labels[:, 1:] != -100].mean(),
        lambda losses, labels: losses[F.pad(labels, (0, 1), value=-100)[:, 1:] != -100].mean().item(),
    ],
    "diluted_loss": [lambda loss, learned, free: loss * learned / (learned + free)],
    "clipped": [
        lambda gradient, largest: gradient * min(1, largest / gradient.norm()),
        lambda gradient, largest: gradient * (largest / gradient.norm()).clamp(max=1),
    ],
}

WRONG: dict[str, list[tuple[Answer, str]]] = {
    "layer_parameters": [
        (lambda size, inner: 4 * size**2 + 3 * size * inner, "norms"),
        (lambda size, inner: 3 * size**2 + 3 * size * inner + 2 * size, "leads out of attention"),
        (lambda size, inner: 4 * size**2 + 2 * size * inner + 2 * size, "gate"),
        (lambda size, inner: 4 * 256**2 + 3 * 256 * 704 + 2 * 256, "hidden size 8"),
        (lambda size, inner: 0, "you gave 0"),
    ],
    "grown_embedding": [
        (lambda old, count: grow(old, torch.zeros(count, 3)), "mean over all old rows"),
        (lambda old, count: grow(old.mean(dim=0).expand(count, -1), old), "before the old ones"),
        (lambda old, count: grow(old, old.mean(dim=0)[None]), "2 rows more"),
        (lambda old, count: grow(old, old.mean().expand(count, 3)), "channel by channel"),
        (lambda old, count: old.mean(dim=0).expand(len(old) + count, -1), "must stay"),
    ],
    "choices": [
        (lambda loss: 2**loss, "bits"),
        (lambda loss: 2.718281828**-loss, "probability"),
        (lambda loss: loss, "fair draw"),
    ],
    "response_loss": [
        (lambda losses, labels: losses[labels != -100].mean(), "whose label decides"),
        (lambda losses, labels: losses.mean(), "prompt and the padding"),
        (lambda losses, labels: (losses[:, :-1] * (labels[:, 1:] != -100)).sum() / losses.numel(), "divide by"),
        (lambda losses, labels: losses.sum(), "which five losses"),
    ],
    "diluted_loss": [
        (lambda loss, learned, free: loss, "over more tokens"),
        (lambda loss, learned, free: (loss + 0) / 2, "mean of two means"),
        (lambda loss, learned, free: loss * free / (learned + free), "you gave"),
    ],
    "clipped": [
        (lambda gradient, largest: gradient.clamp(-largest, largest), "another direction"),
        (lambda gradient, largest: gradient / gradient.norm() * largest, "short already"),
        (lambda gradient, largest: gradient, "clipped to 1"),
    ],
}

EXERCISES = sorted(RIGHT)


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in EXERCISES for answer in RIGHT[name]])
def test_a_right_answer_is_right(name: str, answer: Answer) -> None:
    verdict = getattr(checks, name)(answer)
    assert verdict.state == "right", verdict
    assert verdict.message


@pytest.mark.parametrize(("name", "answer", "hint"), [(name, *wrong) for name in EXERCISES for wrong in WRONG[name]])
def test_a_wrong_answer_gets_the_hint_it_needs(name: str, answer: Answer, hint: str) -> None:
    verdict = getattr(checks, name)(answer)
    assert verdict.state == "wrong", verdict
    assert hint in verdict.message


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("answer", [..., lambda *_: ..., lambda *_: None])
def test_nothing_written_yet(name: str, answer: Any) -> None:
    assert getattr(checks, name)(answer).state == "not attempted"


@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_that_raises_is_told_apart(name: str) -> None:
    def answer(*_: Any) -> Any:
        raise ZeroDivisionError("division by zero")

    verdict = getattr(checks, name)(answer)
    assert verdict.state == "raised"
    assert verdict.message == "ZeroDivisionError: division by zero"


def test_every_exercise_has_two_plausible_wrong_answers() -> None:
    assert RIGHT.keys() == WRONG.keys()
    assert all(len(wrong) >= 2 for wrong in WRONG.values())
