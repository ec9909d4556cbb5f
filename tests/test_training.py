"""The loss is the one the course teaches, and the loop takes the steps it says it takes."""

import json
import math
import shutil
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib import training
from course_lib.batches import IGNORE, Batch, InstructionBatches, PlainTextBatches
from course_lib.checkpoints import CheckpointError, load_training_state
from course_lib.generation import GenerationSettings, write_many
from course_lib.losses import Loss, loss_sums, next_tokens, targets_of, token_losses
from course_lib.run_folder import RunFolder
from course_lib.training import Trainer, TrainingSettings

PAD = 0


class Oracle(nn.Module):
    """Is sure that token n is followed by n + 1, and has one weight, so that there is something to train."""

    def __init__(self, vocab_size: int = 10) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.sureness = nn.Parameter(torch.tensor(30.0))

    def forward(self, input_ids, position_ids=None):
        return self.sureness * F.one_hot((input_ids + 1) % self.vocab_size, self.vocab_size).float()


def batch_of(ids, labels=None, positions=None) -> Batch:
    def row(values):
        return None if values is None else torch.tensor([values])

    return Batch(row(ids), row(ids if labels is None else labels), row(positions))


def losses_of(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    targets, _ = targets_of(batch, PAD)
    return token_losses(Oracle(), batch, targets), targets


# --- the loss -------------------------------------------------------------------------------------


def test_the_token_at_t_is_predicted_at_t_minus_one():
    losses, targets = losses_of(batch_of([1, 2, 3, 4]))
    assert targets.tolist() == [[2, 3, 4, IGNORE]]
    assert losses.max() < 1e-6


def test_a_wrong_prediction_costs_what_it_should():
    losses, _ = losses_of(batch_of([1, 2, 5, 6]))
    assert losses[0].tolist() == pytest.approx([0, 30, 0, 0], abs=1e-4)


def test_padding_and_the_first_token_of_a_packed_example_are_not_predicted():
    packed = batch_of([7, 8, 3, 4, 5, PAD, PAD], positions=[0, 1, 0, 1, 2, 0, 0])
    losses, targets = losses_of(packed)
    assert targets.tolist() == [[8, IGNORE, 4, 5, IGNORE, IGNORE, IGNORE]]
    assert losses.sum() < 1e-6


def test_response_and_whole_sequence_are_summed_apart():
    wrong_prompt_right_response = batch_of([1, 5, 6, 7], labels=[IGNORE, IGNORE, 6, 7])
    learned, learned_count, whole, whole_count = loss_sums(Oracle(), wrong_prompt_right_response, PAD).tolist()
    assert (learned_count, whole_count) == (2, 3)
    assert learned == pytest.approx(0, abs=1e-4)
    assert whole == pytest.approx(30, abs=1e-4)


def test_labels_that_copy_the_ids_count_no_first_token_of_a_packed_example():
    packed = batch_of([7, 8, 3, 4, 5], labels=[7, 8, 3, 4, 5], positions=[0, 1, 0, 1, 2])
    _, learned_count, _, whole_count = loss_sums(Oracle(), packed, PAD).tolist()
    assert (learned_count, whole_count) == (3, 3)


def test_an_untrained_model_is_as_unsure_as_can_be(checkpoint, poems):
    tokenizer = checkpoint.tokenizer
    (batch,) = InstructionBatches.from_poems(poems, tokenizer, context=64, batch_size=3).epoch(0)
    learned, count, _, _ = loss_sums(checkpoint.model, batch, tokenizer.pad_id)
    assert (learned / count).item() == pytest.approx(math.log(len(tokenizer)), abs=0.1)
    response_and_end = sum(len(p.text) + 1 for p in poems)
    assert count.item() == response_and_end


def test_next_tokens_moves_one_place():
    assert next_tokens(torch.tensor([[1, 2, 3]])).tolist() == [[2, 3, IGNORE]]


# --- the schedule ---------------------------------------------------------------------------------


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    settings = TrainingSettings(steps=100, learning_rate=0.01, warmup_steps=10, decay_fraction=0.4)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9:61] == pytest.approx([0.01] * 52)
    assert rates[80] == pytest.approx(0.005)
    assert rates[99] == pytest.approx(0.01 / 40)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps is 0, must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"decay_fraction": 2.0}, "decay_fraction is 2.0"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"patience": 2}, "patience is 2, but evaluate_every is 0"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainingSettings(**({"steps": 10} | wrong))


# --- the loop -------------------------------------------------------------------------------------


