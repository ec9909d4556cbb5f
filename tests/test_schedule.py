"""How long the notebooks take: fine-tuning by machine, and all of them shortened for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from course_lib import paths
from course_lib.batches import ceil_div
from course_lib.engine.machine import Machine
from course_lib.evaluation.title_fit import OTHERS
from course_lib.poems import Poem
from course_lib.schedule import Schedule, evaluation_size, schedule


def machine(device: str, precision: torch.dtype = torch.bfloat16) -> Machine:
    return Machine(torch.device(device), precision)


def small(poems: int) -> Schedule:
    """A schedule that no machine has."""
    return Schedule(machine("cpu"), poems, 1, 2, learning_rate=1e-3, evaluations=4, trap_steps=5, folder=Path("small"))


T4, A100, H200 = 15.8e9, 42.3e9, 150e9  # bytes of memory


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COURSE_FAST", raising=False)


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Pretends that the machine's card has so much memory. It has 16 GB to begin with."""

    def put(memory: float) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory))

    put(T4)
    return put


def test_cuda_reads_everything_three_times_at_most_and_others_a_part_once(poems: list[Poem]) -> None:
    cuda = schedule(machine("cuda"))
    assert (cuda.poems, cuda.epochs) == (None, 3)
    assert cuda.settings(200).patience == 3
    for device in ("cpu", "mps"):
        plan = schedule(machine(device))
        assert (plan.poems, plan.epochs) == (11_500, 1)
        assert plan.settings(460).patience == 0
        assert plan.settings(460).learning_rate == 4e-4
    assert cuda.draw(poems) != list(poems)
    assert sorted(cuda.draw(poems), key=repr) == sorted(poems, key=repr)


def test_compiled_where_compiling_pays() -> None:
    def compiled(precision: torch.dtype) -> list[bool]:
        return [schedule(machine(device, precision)).machine.compiled for device in ("cpu", "cuda", "mps")]

    assert compiled(torch.bfloat16) == [True, True, False]
    assert compiled(torch.float32) == [False, True, False]


def test_the_machine_is_the_one_that_was_given() -> None:
    for device in ("cpu", "cuda", "mps"):
        given = machine(device, torch.float32)
        plan = schedule(given)
        assert (plan.machine.device, plan.machine.precision) == (given.device, given.precision)
        assert plan.machine.world is given.world


def test_a_processor_without_fast_sixteen_bits_reads_less() -> None:
    slow, fast = schedule(machine("cpu", torch.float32)), schedule(machine("cpu"))
    assert (slow.poems, fast.poems) == (4_500, 11_500)
    assert slow.folder == fast.folder
    assert schedule(machine("cuda", torch.float32)).poems == schedule(machine("cuda")).poems


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_variable_shortens_it_everywhere_and_keeps_its_result_apart(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    long = schedule(machine(device))
    monkeypatch.setenv("COURSE_FAST", "1")
    short = schedule(machine(device))
    assert short.poems is not None
    assert short.epochs * short.poems * 20 < 11_500
    assert not short.machine.compiled
    assert {short.folder, short.run_folder}.isdisjoint({long.folder, long.run_folder})
    monkeypatch.setenv("COURSE_FAST", "0")
    assert schedule(machine(device)) == long


def test_the_result_lies_where_the_title_box_looks_for_it() -> None:
    assert schedule(machine("cpu")).folder == paths.OWN


def test_the_same_poems_every_time(poems: list[Poem]) -> None:
    plan = small(2)
    drawn = plan.draw(poems)
    assert drawn == plan.draw(poems)
    assert len(set(drawn)) == 2
    assert set(drawn) < set(poems)


@pytest.mark.parametrize(("memory", "rows"), [(T4, 64), (24e9, 64), (A100, 256), (H200, 256)])
def test_a_large_card_takes_larger_steps(card: Callable[[float], None], memory: float, rows: int) -> None:
    card(memory)
    assert schedule(machine("cuda")).batch_size == rows
    assert schedule(machine("cpu")).batch_size == 8


@pytest.mark.parametrize("steps", [133, 335, 1335, 5000])
def test_a_run_on_cuda_is_judged_twelve_times_whatever_the_card(steps: int) -> None:
    assert ceil_div(steps, schedule(machine("cuda")).settings(steps).evaluate_every) == 12


@pytest.mark.parametrize(("steps", "every", "warmup"), [(1, 1, 0), (39, 10, 9), (50, 9, 10), (460, 77, 10)])
def test_a_short_run_still_warms_up_and_is_judged_as_often(steps: int, every: int, warmup: int) -> None:
    plan = schedule(machine("cpu")) if steps > 40 else small(480)
    settings = plan.settings(steps)
    assert (settings.steps, settings.evaluate_every, settings.warmup_steps) == (steps, every, warmup)


def test_the_first_steps_are_looked_at_whatever_the_device() -> None:
    for device in ("cpu", "mps", "cuda"):
        assert schedule(machine(device)).settings(200).evaluate_at == (5, 10, 20, 30)


def test_evaluation_is_shortened_too_and_still_has_fifteen_other_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluation_size() == (100, 200)
    monkeypatch.setenv("COURSE_FAST", "1")
    titles, read = evaluation_size()
    assert OTHERS < titles <= read
