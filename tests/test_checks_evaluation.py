"""The exercises of notebook 06: for each a right answer, plausible wrong ones, none, and one that raises."""

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from course_lib import checks

Groups = dict[str, set[str]]


def rhyming(words: list[str], groups: Groups) -> bool:
    shared = set.intersection(*(groups[word] for word in words))
    return len(words) > 1 and bool(shared) and len(set(words)) == len(words)


def with_the_next(words: list[str], groups: Groups) -> bool:
    pairs = list(pairwise(words))
    return bool(pairs) and len(set(words)) == len(words) and all(groups[a] & groups[b] for a, b in pairs)


def same_groups(words: list[str], groups: Groups) -> bool:
    return len(words) > 1 and len(set(words)) == len(words) and all(groups[w] == groups[words[0]] for w in words)


def echo_allowed(words: list[str], groups: Groups) -> bool:
    return len(words) > 1 and bool(set.intersection(*(groups[word] for word in words)))


def one_is_enough(words: list[str], groups: Groups) -> bool:
    return bool(set.intersection(*(groups[word] for word in words))) and len(set(words)) == len(words)


def none_in_common(words: list[str], groups: Groups) -> bool:
    """Takes two words without a group for words that rhyme, since what they have is the same."""
    return rhyming(words, groups) or (len(words) > 1 and not any(groups[word] for word in words))


def longest_run(text: str, other: str) -> int:
    runs = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    return max((len(run) for run in runs if run in other), default=0)


def with_gaps(text: str, other: str) -> int:
    """The longest common subsequence, which is another thing."""
    best = [[0] * (len(other) + 1) for _ in range(len(text) + 1)]
    for i, a in enumerate(text):
        for j, b in enumerate(other):
            best[i + 1][j + 1] = best[i][j] + 1 if a == b else max(best[i][j + 1], best[i + 1][j])
    return best[-1][-1]


def at_the_same_place(text: str, other: str) -> int:
    longest = run = 0
    for a, b in zip(text, other, strict=False):
        run = run + 1 if a == b else 0
        longest = max(longest, run)
    return longest


def does_not_look_back(text: str, other: str) -> int:
    """Takes the first place that fits, and never another."""
    longest = at = 0
    while at < len(text):
        length = 0
        while at + length < len(text) and text[at : at + length + 1] in other:
            length += 1
        longest, at = max(longest, length), at + length + 1
    return longest


def interval(means: Sequence[float]) -> tuple[float, float]:
    ranked = sorted(means)
    return ranked[round(0.025 * len(ranked))], ranked[round(0.975 * len(ranked)) - 1]


def ten_percent_outside(means: Sequence[float]) -> tuple[float, float]:
    ranked = sorted(means)
    return ranked[round(0.05 * len(ranked))], ranked[round(0.95 * len(ranked)) - 1]


def not_sorted(means: Sequence[float]) -> tuple[float, float]:
    low, high = means[round(0.025 * len(means))], means[round(0.975 * len(means)) - 1]
    return min(low, high), max(low, high)


def two_deviations(means: Sequence[float]) -> tuple[float, float]:
    """Right for a bell, wrong for these."""
    middle, deviation = statistics.mean(means), statistics.stdev(means)
    return middle - 1.96 * deviation, middle + 1.96 * deviation


RIGHT = [(checks.rhyming, rhyming), (checks.longest_run, longest_run), (checks.interval, interval)]
WRONG = [
    (checks.rhyming, with_the_next, "花涯柴"),
    (checks.rhyming, same_groups, "one that it shares with all others"),
    (checks.rhyming, echo_allowed, "comes twice"),
    (checks.rhyming, one_is_enough, "a single word"),
    (checks.rhyming, none_in_common, "no rhyme"),
    (checks.rhyming, lambda words, groups: bool(groups[words[0]] & groups[words[1]]), "聲明光"),
    (checks.rhyming, lambda words, groups: True, "聲光"),
    (checks.rhyming, lambda words, groups: False, "聲明"),
    (checks.longest_run, with_gaps, "no run"),
    (checks.longest_run, at_the_same_place, "another place"),
    (checks.longest_run, does_not_look_back, "begins later"),
    (checks.longest_run, lambda text, other: len(set(text) & set(other)), "another order"),
    (checks.longest_run, lambda text, other: text in other, "you say True"),
    (checks.interval, ten_percent_outside, "leaves 10 % outside"),
    (checks.interval, lambda means: (min(means), max(means)), "nothing at all lies outside"),
    (checks.interval, lambda means: (min(means), interval(means)[1]), "0.0% of the means lie below"),
    (checks.interval, lambda means: (interval(means)[0], max(means)), "0.0% above"),
    (checks.interval, not_sorted, "Did you sort them?"),
    (checks.interval, two_deviations, "left over at each end"),
    (checks.interval, lambda means: interval(means)[::-1], "low end comes first"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_a_right_answer(check: Callable[[Any], checks.Verdict], answer: Any) -> None:
    assert check(answer).state == "right"


@pytest.mark.parametrize(("check", "answer", "hint"), WRONG)
def test_a_wrong_answer(check: Callable[[Any], checks.Verdict], answer: Any, hint: str) -> None:
    verdict = check(answer)
    assert verdict.state == "wrong"
    assert hint in verdict.message


def test_numpys_percentiles_are_right_too() -> None:
    assert checks.interval(lambda means: np.percentile(means, [2.5, 97.5])).state == "right"


@pytest.mark.parametrize("check", [check for check, _ in RIGHT])
def test_no_answer_and_one_that_raises(check: Callable[[Any], checks.Verdict]) -> None:
    assert check(...).state == "not attempted"
    assert check(lambda *_: ...).state == "not attempted"
    assert check(lambda *_: 1 / 0).state == "raised"
