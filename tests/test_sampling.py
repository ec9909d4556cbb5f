"""What is drawn from, that it is drawn from exactly that, and where the random numbers come from."""

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.sampling import (
    GenerationSettings,
    Integers,
    Repetition,
    Words,
    absorb,
    draw,
    exponential,
    next_token_probabilities,
    text_key,
)

NOISE = Path(__file__).with_name("noise.json")


def words(*numbers: int) -> Words:
    return np.array(numbers, dtype=np.uint32)


# --- what is drawn from ---------------------------------------------------------------------------


def probabilities(**settings: Any) -> list[float]:
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).log()
    return next_token_probabilities(logits, GenerationSettings(**settings))[0].tolist()


def test_temperature_sharpens_and_flattens() -> None:
    assert probabilities(temperature=1, top_p=1) == pytest.approx([0.4, 0.1, 0.3, 0.2])
    squares = [0.16, 0.01, 0.09, 0.04]
    assert probabilities(temperature=0.5, top_p=1) == pytest.approx([s / 0.3 for s in squares])
    assert probabilities(temperature=0, top_p=1) == [1, 0, 0, 0]


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    assert probabilities(temperature=1, top_p=0.6) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=0.75) == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9])
    assert probabilities(temperature=1, top_p=0.01) == [1, 0, 0, 0]


def test_top_k_keeps_that_many() -> None:
    assert probabilities(temperature=1, top_p=1, top_k=2) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=1, top_k=9) == pytest.approx([0.4, 0.1, 0.3, 0.2])


def test_min_p_keeps_what_has_that_share_of_the_likeliest() -> None:
    assert probabilities(temperature=1, top_p=1, min_p=0.7) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=1, min_p=0.3) == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9])
    assert probabilities(temperature=1, top_p=1, min_p=1) == [1, 0, 0, 0]


# --- that it is drawn from exactly that -----------------------------------------------------------

LIMITS = [
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 0.5, "top_p": 1.0},
    {"temperature": 2.0, "top_p": 0.7},
    {"temperature": 1.0, "top_p": 0.02},
    {"temperature": 1.0, "top_p": 1.0, "top_k": 3},
    {"temperature": 1.0, "top_p": 0.9, "top_k": 7},
    {"temperature": 1.0, "top_p": 1.0, "min_p": 0.02},
]


