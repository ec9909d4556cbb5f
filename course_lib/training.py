"""The training loop, for every method of the course: an iterator that takes one step and reports it."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from course_lib.batches import Batch
from course_lib.engine.machine import Machine, Pending, release_memory
from course_lib.engine.optimizers import KeepFloat32, load_optimizer_tensors, make_optimizers, optimizer_tensors
from course_lib.losses import Loss, LossSums, mean_loss, total
from course_lib.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train, whatever the data.

    The learning rate rises during `warmup_steps`, stays constant, and falls in a straight line to zero during the last
    `decay_fraction` of `steps` (Hägele et al. 2024). A step reads `accumulate` batches. Raises ValueError if a setting
    is out of its range.
    """

    steps: int
    learning_rate: float = 3e-3
    warmup_steps: int = 150
    decay_fraction: float = 0.4
    optimizer: Literal["muon", "adamw"] = "adamw"
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    evaluate_every: int = 0  # steps; 0: never
    accumulate: int = 1

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{setting.name} is {value}, must be a finite number")
            if setting.name in ("steps", "accumulate") and value < 1:
                raise ValueError(f"{setting.name} is {value}, must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}, must be between 0 and 1")
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction is {self.decay_fraction}, must be in 0 … 1")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer is {self.optimizer!r}, must be 'muon' or 'adamw'")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the step that follows `step` steps."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decay = min(1.0, (self.steps - step) / max(1.0, self.decay_fraction * self.steps))
        return self.learning_rate * min(warmup, decay)


@dataclass(frozen=True)
class StepReport:
    """One step: the loss of its batches before the step, and the evaluation after it, if one was due."""

    step: int
    epoch: int
    measured: Pending  # both losses and the norm of the gradient
    learning_rate: float
    tokens_seen: int
    tokens_per_second: float
    seconds: float
    evaluation: Loss | None = None

    @property
    def loss(self) -> Loss:
        """The losses on the response and on the whole sequence, in nats per token."""
        return Loss(*self.measured.read()[:2])

    @property
    def grad_norm(self) -> float:
        """The norm of the gradient before it was clipped."""
        return self.measured.read()[2]

    def as_json(self) -> str:
        """One line for a JSON-lines log."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("measured", "evaluation")}
        evaluation = self.evaluation and self.evaluation._asdict()
        return json.dumps(row | {"loss": self.loss._asdict(), "grad_norm": self.grad_norm, "evaluation": evaluation})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The report that `as_json` wrote. Raises ValueError, TypeError or KeyError if the line is something else."""
        row = json.loads(line)
        loss = Loss(**row.pop("loss"))
        measured = Pending(torch.tensor([*loss, row.pop("grad_norm")], dtype=torch.float64))
        evaluation = row.pop("evaluation")
        return cls(measured=measured, evaluation=evaluation and Loss(**evaluation), **row)


