"""Losses on held-out poems, against summing by hand."""

from dataclasses import replace

import pytest
import torch
from by_hand import base_model, nats, with_more

from course_lib.checkpoints import Checkpoint
from course_lib.engine.machine import Machine
from course_lib.evaluation.held_out import general_instructions, held_out_loss, loss_rows, losses, unknown_share
from course_lib.evaluation.metrics import Estimate
from course_lib.instructions import ALL, POEM, Instruction
from course_lib.poems import Poem
from course_lib.recipes import finetuning
from course_lib.roles import END, RESPONSE, example_segments, pretraining_text
from course_lib.tasks import FORMS, MANY
from course_lib.training import Trainer, TrainingSettings


def test_response_and_whole_loss_by_hand(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    response, whole = [], []
    for poem in poems:
        segments = example_segments(poem)
        costs = nats(checkpoint, checkpoint.tokenizer.encode_segments(segments))
        whole += costs
        learned = len(dict(segments)[RESPONSE]) + len([END])
        response += costs[-learned:]
    loss = held_out_loss(checkpoint, poems)
    assert loss.response == pytest.approx(sum(response) / len(response), abs=1e-5)
    assert loss.whole == pytest.approx(sum(whole) / len(whole), abs=1e-5)
    assert loss.response != pytest.approx(loss.whole, abs=1e-3)


def test_each_poem_is_read_under_the_instruction_that_it_answers(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    short = Instruction("short", "短詩", ("江上幾聲鶯",), fits=lambda poem: len(poem.lines) == 2)
    taught = replace(checkpoint, instructions=(POEM, short))
    whole: list[float] = []
    for poem, instruction in zip(poems, (POEM, short, POEM), strict=True):
        whole += nats(taught, taught.tokenizer.encode_segments(example_segments(poem, instruction)))
    assert held_out_loss(taught, poems).whole == pytest.approx(sum(whole) / len(whole), abs=1e-5)
    assert held_out_loss(taught, poems).whole != pytest.approx(held_out_loss(checkpoint, poems).whole, abs=1e-4)


def test_models_of_few_and_of_many_instructions_read_couplets_under_the_same_prompts(
    checkpoint: Checkpoint, poems: list[Poem]
) -> None:
    assert [row.name for row in general_instructions(MANY)] == ["poem", "old-style", "mixed"]
    assert general_instructions(ALL) == list(ALL)
    assert general_instructions(FORMS) == []
    few, many = (held_out_loss(checkpoint.with_roles(taught), poems) for taught in (ALL, MANY))
    assert many == few


def test_plain_text_loss_by_hand(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    base = base_model(checkpoint, poems)
    ids = base.tokenizer.encode("".join(map(pretraining_text, poems)))
    context = base.model.config.max_position_embeddings
    costs = [c for at in range(0, len(ids) - 1, context - 1) for c in nats(base, ids[at : at + context])]
    assert len(costs) == len(ids) - 1 > context  # more than one window
    loss = held_out_loss(base, poems, batch_size=2)
    assert loss.whole == loss.response == pytest.approx(sum(costs) / len(costs), abs=1e-5)


def test_the_trainer_reports_the_same_loss(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    recipe = finetuning(checkpoint, poems, evaluation=poems, batch_size=2)
    machine = Machine(torch.device("cpu"), torch.float32)
    seen = Trainer(recipe, TrainingSettings(steps=1), machine).evaluate()
    assert seen is not None
    assert seen == pytest.approx(held_out_loss(checkpoint, poems), abs=1e-5)


def test_the_rows_add_up_to_the_loss(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    more = with_more(poems)
    response, response_count, whole, whole_count = loss_rows(checkpoint, more)
    assert response.shape == response_count.shape == whole.shape == whole_count.shape
    assert response.ndim == 1
    assert {part.dtype for part in (response, response_count, whole, whole_count)} == {torch.float64}
    assert response_count.sum() == sum(len(poem.text) + len([END]) for poem in more)
    loss = held_out_loss(checkpoint, more)
    assert loss.response == pytest.approx((response.sum() / response_count.sum()).item())
    assert loss.whole == pytest.approx((whole.sum() / whole_count.sum()).item())


def test_the_loss_lies_in_its_interval(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    found: dict[str, Estimate] = losses(checkpoint, with_more(poems) * 8)
    assert found.keys() == {"response_loss", "whole_loss"}
    for estimate in found.values():
        assert estimate.interval
        assert estimate.interval[0] < estimate.value < estimate.interval[1]
    base = base_model(checkpoint, poems)
    assert losses(base, poems)["plain_text_loss"].value == pytest.approx(held_out_loss(base, poems).whole)


def test_losses_report_their_progress(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    more = with_more(poems)
    done: list[tuple[str, int, int]] = []
    loss_rows(checkpoint, more, batch_size=1, progress=lambda *report: done.append(report))
    counts = [count for _, count, _ in done]
    assert len(done) > 1
    assert counts == sorted(counts)
    assert counts[-1] == len(more)
    assert {(stage, total) for stage, _, total in done} == {("taking the loss", len(more))}


def test_taking_a_loss_needs_evaluation_mode_and_restores_the_mode(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    modes: list[bool] = []
    checkpoint.model.model.register_forward_pre_hook(lambda decoder, _: modes.append(decoder.training))
    for training in (True, False):
        checkpoint.model.train(training)
        held_out_loss(checkpoint, poems)
        assert {module.training for module in checkpoint.model.modules()} == {training}
    assert set(modes) == {False}


def test_the_unknown_share_counts_titles_and_poems(checkpoint: Checkpoint) -> None:
    assert unknown_share(checkpoint, [Poem("山雨", "", ("山中一夜雨，樹上幾聲☃。",))]) == pytest.approx(1 / 14)