def draw_often(logits: torch.Tensor, count: int, settings: GenerationSettings, texts: int = 1) -> Integers:
    """`count` draws from one row of logits, spread over so many texts, a thousand at a time."""
    keys = np.concatenate([text_key(settings.seed, 0, [number]) for number in range(texts)])
    drawn = []
    for first in range(0, count, 1000):
        steps = np.arange(first, first + 1000, dtype=np.uint32)
        drawn.append(draw(logits.numpy().repeat(1000, 0), absorb(keys[steps % texts], steps // texts), settings))
    return np.concatenate(drawn)


def assert_drawn_from(expected: torch.Tensor, tokens: Integers) -> None:
    """A chi-squared test; tokens that are expected less than five times are counted together."""
    drawn = torch.from_numpy(tokens).bincount(minlength=len(expected))
    assert not drawn[expected == 0].any()
    rare = expected < 5
    found, wanted = (torch.cat((part[~rare], part[rare].sum(0, keepdim=True))) for part in (drawn, expected))
    chi_squared = ((found - wanted)[wanted > 0] ** 2 / wanted[wanted > 0]).sum()
    freedom = int((wanted > 0).sum()) - 1
    assert chi_squared <= freedom + 5 * (2 * freedom) ** 0.5  # five deviations


@pytest.mark.parametrize("limits", LIMITS)
def test_drawing_follows_the_probabilities(limits: dict[str, Any]) -> None:
    settings = GenerationSettings(**limits)
    logits = 1.5 * torch.randn(1, 30, generator=torch.Generator().manual_seed(1))
    expected = 50_000 * next_token_probabilities(logits, settings)[0]
    assert_drawn_from(expected, draw_often(logits, 50_000, settings))


def test_a_whole_vocabulary_is_drawn_from_by_a_hundred_texts() -> None:
    settings, count, size = GenerationSettings(), 20_000, 9085  # the course's vocabulary, the default settings
    logits = 3 * torch.randn(1, size, generator=torch.Generator().manual_seed(1))
    expected = count * next_token_probabilities(logits, settings)[0]
    assert (expected >= 5).sum() > 100
    assert_drawn_from(expected, draw_often(logits, count, settings, texts=100))


@given(
    logits=st.lists(st.floats(-30, 30, width=32) | st.just(-float("inf")), min_size=2, max_size=12),
    temperature=st.floats(0.05, 5),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 5),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_only_what_has_a_probability_is_drawn(
    logits: list[float], temperature: float, top_p: float, top_k: int, min_p: float, seed: int
) -> None:
    if max(logits) == -float("inf"):
        return
    row = torch.tensor([logits])
    chosen = GenerationSettings(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    token = draw(row.numpy(), text_key(seed, 0, [1]), chosen)[0]
    # A token just at a limit may fall on either side, by rounding.
    wider = replace(chosen, top_p=min(1, top_p + 1e-5), min_p=max(0, min_p - 1e-5))
    assert next_token_probabilities(row, wider)[0, token] > 0


def test_rows_are_drawn_independently_of_each_other() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(20, 50, generator=generator).numpy()
    keys = np.arange(20, dtype=np.uint32)
    settings = GenerationSettings(top_p=0.5, top_k=4)
    together = draw(logits, keys, settings)
    assert together.tolist() == [draw(logits[i : i + 1], keys[i : i + 1], settings)[0] for i in range(20)]


def test_temperature_0_takes_the_likeliest_and_the_logits_stay_as_they_are() -> None:
    logits = np.array([[1, 5, 3], [9, 2, 3]], dtype=np.float32)
    assert draw(logits, words(1, 2), GenerationSettings(temperature=0)).tolist() == [1, 0]
    draw(logits, words(1, 2), GenerationSettings(temperature=1, top_p=0.5))
    assert logits.tolist() == [[1, 5, 3], [9, 2, 3]]


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(FloatingPointError, match="its weights are damaged"):
        draw(np.array([[1, math.nan]], dtype=np.float32), words(0), GenerationSettings())
    with pytest.raises(FloatingPointError, match="its weights are damaged"):
        draw(np.array([[1, math.nan]], dtype=np.float32), words(0), GenerationSettings(temperature=0))


# --- random numbers -------------------------------------------------------------------------------


def test_seed_candidate_and_prompt_each_make_another_key() -> None:
    tasks: list[tuple[int, int, list[int]]] = [(0, 0, [1, 2]), (0, 0, [2, 1]), (1, 0, [1, 2]), (0, 1, [1, 2])]
    assert len({int(text_key(*task)[0]) for task in tasks}) == 4
    assert text_key(0, 0, (1, 2)) == text_key(2**32, 0, [1, 2])  # 32 bits of the seed count
    assert text_key(-1, 0, [1]) == text_key(2**32 - 1, 0, [1])


def test_random_numbers_are_exponential_and_uncorrelated_between_steps() -> None:
    tokens = np.arange(50_000, dtype=np.uint32)
    first, second = (exponential(np.full_like(tokens, absorb(words(5), words(step))), tokens) for step in (1, 2))
    assert first.mean() == pytest.approx(1, abs=0.02)
    assert first.std() == pytest.approx(1, abs=0.02)
    assert (first > 3).mean() == pytest.approx(math.exp(-3), abs=0.005)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02


def test_random_numbers_are_those_of_the_published_cases() -> None:
    for case in json.loads(NOISE.read_text()):
        tokens = words(*case["tokens"])
        key = absorb(text_key(case["seed"], case["candidate"], case["prompt"]), words(case["step"])).repeat(len(tokens))
        assert absorb(key, tokens).tolist() == case["words"]
        assert exponential(key, tokens) == pytest.approx(case["exponential"], rel=1e-15)


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
def test_javascript_makes_the_same_random_numbers() -> None:
    done = subprocess.run(["node", str(NOISE.with_suffix(".mjs"))], capture_output=True, text=True, check=True)
    for made, published in zip(json.loads(done.stdout), json.loads(NOISE.read_text()), strict=True):
        assert made["words"] == published["words"]
        assert made["exponential"] == pytest.approx(published["exponential"], rel=1e-15)


# --- repetition -----------------------------------------------------------------------------------


def after(tokens: list[int], penalty: float = 1.5, banned: tuple[int, ...] = ()) -> list[float]:
    """The logits 0, 1, 2, … of ten tokens after a text of these; 0 ends a line."""
    repetition = Repetition(1, 10, banned, line_ends={0})
    for token in tokens:
        repetition.add(np.array([token]), penalty)
    return repetition.penalize(np.arange(10, dtype=np.float32)[None])[0].tolist()


def test_characters_that_a_text_has_already_are_less_likely_and_punctuation_is_not() -> None:
    assert after([4, 0, 4, 3], banned=(5,)) == [0, 1, 2, 1.5, 2.5, -math.inf, 6, 7, 8, 9]
    assert after([], banned=(5,)) == [0, 1, 2, 3, 4, -math.inf, 6, 7, 8, 9]


def test_a_token_that_would_repeat_a_line_cannot_be_written() -> None:
    begun = [5, 6, 0, 5, 7, 0, 0, 9, 0, 5]
    barred = [token for token, logit in enumerate(after(begun)) if logit == -math.inf]
    assert barred == [6, 7]
    assert -math.inf not in after([*begun, 8])
    assert [token for token, logit in enumerate(after([*begun, 8, 0])) if logit == -math.inf] == [9]


def test_without_a_penalty_nothing_is_held_back() -> None:
    assert after([5, 6, 0, 5], penalty=0) == list(range(10))


def test_texts_that_are_kept_remember_what_they_said() -> None:
    repetition = Repetition(3, 10, (), line_ends={0})
    for tokens in ([1, 2, 3], [0, 0, 0]):
        repetition.add(np.array(tokens), 1.0)
    repetition.keep([0, 2])
    logits = repetition.penalize(np.full((2, 10), 5, dtype=np.float32))
    assert [row.tolist().index(-math.inf) for row in logits] == [1, 3]  # a line of one token
    repetition.add(np.array([4, 5]), 1.0)
    assert repetition.penalize(np.zeros((2, 10), dtype=np.float32)).tolist() == [
        [0, -1, 0, 0, -1, 0, 0, 0, 0, 0],
        [0, 0, 0, -1, 0, -1, 0, 0, 0, 0],
    ]


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1, must be at least 0"),
        ({"temperature": float("nan")}, "temperature is nan, must be a finite number"),
        ({"top_p": 0}, "top_p is 0, must be above 0"),
        ({"top_p": -1}, "top_p is -1, must be above 0"),
        ({"top_k": 10**10}, "top_k is 10000000000, must be at most 1000000000$"),
        ({"top_p": 1.5}, "top_p is 1.5, must be at most 1"),
        ({"temperature": 6}, "temperature is 6, must be at most 5"),
        ({"top_k": -1}, "top_k is -1, must be at least 0"),
        ({"min_p": -0.1}, "min_p is -0.1, must be at least 0"),
        ({"min_p": 1.1}, "min_p is 1.1, must be at most 1"),
        ({"presence_penalty": -1}, "presence_penalty is -1, must be at least 0"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0, must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        GenerationSettings(**wrong)