@pytest.fixture
def new_trainer(checkpoint, poems):
    """A maker of trainers that all start from the same weights and read the same poems."""
    start = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    settings = TrainingSettings(steps=12, learning_rate=1e-2, warmup_steps=2, evaluate_every=5)
    pad_id = checkpoint.tokenizer.pad_id

    def make(**changes) -> Trainer:
        checkpoint.model.load_state_dict(start)
        batches = InstructionBatches.from_poems(poems * 3, checkpoint.tokenizer, context=64, batch_size=2)
        held_out = InstructionBatches.from_poems(poems[:1], checkpoint.tokenizer, context=64, batch_size=1)
        return Trainer(
            checkpoint.model,
            batches,
            replace(settings, **changes),
            pad_id=pad_id,
            evaluation=held_out,
            precision=torch.float32,
        )

    return make


def test_a_trainer_begins_in_memory_that_an_earlier_one_no_longer_uses(new_trainer, monkeypatch):
    released = []
    monkeypatch.setattr(training, "release_memory", lambda: released.append(True))
    new_trainer()
    assert released == [True]


def test_reports_count_steps_epochs_and_tokens(new_trainer):
    trainer = new_trainer()
    reports = list(trainer)
    in_epoch = len(trainer.batches)
    assert [r.step for r in reports] == list(range(1, 13))
    assert [r.epoch for r in reports] == [n // in_epoch for n in range(12)]
    assert [r.step for r in reports if r.evaluation] == [5, 10, 12]
    per_epoch = sum(len(e.input_ids) - 1 for e in trainer.batches.examples)
    assert reports[in_epoch - 1].tokens_seen == per_epoch
    assert reports[0].loss.response > 1  # the first loss logged is a loss, not 0
    assert all(r.grad_norm > 0 and r.tokens_per_second > 0 for r in reports)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_lowers_the_loss(new_trainer, optimizer):
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon; it came with 2.9")
    trainer = new_trainer(steps=30, optimizer=optimizer)
    before = trainer.evaluate()
    *_, last = trainer
    assert last.evaluation.response < before.response - 1
    assert last.evaluation.whole < before.whole - 1


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon; it came with 2.9")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_muon_multiplies_as_the_model_does(new_trainer, precision):
    """Its own choice would be bfloat16, always."""
    trainer = new_trainer(steps=1, evaluate_every=0)
    settings = replace(trainer.settings, optimizer="muon")
    trainer = Trainer(trainer.model, trainer.batches, settings, pad_id=PAD, precision=precision)
    multiplied = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.addmm.default:  # called by Muon alone: the model's products add nothing
                multiplied.add(args[1].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():
        next(iter(trainer))
    assert multiplied == {precision}


def test_a_model_that_learned_the_end_mark_stops_by_itself(new_trainer, checkpoint, poems):
    for _ in new_trainer(steps=120):
        pass
    greedy = GenerationSettings(temperature=0, max_new_tokens=40)
    written = write_many(checkpoint, [p.title for p in poems], greedy)
    assert [w.text for w in written] == [p.text for p in poems]
    assert {w.reason for w in written} == {"end"}


def test_the_mean_is_taken_over_tokens_not_over_batches(new_trainer, poems, checkpoint):
    trainer = new_trainer()
    trainer.evaluation = InstructionBatches.from_poems(poems, checkpoint.tokenizer, context=64, batch_size=1)
    sums = torch.stack([loss_sums(trainer.model, b, trainer.pad_id) for b in trainer.evaluation.epoch(0)])
    assert len(sums) == 3
    over_tokens = (sums[:, 0].sum() / sums[:, 1].sum()).item()
    assert trainer.evaluate().response == pytest.approx(over_tokens, abs=1e-6)
    assert over_tokens != pytest.approx((sums[:, 0] / sums[:, 1]).mean().item(), abs=1e-6)


def test_leaving_the_loop_and_coming_back_goes_on(new_trainer):
    whole = [r.loss for r in new_trainer()]
    trainer, parts = new_trainer(), []
    for stop in (3, 7, 12):
        for report in trainer:
            parts.append(report.loss)
            if report.step == stop:
                break
    assert parts == whole


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_resumed_from_disk_equals_one_that_was_not_interrupted(new_trainer, tmp_path, optimizer):
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon; it came with 2.9")
    whole = [r.loss for r in RunFolder(tmp_path / "whole").run(new_trainer(optimizer=optimizer))]
    for stop in (4, 9, 12):
        for report in RunFolder(tmp_path / "parts").run(new_trainer(optimizer=optimizer)):
            if report.step == stop:
                break
    log = [json.loads(line) for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == list(range(1, 13))
    assert [tuple(row["loss"].values()) for row in log] == whole


def test_log_lines_after_the_last_save_are_taken_back(new_trainer, tmp_path):
    runs = RunFolder(tmp_path).run(new_trainer())
    for report in runs:
        if report.step == 4:
            break
    runs.close()
    saved = (tmp_path / "state.safetensors").read_bytes()
    list(RunFolder(tmp_path).run(new_trainer()))
    (tmp_path / "state.safetensors").write_bytes(saved)  # as if the run had been killed before it saved
    first = next(iter(RunFolder(tmp_path).run(new_trainer())))
    assert first.step == 5
    log = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log == [1, 2, 3, 4, 5]


def test_a_batch_with_nothing_to_learn_is_an_error(new_trainer):
    trainer = new_trainer()
    ids = torch.full((1, 8), 5)
    trainer.batches = type("Masked", (), {"epoch": lambda *_: [Batch(ids, torch.full_like(ids, IGNORE))]})()
    type(trainer.batches).__len__ = lambda self: 1
    with pytest.raises(ValueError, match="no token of this batch is to be learned"):
        next(iter(trainer))


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_weights(new_trainer):
    trainer = new_trainer()
    for report in trainer:
        if report.step == 2:
            break
    with torch.no_grad():
        trainer.model.model.norm.weight[0] = float("nan")
    kept = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="loss of step 2 is nan"):
        next(iter(trainer))
    assert all(torch.equal(kept[n], t) or n.endswith("norm.weight") for n, t in trainer.model.state_dict().items())


def test_pretraining_uses_the_same_loop(checkpoint, poems):
    batches = PlainTextBatches(poems * 10, checkpoint.tokenizer, context=64, batch_size=4)
    settings = TrainingSettings(steps=40, learning_rate=1e-2, warmup_steps=2)
    pad_id = checkpoint.tokenizer.pad_id
    reports = list(Trainer(checkpoint.model, batches, settings, pad_id=pad_id, precision=torch.float32))
    assert reports[-1].loss.whole < reports[0].loss.whole - 1
    assert all(r.loss.whole == pytest.approx(r.loss.response) for r in reports)


# --- one step of many batches ---------------------------------------------------------------------


def gradients(trainer, batches):
    """The gradients of a step over these batches, by name."""
    losses, _ = trainer._add_gradients(list(batches))
    found = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad(set_to_none=True)
    return losses, found


def test_accumulated_gradients_are_those_of_one_large_batch(new_trainer, poems, checkpoint):
    """Four batches of unequal numbers of tokens, against the same rows as one."""
    trainer = new_trainer()
    data = InstructionBatches.from_poems(poems * 3, checkpoint.tokenizer, context=64, batch_size=1, seed=None)
    parts = list(data.epoch(0))[-4:]
    assert len({int((part.labels != IGNORE).sum()) for part in parts}) > 1
    whole = Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))
    losses, of_parts = gradients(trainer, parts)
    loss, of_whole = gradients(trainer, [whole])
    assert torch.allclose(torch.stack(losses), torch.stack(loss), atol=1e-6)
    for name, gradient in of_whole.items():
        torch.testing.assert_close(of_parts[name], gradient, atol=1e-6, rtol=0)


