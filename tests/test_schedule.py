"""How long the notebooks take: fine-tuning by device, and all of them shortened for tests."""

from __future__ import annotations

import pytest
import torch

from course_lib.evaluation.title_fit import OTHERS
from course_lib.recipes import recipe as recipes

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
BF16, FP32 = torch.bfloat16, torch.float32


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_FAST", raising=False)


def test_cuda_reads_everything_five_times_and_others_a_part_once(poems) -> None:
    assert (recipes.schedule(CUDA, BF16).poems, recipes.schedule(CUDA, BF16).epochs) == (None, 5)
    for device in (CPU, MPS):
        plan = recipes.schedule(device, BF16)
        assert plan.poems == 11_500
        assert plan.epochs == 1
    assert recipes.schedule(CUDA, BF16).draw(poems) != list(poems)
    assert sorted(recipes.schedule(CUDA, BF16).draw(poems), key=repr) == sorted(poems, key=repr)


def test_compiled_where_compiling_pays() -> None:
    assert [recipes.schedule(device, BF16).compiled for device in (CPU, CUDA, MPS)] == [True, True, False]
    assert [recipes.schedule(device, FP32).compiled for device in (CPU, CUDA, MPS)] == [False, True, False]


def test_a_processor_without_fast_sixteen_bits_reads_less() -> None:
    slow, fast = recipes.schedule(CPU, FP32), recipes.schedule(CPU, BF16)
    assert (slow.poems, fast.poems) == (4_500, 11_500)
    assert slow.folder == fast.folder
    assert recipes.schedule(CUDA, FP32) == recipes.schedule(CUDA, BF16)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_the_variable_shortens_it_everywhere_and_keeps_its_result_apart(monkeypatch, device) -> None:
    long = recipes.schedule(device, BF16)
    monkeypatch.setenv("COURSE_FAST", "1")
    short = recipes.schedule(device, BF16)
    assert short.epochs * short.poems * 20 < 11_500
    assert not short.compiled
    assert {short.folder, short.run_folder}.isdisjoint({long.folder, long.run_folder})
    monkeypatch.setenv("COURSE_FAST", "0")
    assert recipes.schedule(device, BF16) == long


def test_the_result_lies_where_the_title_box_looks_for_it() -> None:
    assert recipes.schedule(CPU, BF16).folder == recipes.OWN


def test_the_same_poems_every_time(poems) -> None:
    plan = recipes.Schedule(2, 1, batch_size=2, evaluate_every=10, trap_steps=5, compiled=False)
    drawn = plan.draw(poems)
    assert drawn == plan.draw(poems)
    assert len(set(drawn)) == 2
    assert set(drawn) < set(poems)


@pytest.mark.parametrize(("steps", "every", "warmup"), [(1, 1, 0), (39, 10, 9), (50, 16, 12), (470, 60, 30)])
def test_a_short_run_still_warms_up_and_is_judged_three_times(steps: int, every: int, warmup: int) -> None:
    plan = recipes.schedule(CPU, BF16) if steps > 40 else recipes.Schedule(480, 1, 4, 10, 20, False)
    settings = plan.settings(steps)
    assert (settings.steps, settings.evaluate_every, settings.warmup_steps) == (steps, every, warmup)


def test_evaluation_is_shortened_too_and_still_has_fifteen_other_titles(monkeypatch) -> None:
    assert recipes.evaluation_size() == (100, 200)
    monkeypatch.setenv("COURSE_FAST", "1")
    titles, read = recipes.evaluation_size()
    assert OTHERS < titles <= read