class Trainer:
    """`for report in Trainer(recipe, settings, machine): …` takes one step in each round.

    You can leave the loop at any time: a new loop over the same trainer continues where the last one stopped. Another
    trainer continues there after `load_state`.
    """

    def __init__(self, recipe: Recipe, settings: TrainingSettings, machine: Machine) -> None:
        """Move the recipe's model to the machine's device. Raises RuntimeError if this PyTorch lacks Muon."""
        self.recipe = recipe
        self.settings = settings
        self.machine = machine
        self.model = recipe.checkpoint.model.to(machine.device)
        self._wrapped = machine.world.wrap(self.model)
        self._compiled = machine.compile(self._wrapped)
        self.optimizers = make_optimizers(self.model, settings.optimizer, settings.learning_rate, settings.weight_decay)
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == torch.float16)
        self.step = 0
        self.tokens_seen = 0
        self.seconds = 0.0
        self._unchecked: list[tuple[Pending, int, int]] = []  # with the step and the epoch

    def __iter__(self) -> Iterator[StepReport]:
        """Take the steps up to `settings.steps`.

        Raises:
            FloatingPointError: a loss is not a number. On the CPU the weights are those before that step. A GPU is
                checked one step later, so that the program need not wait for it.
            ValueError: a step has no token to learn.
        """
        release_memory()  # of an earlier run
        accumulate = self.settings.accumulate
        while self.step < self.settings.steps:
            epoch, step = divmod(self.step, self.recipe.steps_per_epoch(accumulate))
            batches = self.recipe.batches.epoch(epoch, step * accumulate)
            while self.step < self.settings.steps and (micro_batches := list(islice(batches, accumulate))):
                yield self._take_step(epoch, micro_batches)

    def _take_step(self, epoch: int, batches: Sequence[Batch]) -> StepReport:
        start = time.perf_counter()
        learning_rate = self.settings.learning_rate_at(self.step)
        measured, tokens = self._compute_gradients(batches)
        self._unchecked.append((measured, self.step, epoch))
        while len(self._unchecked) > (0 if self.machine.device.type == "cpu" else 1):
            self._check(*self._unchecked.pop(0))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            with nullcontext() if self.machine.precision == torch.bfloat16 else KeepFloat32():
                self.scaler.step(optimizer)
        self.scaler.update()
        self.step += 1
        self.tokens_seen += tokens
        seconds = time.perf_counter() - start
        self.seconds += seconds
        every = self.settings.evaluate_every
        is_due = every and (self.step % every == 0 or self.step == self.settings.steps)
        evaluation = self.evaluate() if is_due else None
        speed = tokens / seconds
        return StepReport(self.step, epoch, measured, learning_rate, self.tokens_seen, speed, self.seconds, evaluation)

    def _compute_gradients(self, batches: Sequence[Batch]) -> tuple[Pending, int]:
        """Compute and clip the gradients of a step. Returns what was measured, and how many tokens were predicted."""
        learned, predicted = self.recipe.count(batches)
        if not learned:
            raise ValueError(f"step {self.step}: no token of this batch is to be learned; its mean loss is undefined")
        self.model.train()
        self.model.zero_grad()
        world = self.machine.world
        parts: list[LossSums] = []
        for batch in batches:
            with world.no_sync_until_last(self._wrapped, last=batch is batches[-1]):
                sums = self._loss_sums(batch)
                mean = sums.response / learned * world.size  # because the processes' gradients are averaged
                self.scaler.scale(mean).backward()
            parts.append(LossSums(*(part.detach() for part in sums)))
        step = LossSums(*world.all_reduce(total(parts).stacked()))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        return Pending(torch.stack((step.response / learned, step.whole / predicted, grad_norm))), predicted

    def _loss_sums(self, batch: Batch) -> LossSums:
        """The sums of the rows that this process reads."""
        batch = self.machine.to_device(self.machine.world.shard(batch))
        with self.machine.autocast():
            return self.recipe.loss(self._compiled, batch)

    def _check(self, measured: Pending, step: int, epoch: int) -> None:
        """Stop the run if the loss of a step is not a number."""
        loss = measured.read()[0]
        if not math.isfinite(loss):
            start = step % self.recipe.steps_per_epoch(self.settings.accumulate) * self.settings.accumulate
            data = f"The data of this step: `next(batches.epoch({epoch}, {start}))`"
            raise FloatingPointError(f"the loss of step {step + 1} is {loss}: try a lower learning rate. {data}")

    def evaluate(self) -> Loss | None:
        """The losses on the recipe's evaluation set, each token counted once; None without such a set."""
        if self.recipe.evaluation is None:
            return None
        self.model.eval()
        sums = (self._loss_sums(batch).stacked() for batch in self.recipe.evaluation.epoch(0))
        return mean_loss(LossSums(*self.machine.world.all_reduce(part)) for part in sums)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a resumed run needs: tensors by name, and a few numbers. `course_lib.run_folder` writes it to disk."""
        tensors = {"rng": torch.get_rng_state(), **optimizer_tensors(self.optimizers)}
        tensors |= {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        numbers = {"step": self.step, "tokens_seen": self.tokens_seen, "seconds": self.seconds}
        return tensors, numbers | {"scaler": self.scaler.state_dict()}

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continue from the state of another trainer of the same run.

        Raises RuntimeError if the state belongs to a model of another shape.
        """
        weights = {n.removeprefix("model."): tensor for n, tensor in tensors.items() if n.startswith("model.")}
        self.model.load_state_dict(weights)
        load_optimizer_tensors(self.optimizers, tensors)
        torch.set_rng_state(tensors["rng"])
        self.step = numbers["step"]
        self.tokens_seen = numbers["tokens_seen"]
        self.seconds = numbers["seconds"]
        if numbers["scaler"]:  # empty if the steps so far were not taken in float16
            self.scaler.load_state_dict(numbers["scaler"])