def test_a_step_takes_as_many_batches_as_it_is_told(new_trainer):
    trainer = new_trainer(accumulate=3)
    reports = list(trainer)
    in_epoch = -(-len(trainer.batches) // 3)
    assert len(trainer.batches) % 3  # the last step of an epoch takes what is left
    assert trainer.steps_per_epoch == in_epoch
    assert [r.epoch for r in reports] == [n // in_epoch for n in range(12)]
    per_epoch = sum(len(e.input_ids) - 1 for e in trainer.batches.examples)
    assert reports[in_epoch - 1].tokens_seen == per_epoch


# --- when to stop ---------------------------------------------------------------------------------


def judged(trainer, losses):
    """A trainer that finds these losses, one after the other, when it evaluates."""
    found = iter(losses)
    trainer.evaluate = lambda: Loss(next(found), 9.0)
    return trainer


def test_without_progress_the_run_stops_and_the_best_weights_are_kept(new_trainer):
    trainer = judged(new_trainer(steps=20, evaluate_every=2, patience=3), [3.0, 2.0, 2.5, 2.1, 2.2, 1.0])
    kept = {}
    for report in trainer:
        if report.step == 4:
            kept = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    assert report.step == 10  # three evaluations after the fourth step's, which was the best
    assert trainer.stopped_early
    assert trainer.best.step == 4
    assert all(torch.equal(kept[name], tensor) for name, tensor in trainer.model.state_dict().items())


def test_a_run_that_came_to_its_end_keeps_the_best_weights_too(new_trainer):
    trainer = judged(new_trainer(steps=6, evaluate_every=2, patience=3), [3.0, 2.0, 2.5])
    *_, last = trainer
    assert (last.step, trainer.stopped_early, trainer.best.step) == (6, False, 4)


def test_patience_survives_on_disk(new_trainer, tmp_path):
    losses = [3.0, 2.0, 2.5, 2.1, 2.2, 1.0]
    for report in RunFolder(tmp_path).run(judged(new_trainer(steps=20, evaluate_every=2, patience=3), losses)):
        if report.step == 7:
            break
    trainer = judged(new_trainer(steps=20, evaluate_every=2, patience=3), losses[3:])
    *_, last = RunFolder(tmp_path).run(trainer)
    assert (last.step, trainer.best.step) == (10, 4)
    again = new_trainer(steps=20, evaluate_every=2, patience=3)
    assert list(RunFolder(tmp_path).run(again)) == []  # it knows that it had stopped
    assert all(torch.equal(again.best.weights[n], t) for n, t in again.model.state_dict().items())


# --- precision and compiling ----------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_sixteen_bits_learn_as_thirty_two_do(new_trainer, precision):
    exact, rough = new_trainer(), new_trainer()
    rough = Trainer(rough.model, rough.batches, rough.settings, pad_id=PAD, precision=precision)
    rough_losses = [r.loss.response for r in rough]
    exact_losses = [r.loss.response for r in new_trainer()]
    assert rough_losses == pytest.approx(exact_losses, abs=0.1)
    assert rough_losses != exact_losses
    assert rough.scaler.is_enabled() == (precision == torch.float16)
    assert exact.scaler.is_enabled() is False


def test_a_float16_gradient_that_overflows_is_left_out_and_the_scale_lowered(new_trainer):
    trainer = new_trainer(steps=40)
    trainer = Trainer(trainer.model, trainer.batches, trainer.settings, pad_id=PAD, precision=torch.float16)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    report = next(iter(trainer))
    assert not math.isfinite(report.grad_norm)
    assert math.isfinite(report.loss.response)
    assert all(torch.equal(before[name], tensor) for name, tensor in trainer.model.state_dict().items())
    assert trainer.scaler.get_scale() < 2.0**30
    *_, last = trainer
    assert math.isfinite(last.grad_norm)


def test_the_model_is_compiled_twice_and_no_more(new_trainer, monkeypatch):
    """Once to learn and once to judge: every batch has the same shape, the last of an epoch too."""
    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    monkeypatch.setattr(shutil, "which", lambda name: name)
    torch._dynamo.reset()
    made = new_trainer()
    trainer = Trainer(made.model, made.batches, made.settings, pad_id=PAD, evaluation=made.batches, compiled=True)
    reports = list(trainer)
    assert {r.epoch for r in reports} > {0, 1}
    assert sum(r.evaluation is not None for r in reports) == 3
    assert counter.frame_count == 2


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_broken_step_names_its_data_and_leaves_the_saved_state_alone(new_trainer, tmp_path):
    trainer = new_trainer(accumulate=2)
    trainer.settings = replace(trainer.settings, steps=trainer.steps_per_epoch + 2)
    folder = RunFolder(tmp_path, save_every=0)
    broken = trainer.steps_per_epoch + 1
    runs = folder.run(trainer)
    assert next(report.step for report in runs if report.step == broken)
    saved = (tmp_path / "state.safetensors").read_bytes()
    trainer.model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(FloatingPointError, match=rf"step {broken} is nan.*next\(batches.epoch\(1, 2\)\)"):
        next(runs)
    assert (tmp_path / "state.safetensors").read_bytes() == saved
    assert torch.isfinite(load_training_state(tmp_path / "state.safetensors")[0]["model.model.norm.weight"]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limit to the size of files")
def test_a_full_disk_is_told_and_what_was_saved_is_untouched(new_trainer, tmp_path):
    import resource

    runs = RunFolder(tmp_path, save_every=0).run(new_trainer())
    next(runs)
    saved = (tmp_path / "state.safetensors").read_bytes()
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(saved) // 2, allowed[1]))
    try:
        with pytest.raises(CheckpointError, match="could not be written, what was saved before is untouched"):
            list(runs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
    assert (tmp_path / "state.safetensors").read_bytes() == saved
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []
