"""The loop takes the steps that it reports, and a resumed run takes the same ones."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, Protocol, Self, TypeVar

import pytest
import torch
from tiny import poem_batches
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.batches import IGNORE, Batch, InstructionBatches
from course_lib.checkpoints import Checkpoint
from course_lib.engine import Machine
from course_lib.engine.machine import try_compile
from course_lib.generation import iter_poems
from course_lib.losses import Loss, LossSums, loss_sums
from course_lib.poems import Poem
from course_lib.recipes import Recipe, pretraining
from course_lib.sampling import GenerationSettings
from course_lib.training import StepReport, Trainer, TrainingSettings

CPU = torch.device("cpu")
MACHINE = Machine(CPU, torch.float32)
each_optimizer = pytest.mark.parametrize("optimizer", ["adamw", "muon"])

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class NewTrainer(Protocol):
    """Makes a trainer of the same model, poems and settings each time, but for the changes."""

    def __call__(self, *, machine: Machine = MACHINE, recipe: Recipe | None = None, **changes: Any) -> Trainer:
        """`changes` are to the settings."""


@pytest.fixture
def recipe(checkpoint: Checkpoint, poems: list[Poem]) -> Recipe:
    """Nine poems in rows of 64 tokens, two in a batch, and one poem to evaluate on."""
    tokenizer = checkpoint.tokenizer
    return Recipe(
        "instruction",
        checkpoint,
        poem_batches(poems * 3, tokenizer, context=64, batch_size=2),
        poem_batches(poems[:1], tokenizer, context=64, batch_size=1),
    )


@pytest.fixture
def new_trainer(recipe: Recipe) -> NewTrainer:
    """Each trainer begins with the same weights. They share the model: use one after the other."""
    model = recipe.checkpoint.model
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    default = recipe
    settings = TrainingSettings(steps=12, learning_rate=1e-2, warmup_steps=2, evaluate_every=5)

    def make(*, machine: Machine = MACHINE, recipe: Recipe | None = None, **changes: Any) -> Trainer:
        model.load_state_dict(start)
        return Trainer(recipe or default, replace(settings, **changes), machine)

    return make


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def tokens_of_an_epoch(recipe: Recipe) -> int:
    """How many tokens are predicted: all but the first of each example."""
    assert isinstance(recipe.batches, InstructionBatches)
    return sum(len(example.input_ids) - 1 for example in recipe.batches.examples)


# --- the settings ---------------------------------------------------------------------------------


def test_the_learning_rate_rises_stays_and_falls_to_zero() -> None:
    settings = TrainingSettings(steps=100, learning_rate=0.01, warmup_steps=10, decay_fraction=0.4)
    rates = [settings.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9:61] == pytest.approx([0.01] * 52)
    assert rates[80] == pytest.approx(0.005)
    assert rates[99] == pytest.approx(0.01 / 40)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps is 0, must be at least 1"),
        ({"steps": 2 * 10**9}, "steps is 2000000000, must be at most 1000000000$"),
        ({"weight_decay": math.inf}, "weight_decay is inf, must be at most 1000000000$"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, must be above 0"),
        ({"learning_rate": 3.0}, "learning_rate is 3.0, must be at most 1"),
        ({"decay_fraction": 1.5}, "decay_fraction is 1.5, must be at most 1"),
        ({"dropout": 1.0}, "dropout is 1.0, must be at most 0.99"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd', must be 'muon' or 'adamw'"),
        ({"accumulate": 0}, "accumulate is 0, must be at least 1"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is -1.0, must be above 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm is 0.0, must be above 0"),
        ({"warmup_steps": -5}, "warmup_steps is -5, must be at least 0"),
        ({"evaluate_every": -1}, "evaluate_every is -1, must be at least 0"),
        ({"patience": -1}, "patience is -1, must be at least 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, must be at least 0"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**{"steps": 10, **wrong})


@pytest.mark.parametrize(
    ("value", "why"),
    [(math.nan, "a finite number"), (math.inf, "at most 1"), (-math.inf, "{at} 0")],
)
@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("learning_rate", "above"),
        ("max_grad_norm", "above"),
        ("decay_fraction", "at least"),
        ("weight_decay", "at least"),
    ],
)
def test_a_setting_that_is_no_finite_number_is_refused_by_name(name: str, at: str, value: float, why: str) -> None:
    why = why.format(at=at)
    with pytest.raises(ValueError, match=f"{name} is {value}, must be {why}"):
        TrainingSettings(10, **{name: value})  # type: ignore[arg-type]


# --- the loop -------------------------------------------------------------------------------------


def test_reports_count_steps_epochs_and_tokens(new_trainer: NewTrainer, recipe: Recipe) -> None:
    reports = list(new_trainer())
    in_epoch = len(recipe.batches)
    assert [r.step for r in reports] == list(range(1, 13))
    assert [r.epoch for r in reports] == [n // in_epoch for n in range(12)]
    assert [r.step for r in reports if r.evaluation] == [5, 10, 12]
    assert reports[in_epoch - 1].tokens_seen == tokens_of_an_epoch(recipe)
    assert reports[0].loss.response > 1  # the first loss reported is a loss, not 0
    assert all(r.grad_norm > 0 and r.tokens_per_second > 0 for r in reports)


def test_the_loss_reported_is_that_of_the_batch_before_the_step(new_trainer: NewTrainer, recipe: Recipe) -> None:
    trainer = new_trainer()
    before = weights(trainer)
    for batch, report in zip(recipe.batches.epoch(0), trainer, strict=False):
        after = weights(trainer)
        trainer.model.load_state_dict(before)
        with torch.no_grad():
            expected = loss_sums(trainer.model, batch).means()
        assert report.loss == pytest.approx(expected, abs=1e-5)
        trainer.model.load_state_dict(after)
        before = after


def test_single_steps_are_evaluated_too(new_trainer: NewTrainer) -> None:
    assert [r.step for r in new_trainer(evaluate_at=(1, 4, 5)) if r.evaluation] == [1, 4, 5, 10, 12]
    assert [r.step for r in new_trainer(evaluate_every=0, evaluate_at=(3, 99)) if r.evaluation] == [3]


@each_optimizer
def test_training_lowers_the_loss(new_trainer: NewTrainer, optimizer: str) -> None:
    trainer = new_trainer(steps=30, optimizer=optimizer)
    before = trainer.evaluate()
    *_, last = trainer
    assert before
    assert last.evaluation
    assert last.evaluation.response < before.response - 1
    assert last.evaluation.whole < before.whole - 1


@pytest.mark.slow
def test_a_model_that_learned_the_end_token_stops_by_itself(
    new_trainer: NewTrainer, checkpoint: Checkpoint, poems: list[Poem]
) -> None:
    for _ in new_trainer(steps=120):
        pass
    greedy = GenerationSettings(temperature=0, max_new_tokens=40)
    written = list(iter_poems(checkpoint, [p.title for p in poems], greedy))
    assert [w.text for w in written] == [p.text for p in poems]
    assert {w.reason for w in written} == {"end"}


def test_the_mean_is_taken_over_tokens_not_over_batches(
    new_trainer: NewTrainer, recipe: Recipe, poems: list[Poem]
) -> None:
    rows = poem_batches(poems, recipe.checkpoint.tokenizer, context=64, batch_size=1)
    trainer = new_trainer(recipe=replace(recipe, evaluation=rows))
    with torch.no_grad():
        sums = torch.stack([loss_sums(trainer.model, batch).stacked() for batch in rows.epoch(0)])
    assert len(sums) == 3
    over_tokens = (sums[:, 0].sum() / sums[:, 1].sum()).item()
    found = trainer.evaluate()
    assert found
    assert found.response == pytest.approx(over_tokens, abs=1e-6)
    assert over_tokens != pytest.approx((sums[:, 0] / sums[:, 1]).mean().item(), abs=1e-6)


def test_without_an_evaluation_set_there_is_no_evaluation(new_trainer: NewTrainer, recipe: Recipe) -> None:
    trainer = new_trainer(recipe=replace(recipe, evaluation=None), steps=3, evaluate_every=1)
    assert [report.evaluation for report in trainer] == [None] * 3


def test_patience_without_an_evaluation_set_is_refused(new_trainer: NewTrainer, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="patience is 2, but there is no evaluation data"):
        new_trainer(recipe=replace(recipe, evaluation=None), patience=2)


def test_a_run_leaves_the_model_as_it_is_used(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(steps=2, dropout=0.5, evaluate_every=0)
    for _ in trainer:
        assert trainer.model.training
    assert not trainer.model.training
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(trainer.model(ids), trainer.model(ids))


def test_an_evaluation_computes_no_gradients(new_trainer: NewTrainer, recipe: Recipe) -> None:
    graphs: list[bool] = []

    def loss(model: Callable[..., Tensor], batch: Batch) -> LossSums:
        graphs.append(model(batch.input_ids, batch.position_ids).requires_grad)
        return loss_sums(model, batch)

    new_trainer(recipe=replace(recipe, evaluation_loss=loss)).evaluate()
    assert graphs
    assert not any(graphs)


def test_pretraining_uses_the_same_loop(checkpoint: Checkpoint, poems: list[Poem]) -> None:
    recipe = pretraining(poems * 10, checkpoint.tokenizer, start=checkpoint, batch_size=4)
    settings = TrainingSettings(steps=40, learning_rate=1e-2, warmup_steps=2)
    reports = list(Trainer(recipe, settings, MACHINE))
    assert reports[-1].loss.whole < reports[0].loss.whole - 1
    assert all(r.loss.whole == pytest.approx(r.loss.response) for r in reports)


def test_a_report_comes_back_from_its_line_of_the_log(new_trainer: NewTrainer) -> None:
    for report in new_trainer(steps=6):
        line = report.as_json()
        found = StepReport.from_json(line)
        assert found.as_json() == line
        assert (found.loss, found.grad_norm, found.step) == (report.loss, report.grad_norm, report.step)
        assert isinstance(found.loss, Loss)
        assert found.evaluation == report.evaluation
    assert json.loads(line)["loss"] == report.loss._asdict()


def test_the_batches_that_are_read_lie_on_the_device_of_the_machine(new_trainer: NewTrainer, recipe: Recipe) -> None:
    @dataclass
    class Elsewhere(Given):
        def to(self, device: torch.device) -> Given:  # type: ignore[override]
            assert device == CPU
            return Given(self.given)

        def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
            raise AssertionError("these batches lie elsewhere")

    away = Elsewhere(list(recipe.batches.epoch(0)))
    reports = list(new_trainer(recipe=replace(recipe, batches=away, evaluation=away), steps=2, evaluate_every=1))  # type: ignore[arg-type]
    assert all(report.evaluation for report in reports)


def test_tokens_are_counted_exactly_where_a_float_would_round(new_trainer: NewTrainer) -> None:
    trainer = new_trainer()
    tensors, numbers = trainer.state()
    trainer.load_state(tensors, numbers | {"tokens_seen": 2**24 + 1})
    in_first = next(iter(new_trainer())).tokens_seen
    assert next(iter(trainer)).tokens_seen == trainer.tokens_seen == 2**24 + 1 + in_first


def test_nothing_of_a_step_is_read_before_its_gradients_are_there(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device `meta` tensors have no values: reading one is an error. On a GPU the program would have to wait."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # PyTorch does not know it for `meta`
    meta = torch.device("meta")
    model = recipe.checkpoint.model.to(meta).train()
    batches = list(recipe.batches.to(meta).epoch(0))
    learned, predicted = recipe.count(batches)
    (recipe.loss(model, batches[0]).response / learned).backward()
    assert learned.device == predicted.device == meta
    assert all(weight.grad is not None for weight in model.parameters())
    with pytest.raises(RuntimeError):
        learned.item()


# --- leaving and resuming -------------------------------------------------------------------------


def test_leaving_the_loop_and_coming_back_goes_on(new_trainer: NewTrainer) -> None:
    whole = [r.loss for r in new_trainer()]
    trainer = new_trainer()
    parts: list[Loss] = []
    for stop in (3, 7, 12):
        for report in trainer:
            parts.append(report.loss)
            if report.step == stop:
                break
    assert parts == whole


@each_optimizer
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_resumed_from_its_state_equals_one_that_was_not_interrupted(
    new_trainer: NewTrainer, optimizer: str, precision: torch.dtype, accumulate: int
) -> None:
    how: dict[str, Any] = {"machine": Machine(CPU, precision), "optimizer": optimizer, "accumulate": accumulate}
    trainer = new_trainer(**how)
    whole = [(r.loss, r.grad_norm, r.tokens_seen, r.evaluation) for r in trainer]
    end = weights(trainer)

    parts: list[object] = []
    state: tuple[dict[str, Tensor], dict[str, Any]] | None = None
    for stop in (4, 9, 12):
        trainer = new_trainer(**how)
        if state:
            trainer.load_state(*state)
        for report in trainer:
            parts.append((report.loss, report.grad_norm, report.tokens_seen, report.evaluation))
            if report.step == stop:
                break
        tensors, numbers = trainer.state()
        state = {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(numbers))
    assert parts == whole
    assert all(torch.equal(end[name], tensor) for name, tensor in weights(trainer).items())


def test_a_loss_that_draws_random_numbers_draws_the_same_ones_after_resuming(
    new_trainer: NewTrainer, recipe: Recipe
) -> None:
    def noisy(model: Callable[..., Tensor], batch: Batch) -> LossSums:
        sums = recipe.loss(model, batch)
        return sums._replace(response=sums.response * torch.rand(()))

    noisy_recipe = replace(recipe, loss=noisy)
    trainer = new_trainer(recipe=noisy_recipe, steps=6)
    for report in trainer:
        if report.step == 3:
            break
    tensors, numbers = trainer.state()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    rest = [report.loss for report in trainer]
    resumed = new_trainer(recipe=noisy_recipe, steps=6)
    resumed.load_state(tensors, numbers)
    assert [report.loss for report in resumed] == rest


def test_a_step_that_was_interrupted_is_taken_again_from_its_beginning(new_trainer: NewTrainer, recipe: Recipe) -> None:
    whole = [(r.loss, r.grad_norm) for r in new_trainer(accumulate=2)]
    calls: list[Batch] = []

    def interrupted_once(model: Callable[..., Tensor], batch: Batch) -> LossSums:
        calls.append(batch)
        if len(calls) == 6:  # the second batch of step 2; the gradient of its first is there already
            raise KeyboardInterrupt
        return recipe.loss(model, batch)

    trainer = new_trainer(recipe=replace(recipe, loss=interrupted_once), accumulate=2)
    parts: list[object] = []
    with pytest.raises(KeyboardInterrupt):
        parts.extend((r.loss, r.grad_norm) for r in trainer)
    assert trainer.step == len(parts) == 2
    parts.extend((r.loss, r.grad_norm) for r in trainer)
    assert parts == whole


def test_the_state_of_another_model_is_refused(new_trainer: NewTrainer) -> None:
    trainer = new_trainer()
    tensors, numbers = trainer.state()
    del tensors["model.model.norm.weight"]
    with pytest.raises(RuntimeError, match=r"model\.norm\.weight"):
        trainer.load_state(tensors, numbers)


# --- one step of many batches ---------------------------------------------------------------------


@dataclass
class Given:
    """The same batches in every epoch."""

    given: Sequence[Batch]
    batch_size: int = 1
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.given)

    def to(self, device: torch.device) -> Self:
        return self

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self.given[start:])


def first_step(trainer: Trainer) -> tuple[StepReport, dict[str, Tensor]]:
    """The report of a step, and the gradients of all its batches together, before they are clipped."""
    gradients: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Tensor], None]:
        def hook(weight: Tensor) -> None:
            assert weight.grad is not None
            gradients[name] = weight.grad.clone()

        return hook

    hooks = [w.register_post_accumulate_grad_hook(keep(name)) for name, w in trainer.model.named_parameters()]
    report = next(iter(trainer))
    for handle in hooks:
        handle.remove()
    return report, gradients


def test_accumulated_gradients_are_those_of_one_large_batch(
    new_trainer: NewTrainer, recipe: Recipe, poems: list[Poem]
) -> None:
    """Four batches with unequal numbers of tokens, compared with the same rows as one batch."""
    data = poem_batches(poems * 3, recipe.checkpoint.tokenizer, context=64, batch_size=1, seed=None)
    parts = list(data.epoch(0))[-4:]
    assert len({int((part.labels != IGNORE).sum()) for part in parts}) > 1
    whole = Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))
    report, of_parts = first_step(new_trainer(recipe=replace(recipe, batches=Given(parts)), accumulate=4))
    expected, of_whole = first_step(new_trainer(recipe=replace(recipe, batches=Given([whole]))))
    assert report.loss == pytest.approx(expected.loss, abs=1e-6)
    assert report.grad_norm == pytest.approx(expected.grad_norm, abs=1e-6)
    assert of_parts.keys() == of_whole.keys()
    for name, gradient in of_whole.items():
        torch.testing.assert_close(of_parts[name], gradient, atol=1e-6, rtol=0)


def test_a_step_takes_as_many_batches_as_it_is_told(new_trainer: NewTrainer, recipe: Recipe) -> None:
    reports = list(new_trainer(accumulate=3))
    in_epoch = math.ceil(len(recipe.batches) / 3)
    assert len(recipe.batches) % 3  # the last step of an epoch takes what is left
    assert recipe.steps_per_epoch(accumulate=3) == in_epoch
    assert [r.epoch for r in reports] == [n // in_epoch for n in range(12)]
    assert reports[in_epoch - 1].tokens_seen == tokens_of_an_epoch(recipe)


# --- precision and compiling ----------------------------------------------------------------------


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_sixteen_bits_learn_as_thirty_two_do(new_trainer: NewTrainer, precision: torch.dtype) -> None:
    exact = new_trainer()
    exact_losses = [r.loss.response for r in exact]
    rough = new_trainer(machine=Machine(CPU, precision))
    rough_losses = [r.loss.response for r in rough]
    assert rough_losses == pytest.approx(exact_losses, abs=0.1)
    assert rough_losses != exact_losses
    assert rough.scaler.is_enabled() == (precision == torch.float16)
    assert exact.scaler.is_enabled() is False


def test_a_float16_gradient_that_overflows_is_left_out_and_the_scale_lowered(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(machine=Machine(CPU, torch.float16), steps=40)
    tensors, numbers = trainer.state()
    trainer.load_state(tensors, numbers | {"scaler": numbers["scaler"] | {"scale": 2.0**30}})
    before = weights(trainer)
    report = next(iter(trainer))
    assert not math.isfinite(report.grad_norm)
    assert math.isfinite(report.loss.response)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(trainer).items())
    assert trainer.scaler.get_scale() < 2.0**30
    *_, last = trainer
    assert math.isfinite(last.grad_norm)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_muon_multiplies_as_the_model_does(new_trainer: NewTrainer, precision: torch.dtype) -> None:
    trainer = new_trainer(machine=Machine(CPU, precision), steps=1, optimizer="muon")
    multiplied: set[torch.dtype] = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.baddbmm.default:  # called by Muon alone: the model's products add nothing
                multiplied.add(args[1].dtype)
            return func(*args, **(kwargs or {}))

    with Watch():  # type: ignore[no-untyped-call]
        next(iter(trainer))
    assert multiplied == {precision}


@pytest.mark.slow
def test_the_model_is_compiled_twice_and_no_more(
    new_trainer: NewTrainer, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to learn and once to evaluate: every batch has the same shape, and so has the last of an epoch."""
    (tmp_path / "g++").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    torch._dynamo.reset()
    counter = CompileCounter()

    class Counted(Machine):
        def compile(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
            return try_compile(function, backend=counter)

    machine = Counted(CPU, torch.float32, compiled=True)
    reports = list(new_trainer(machine=machine, recipe=replace(recipe, evaluation=recipe.batches)))
    assert {r.epoch for r in reports} > {0, 1}
    assert sum(r.evaluation is not None for r in reports) == 3
    assert counter.frame_count == 2


# --- what goes wrong ------------------------------------------------------------------------------


def test_a_batch_with_nothing_to_learn_is_an_error(new_trainer: NewTrainer, recipe: Recipe) -> None:
    ids = torch.full((1, 8), 5)
    masked = Given([Batch(ids, torch.full_like(ids, IGNORE), torch.ones_like(ids, dtype=torch.bool))])
    trainer = new_trainer(recipe=replace(recipe, batches=masked))
    kept = weights(trainer)
    with pytest.raises(ValueError, match="step 1: no token of this batch is to be learned"):
        next(iter(trainer))
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights(trainer).items())
    assert (trainer.step, trainer.tokens_seen) == (0, 0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_that_is_no_number_stops_the_run_keeps_the_weights_and_names_the_data(
    new_trainer: NewTrainer, recipe: Recipe, accumulate: int
) -> None:
    in_epoch = recipe.steps_per_epoch(accumulate)
    broken = in_epoch + 1
    trainer = new_trainer(accumulate=accumulate)
    for report in trainer:
        if report.step == broken:
            break
    with torch.no_grad():
        trainer.model.model.norm.weight[0] = math.nan
    kept = weights(trainer)
    with pytest.raises(
        FloatingPointError, match=rf"step {broken + 1} is nan.*next\(batches.epoch\(1, {accumulate}\)\)"
    ):
        next(iter(trainer))
    assert all(torch.equal(kept[n], t) or n == "model.norm.weight" for n, t in weights(trainer).items())
    assert trainer.step == broken
