"""Estimates, their intervals, and their tables."""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from course_lib.evaluation.metrics import (
    METRICS,
    Estimate,
    Evaluation,
    bootstrap_mean,
    table_rows,
    text_table,
    without_none,
)


def estimate(numerators: Sequence[float], denominators: Sequence[float] | None = None) -> Estimate:
    """The bootstrap's estimate, where there is one."""
    found = bootstrap_mean(numerators, denominators)
    assert found
    return found


# --- intervals ------------------------------------------------------------------------------------


def test_an_estimate_is_the_ratio_of_two_sums() -> None:
    assert estimate([1, 0, 1, 1]).value == 0.75
    assert estimate([3, 1], [4, 8]).value == 1 / 3
    assert estimate([True] * 5) == Estimate(1.0, (1.0, 1.0))


def test_a_mean_of_nothing_is_none_and_can_be_left_out() -> None:
    assert bootstrap_mean([2, 3], [0, 0]) is None
    assert bootstrap_mean([]) is None
    assert without_none({"a": Estimate(0.0), "b": None}) == {"a": Estimate(0.0)}


def test_intervals_are_as_wide_as_theory_says() -> None:
    """A share p of n: p ± 1.96 √(p(1-p)/n)."""
    found = estimate([1] * 120 + [0] * 280)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert found.interval == pytest.approx((0.3 - half, 0.3 + half), abs=0.006)
    assert estimate([1] * 120 + [0] * 280) == found


def test_nine_of_ten_intervals_hold_the_true_mean() -> None:
    """Means of 60 numbers, drawn 200 times; at 95 %, fewer than 180 hits would come once in some thousand tries."""
    draw = random.Random(0)
    held = 0
    for _ in range(200):
        interval = estimate([draw.gauss(5, 2) for _ in range(60)]).interval
        assert interval
        held += interval[0] < 5 < interval[1]
    assert 180 <= held < 200


def test_long_poems_count_for_more_and_samples_without_a_line_are_skipped() -> None:
    found = estimate([0, 9], [1, 9])
    assert found.value == 0.9
    assert found.interval == (0.0, 1.0)
    assert estimate([0, 5], [0, 5]).value == 1


# --- tables ---------------------------------------------------------------------------------------

TWO = {
    "one": Evaluation({"ended": Estimate(0.5, (0.25, 0.75)), "response_loss": Estimate(3.81234)}, 4),
    "two": Evaluation({"ended": Estimate(1.0), "rhymes": Estimate(0.25), "longest_run": Estimate(3.456, (3, 4))}, 4),
}


def test_a_table_has_every_estimate_in_its_column() -> None:
    head, *rows = text_table(TWO).splitlines()
    places = [head.index("one"), head.index("two")]
    cells = [[row[a:b].strip() for a, b in pairwise([0, *places, None])] for row in rows]
    assert [" ".join(label.split()) for label, *_ in cells] == [
        "Follows ends by itself (%)",
        "Sounds rhymes (%)",
        "Own work longest shared run (characters)",
        "Loss response (nats/char.)",
    ]
    assert [one for _, one, _ in cells] == ["50 [25, 75]", "", "", "3.812"]
    assert [two for _, _, two in cells] == ["100", "25", "3.46 [3.00, 4.00]", ""]


def test_a_question_is_named_once_above_all_its_metrics() -> None:
    every = {"all": Evaluation(dict.fromkeys(METRICS, Estimate(0.5)), 1)}
    rows = table_rows(every)
    assert len(rows) == len(METRICS)
    assert [question for question, *_ in rows if question] == ["Follows", "Sounds", "Listens", "Own work", "Loss"]
    assert [label for _, label, _ in rows] == [f"{label} ({unit})" for label, unit, _ in METRICS.values()]
    assert table_rows(every, "Listens") == rows[10:12]
    assert table_rows(every, "Beauty") == []


def test_an_evaluation_as_a_dict_has_every_metric_and_rounds() -> None:
    found = TWO["two"].as_dict()
    assert found.keys() == {"titles", "poems", "intervals", *METRICS}
    assert (found["titles"], found["ended"], found["longest_run"], found["obeys"]) == (4, 1.0, 3.456, None)
    assert found["intervals"] == {"longest_run": [3, 4]}
    assert Evaluation({"ended": Estimate(1 / 3)}, 3).as_dict()["ended"] == 0.3333


def test_the_table_of_one_evaluation_names_no_column() -> None:
    assert TWO["one"].table().splitlines()[0].split() == [
        "Follows",
        "ends",
        "by",
        "itself",
        "(%)",
        "50",
        "[25,",
        "75]",
    ]
