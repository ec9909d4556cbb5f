"""On a CUDA card the same code gives the same results, and does not wait for the card. Skipped where there is none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import synthetic

from course_lib.engine import Machine
from course_lib.evaluation.held_out import held_out_loss
from course_lib.generation import iter_poems
from course_lib.instructions import POEM
from course_lib.model import ModelConfig
from course_lib.recipes import Recipe, finetuning, pretraining
from course_lib.roles import pretraining_text
from course_lib.sampling import GenerationSettings
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import Trainer, TrainingSettings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA card")

CPU, CARD = Machine(torch.device("cpu"), torch.float32), Machine(torch.device("cuda"), torch.float32)
SETTINGS = TrainingSettings(steps=8, learning_rate=1e-2, warmup_steps=2, evaluate_every=4)
POEMS = synthetic(60, 0)


@pytest.fixture(autouse=True)
def _exact_products() -> Iterator[None]:
    """Products in float32, and not in the shorter type TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def recipe_of(kind: str) -> Recipe:
    """A small model and its batches, the same at each call."""
    tokenizer = CharacterTokenizer.train([*map(pretraining_text, POEMS), POEM.wording], min_count=1)
    base = pretraining(POEMS, tokenizer, shape=ModelConfig(len(tokenizer), 32, 64, 2, 2, 64), batch_size=4)
    if kind == "pretraining":
        return base
    return finetuning(base.checkpoint, POEMS, evaluation=synthetic(9, 1), batch_size=4)


def figures(trainer: Trainer, stop: int = SETTINGS.steps) -> list[tuple[Any, ...]]:
    """What the reports say up to this step."""
    found = []
    for report in trainer:
        found.append((*report.loss, report.grad_norm, report.tokens_seen, *(report.evaluation or ())))
        if report.step == stop:
            break
    return found


@pytest.mark.parametrize("kind", ["pretraining", "finetuning"])
def test_the_first_losses_are_those_of_the_cpu(kind: str) -> None:
    (card,), (cpu,) = (figures(Trainer(recipe_of(kind), SETTINGS, machine), stop=1) for machine in (CARD, CPU))
    assert card == pytest.approx(cpu, abs=1e-5)


def test_held_out_losses_are_those_of_the_cpu() -> None:
    checkpoint = recipe_of("finetuning").checkpoint
    expected = held_out_loss(checkpoint, POEMS)
    checkpoint.model.to(CARD.device)
    assert held_out_loss(checkpoint, POEMS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_packed_examples_do_not_see_each_other(precision: torch.dtype) -> None:
    recipe = recipe_of("finetuning")
    model = recipe.checkpoint.model.to(CARD.device).eval()
    batch = next(recipe.batches.to(CARD.device).epoch(0))
    assert batch.position_ids is not None
    second = int((batch.position_ids[0] == 0).nonzero()[1])  # where the second example of the row begins
    other = batch.input_ids.clone()
    other[0, :second] = 5
    with torch.no_grad(), replace(CARD, precision=precision).autocast():
        before, after = (model(ids, batch.position_ids)[0] for ids in (batch.input_ids, other))
    assert not torch.equal(before[:second], after[:second])
    torch.testing.assert_close(before[second:], after[second:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_resumed_run_takes_the_same_steps(optimizer: Any, dropout: float) -> None:
    settings = replace(SETTINGS, optimizer=optimizer, dropout=dropout)
    whole = figures(Trainer(recipe_of("finetuning"), settings, CARD))
    first, second = (Trainer(recipe_of("finetuning"), settings, CARD) for _ in range(2))
    parts = figures(first, stop=3)
    tensors, numbers = first.state()
    second.load_state({name: tensor.cpu() for name, tensor in tensors.items()}, numbers)
    parts += figures(second)
    assert len(parts) == len(whole)
    for found, expected in zip(parts, whole, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)  # some kernels of a card add in any order


def test_the_same_poems_are_written() -> None:
    trained = recipe_of("finetuning").checkpoint
    settings = GenerationSettings(max_new_tokens=30, seed=1)
    titles = [poem.title for poem in POEMS[:8]]
    expected = [poem.text for poem in iter_poems(trained, titles, settings)]
    trained.model.to(CARD.device)
    assert [poem.text for poem in iter_poems(trained, titles, settings)] == expected


@pytest.mark.parametrize("kind", ["pretraining", "finetuning"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_does_not_wait_for_the_card(kind: str, optimizer: Any) -> None:
    """The second step does not: the first one moves the order of the epoch to the card, and makes the optimizer."""
    recipe = replace(recipe_of(kind), evaluation=None)
    machine = Machine(CARD.device, torch.bfloat16)
    steps = iter(Trainer(recipe, replace(SETTINGS, optimizer=optimizer), machine))
    next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        report = next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(report.loss.response)


def test_a_step_with_nothing_to_learn_is_an_error_one_step_later_or_at_the_end() -> None:
    recipe = recipe_of("pretraining")
    nothing = torch.zeros((), dtype=torch.int64, device=CARD.device)
    broken = replace(recipe, count=lambda batches: (nothing, recipe.count(batches)[1]))
    for steps, taken in ((1, 0), (3, 1)):
        trainer = Trainer(broken, replace(SETTINGS, steps=steps), CARD)
        with pytest.raises(ValueError, match="step 0: no token of this batch is to be learned"):
            figures(trainer)
        assert trainer.step == taken


def test_batches_lie_on_the_card() -> None:
    for kind in ("pretraining", "finetuning"):
        recipe = recipe_of(kind)
        pairs = zip(recipe.batches.to(CARD.device).epoch(1), recipe.batches.epoch(1), strict=True)
        for card, cpu in pairs:
            assert card.input_ids.is_cuda
            for part, expected in zip(card, cpu, strict=True):
                if part is not None and expected is not None:
                    assert torch.equal(part.cpu(), expected)
