"""What is drawn from, and that it is drawn from just that."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.sampling import (
    STRIP,
    GenerationSettings,
    draw,
    gumbel_noise,
    next_token_probabilities,
    row_generator,
    strip,
)


def probabilities(**settings) -> list[float]:
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).log()
    return next_token_probabilities(logits, GenerationSettings(**settings))[0].tolist()


def test_temperature_sharpens_and_flattens():
    assert probabilities(temperature=1, top_p=1) == pytest.approx([0.4, 0.1, 0.3, 0.2])
    squares = [0.16, 0.01, 0.09, 0.04]
    assert probabilities(temperature=0.5, top_p=1) == pytest.approx([s / 0.3 for s in squares])
    assert probabilities(temperature=0, top_p=1) == [1, 0, 0, 0]


def test_top_p_keeps_the_fewest_that_reach_it():
    assert probabilities(temperature=1, top_p=0.6) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=0.75) == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9])
    assert probabilities(temperature=1, top_p=0.01) == [1, 0, 0, 0]


def test_top_k_keeps_that_many():
    assert probabilities(temperature=1, top_p=1, top_k=2) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=1, top_k=9) == pytest.approx([0.4, 0.1, 0.3, 0.2])


def test_min_p_keeps_what_has_that_share_of_the_likeliest():
    assert probabilities(temperature=1, top_p=1, min_p=0.7) == pytest.approx([4 / 7, 0, 3 / 7, 0])
    assert probabilities(temperature=1, top_p=1, min_p=0.3) == pytest.approx([4 / 9, 0, 3 / 9, 2 / 9])
    assert probabilities(temperature=1, top_p=1, min_p=1) == [1, 0, 0, 0]


LIMITS = [
    {"temperature": 1.0, "top_p": 1.0},
    {"temperature": 0.5, "top_p": 1.0},
    {"temperature": 2.0, "top_p": 0.7},
    {"temperature": 1.0, "top_p": 0.02},
    {"temperature": 1.0, "top_p": 1.0, "top_k": 3},
    {"temperature": 1.0, "top_p": 0.9, "top_k": 7},
    {"temperature": 1.0, "top_p": 1.0, "min_p": 0.02},
]


@pytest.mark.parametrize("limits", LIMITS)
def test_drawing_follows_the_probabilities(limits):
    settings, count = GenerationSettings(**limits), 50_000
    logits = 1.5 * torch.randn(1, 30, generator=torch.Generator().manual_seed(1))
    expected = count * next_token_probabilities(logits, settings)[0]
    chance = row_generator([1], 0)
    tokens = [draw(logits[0].numpy(), gumbel_noise(chance, 30), settings)[0] for _ in range(count)]
    assert_drawn_from(expected, tokens)


def assert_drawn_from(expected: torch.Tensor, tokens: list[int]) -> None:
    """A chi-squared test; tokens that are expected less than five times are counted together."""
    drawn = torch.tensor(tokens).bincount(minlength=len(expected))
    assert not drawn[expected == 0].any()
    rare = expected < 5
    found, wanted = (torch.cat((part[~rare], part[rare].sum(0, keepdim=True))) for part in (drawn, expected))
    chi_squared = ((found - wanted)[wanted > 0] ** 2 / wanted[wanted > 0]).sum()
    freedom = int((wanted > 0).sum()) - 1
    assert chi_squared <= freedom + 5 * (2 * freedom) ** 0.5  # five deviations


def test_a_whole_vocabulary_is_drawn_from_by_pieces_of_one_strip():
    settings, count, size = GenerationSettings(), 20_000, 9085  # the course's vocabulary, the default settings
    logits = 3 * torch.randn(1, size, generator=torch.Generator().manual_seed(1))
    expected = count * next_token_probabilities(logits, settings)[0]
    chances = [row_generator([number], 0) for number in range(100)]  # as a hundred titles would
    tokens = [draw(logits[0].numpy(), gumbel_noise(chances[n % 100], size), settings)[0] for n in range(count)]
    assert (expected >= 5).sum() > 100
    assert_drawn_from(expected, tokens)


@pytest.mark.parametrize("limits", [*LIMITS, {"temperature": 0.0}])
def test_a_certain_token_stays_the_same_when_logits_are_a_little_off(limits):
    settings, doubt, count = GenerationSettings(**limits), 0.02, 20_000
    generator = torch.Generator().manual_seed(1)
    logits = 1.5 * torch.randn(count, 30, generator=generator)
    chance = row_generator([1], 0)
    noise = [gumbel_noise(chance, 30) for _ in range(count)]
    drawn = [draw(*row, settings, doubt) for row in zip(logits.numpy(), noise, strict=True)]
    tokens, certain = map(torch.tensor, zip(*drawn, strict=True))
    off = logits + doubt / 2 * (2 * torch.rand(count, 30, generator=generator).round() - 1)  # all by the full half
    others = torch.tensor([draw(*row, settings)[0] for row in zip(off.numpy(), noise, strict=True)])
    assert torch.equal(tokens[certain], others[certain])
    assert (tokens != others).any()  # without the question some would have been another
    assert certain.float().mean() > 0.8


@given(
    logits=st.lists(st.floats(-30, 30, width=32) | st.just(-float("inf")), min_size=2, max_size=12),
    temperature=st.floats(0.05, 5),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 5),
    min_p=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_only_what_has_a_probability_is_drawn(logits, temperature, top_p, top_k, min_p, seed):
    if max(logits) == -float("inf"):
        return
    row = torch.tensor([logits])
    settings = GenerationSettings(temperature, top_p, top_k, min_p=min_p)
    token, _ = draw(row[0].numpy(), gumbel_noise(row_generator([1], seed), len(logits)), settings)
    # what stands just at a limit may fall on either side, by rounding
    wider = GenerationSettings(temperature, min(1, top_p + 1e-5), top_k, min_p=max(0, min_p - 1e-5))
    assert next_token_probabilities(row, wider)[0, token] > 0


def test_noise_is_gumbel_noise_and_each_row_has_its_own():
    noise = [gumbel_noise(row_generator([1], seed), 50_000) for seed in (0, 0, 1)]
    assert np.array_equal(noise[0], noise[1])
    assert not np.array_equal(noise[0], noise[2])
    assert np.mean(noise) == pytest.approx(0.5772, abs=0.02)  # Euler's constant
    assert np.var(noise) == pytest.approx(np.pi**2 / 6, abs=0.05)


def test_a_row_reads_another_piece_of_the_strip_each_time_and_no_piece_is_out_of_reach():
    chance = row_generator([1], 0)
    pieces = [gumbel_noise(chance, STRIP - 1) for _ in range(20)]
    assert {piece[0] for piece in pieces} == {strip()[0], strip()[1]}
    with pytest.raises(ValueError, match=f"the strip of noise has {STRIP}"):
        gumbel_noise(chance, STRIP + 1)


def test_drawing_leaves_the_logits_and_the_noise_as_they_are():
    logits, noise = np.float32([1, 2, 3]), np.zeros(3, np.float32)
    for temperature in (0, 1):
        draw(logits, noise, GenerationSettings(temperature, top_p=0.5), doubt=0.1)
    assert (logits.tolist(), noise.tolist()) == ([1, 2, 3], [0, 0, 0])


def test_prompt_seed_and_candidate_each_make_another_chance():
    tasks = [([1, 2], 0, 0), ([2, 1], 0, 0), ([1, 2], 1, 0), ([1, 2], 0, 1)]
    assert len({row_generator(*task).random() for task in tasks}) == 4
    assert row_generator([1, 2], 0).random() == row_generator((1, 2), 0, 0).random()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature": -1}, "temperature is -1, must lie in 0 … 5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0, must lie above 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"top_k": -1}, "top_k is -1, must be 0"),
        ({"min_p": -0.1}, "min_p is -0.1, must lie in 0"),
        ({"min_p": 1.1}, "min_p is 1.1"),
        ({"presence_penalty": -1}, "presence_penalty is -1, must lie in 0 \\(none\\)"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0, must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        GenerationSettings(**wrong)
