"""The training loop, for every method of the course: an iterator that takes one step and reports it.

    for batch in batches:
        model.zero_grad()
        sums = recipe.loss(model, batch)  # over the tokens that are learned
        (sums.response / sums.response_count).backward()
        clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()  # at the learning rate of this step

The rest is for several batches in a step, 16-bit products, several processes, and the weights that measure best.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from course_lib.batches import Batch
from course_lib.engine.machine import Machine, Pending, release_memory
from course_lib.engine.optimizers import load_optimizer_tensors, make_optimizers, optimizer_tensors
from course_lib.language import check_range, say
from course_lib.losses import Loss, LossFunction, LossSums, mean_loss, total
from course_lib.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How to train, on any data.

    The learning rate rises during `warmup_steps`, stays constant, and falls in a straight line to zero during the last
    `decay_fraction` of `steps` (Hägele et al. 2024). A step reads `accumulate` batches. With `patience`, a run stops
    when the loss on the response has not fallen for `patience * evaluate_every` steps. It then ends with the weights of
    its best evaluation, and so does a run that took all steps. Raises ValueError if a setting is out of its range.
    """

    steps: int
    learning_rate: float = 3e-3
    warmup_steps: int = 150
    decay_fraction: float = 0.4
    optimizer: Literal["muon", "adamw"] = "adamw"
    weight_decay: float = 0.1
    dropout: float = 0.0  # the share of values that the model forgets in each step
    max_grad_norm: float = 1.0
    evaluate_every: int = 0  # steps; 0: never
    evaluate_at: tuple[int, ...] = ()  # steps after which there is an evaluation too
    patience: int = 0  # evaluations; 0: take all steps, and keep the last weights
    accumulate: int = 1

    def __post_init__(self) -> None:
        least, positive = {"steps": 1, "accumulate": 1}, {"learning_rate", "max_grad_norm"}
        most = {"learning_rate": 1, "decay_fraction": 1, "dropout": 0.99}
        for name, value in asdict(self).items():
            if isinstance(value, int | float):
                check_range(name, value, least.get(name, 0), most.get(name, 10**9), positive=name in positive)
        if self.patience and not self.evaluate_every:
            raise ValueError(say("patience is {it}, but evaluate_every is 0: nothing is measured", it=self.patience))
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
    measured: Pending  # both losses, and the norm of the gradient
    counted: Pending  # the tokens predicted since the run began, and those predicted per second
    learning_rate: float
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

    @property
    def tokens_seen(self) -> int:
        """How many tokens were predicted since the run began."""
        return int(self.counted.read()[0])

    @property
    def tokens_per_second(self) -> float:
        """The speed of this step, in predicted tokens."""
        return float(self.counted.read()[1])

    def as_json(self) -> str:
        """One line for a JSON-lines log."""
        names = ("step", "epoch", "learning_rate", "tokens_seen", "tokens_per_second", "seconds", "grad_norm")
        row = {name: getattr(self, name) for name in names}
        evaluation = self.evaluation and self.evaluation._asdict()
        return json.dumps(row | {"loss": self.loss._asdict(), "evaluation": evaluation})

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The report that `as_json` wrote. Raises ValueError, TypeError or KeyError if the line is something else."""
        row = json.loads(line)
        measured = Pending(torch.tensor([*Loss(**row.pop("loss")), row.pop("grad_norm")], dtype=torch.float64))
        counts = [row.pop("tokens_seen"), row.pop("tokens_per_second")]
        counted = Pending(torch.tensor(counts, dtype=torch.float64))
        evaluation = row.pop("evaluation")
        return cls(measured=measured, counted=counted, evaluation=evaluation and Loss(**evaluation), **row)


class Trainer:
    """`for report in Trainer(recipe, settings, machine): …` takes one step in each round.

    You can leave the loop at any time: a new loop over the same trainer continues where the last one stopped. Another
    trainer continues there after `load_state`.
    """

    def __init__(self, recipe: Recipe, settings: TrainingSettings, machine: Machine) -> None:
        """Move the recipe's model to the machine's device. Raises ValueError if patience has nothing to measure."""
        if settings.patience and recipe.evaluation is None:
            raise ValueError(f"patience is {settings.patience}, but there is no evaluation data: nothing is measured")
        self.recipe = recipe
        self.settings = settings
        self.machine = machine
        self.model = recipe.checkpoint.model.to(machine.device)
        self.model.set_dropout(settings.dropout)
        self._wrapped = machine.world.wrap(self.model)
        self._compiled = machine.compile(self._wrapped)
        self.optimizers = make_optimizers(
            self.model, settings.optimizer, settings.learning_rate, settings.weight_decay, machine.precision
        )
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == torch.float16)
        self._batches = recipe.batches.to(machine.device)
        self._evaluation = None if recipe.evaluation is None else recipe.evaluation.to(machine.device)
        self.step = 0
        self._tokens_seen = torch.zeros((), dtype=torch.int64, device=machine.device)
        self.seconds = 0.0
        self.best_step = 0  # of the best evaluation, if there is patience
        self._best_loss = math.inf
        self._best_weights: dict[str, Tensor] = {}
        self._unchecked: list[tuple[Pending, int, int]] = []  # with the step and the epoch

    def __iter__(self) -> Iterator[StepReport]:
        """Take the steps up to `settings.steps`. With `settings.patience`, the model then gets its best weights.

        Raises:
            FloatingPointError: a loss is not a number. On the CPU the weights are those before that step. A GPU is
                checked one step later, so that the program need not wait for it.
            ValueError: a step has no token to learn.
        """
        release_memory()  # of an earlier run
        accumulate = self.settings.accumulate
        while not self.is_done:
            epoch, step = divmod(self.step, self.recipe.steps_per_epoch(accumulate))
            batches = self._batches.epoch(epoch, step * accumulate)
            while not self.is_done and (micro_batches := list(islice(batches, accumulate))):
                # A resumed run draws the same random numbers in each step; each process draws its own.
                torch.manual_seed(hash((self.recipe.batches.seed or 0, self.step, self.machine.world.rank)))
                report = self._take_step(epoch, micro_batches)
                self._keep_if_best(report.evaluation)
                yield report
        if self.settings.patience and self._best_weights:
            self.model.load_state_dict(self._best_weights)
        self.model.eval()

    @property
    def is_done(self) -> bool:
        """Whether all steps are taken, or the patience is over."""
        patience = self.settings.patience * self.settings.evaluate_every  # in steps
        is_over = bool(self._best_weights) and 0 < patience <= self.step - self.best_step
        return is_over or self.step >= self.settings.steps

    def _keep_if_best(self, evaluation: Loss | None) -> None:
        """Remember the weights if no earlier evaluation found a loss as low."""
        if self.settings.patience and evaluation and evaluation.response < self._best_loss:
            self._best_loss, self.best_step = evaluation.response, self.step
            self._best_weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    @property
    def tokens_seen(self) -> int:
        """How many tokens were predicted since the run began; a GPU must finish its steps first."""
        return int(self._tokens_seen)

    def _take_step(self, epoch: int, batches: Sequence[Batch]) -> StepReport:
        start = time.perf_counter()
        learning_rate = self.settings.learning_rate_at(self.step)
        measured, tokens = self._compute_gradients(batches)
        self._unchecked.append((measured, self.step, epoch))
        is_last = self.step + 1 == self.settings.steps
        unfinished = 0 if self.machine.device.type == "cpu" or is_last else 1  # steps that a GPU may still be computing
        while len(self._unchecked) > unfinished:
            self._check(*self._unchecked.pop(0))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            self.scaler.step(optimizer)
        self.scaler.update()
        self.step += 1
        self._tokens_seen += tokens
        seconds = time.perf_counter() - start
        self.seconds += seconds
        every = self.settings.evaluate_every
        is_due = every and (self.step % every == 0 or self.step == self.settings.steps)
        is_due = is_due or self.step in self.settings.evaluate_at
        evaluation = self.evaluate() if is_due else None
        counted = Pending(torch.stack((self._tokens_seen, (tokens / seconds).long())))
        return StepReport(self.step, epoch, measured, counted, learning_rate, self.seconds, evaluation)

    def _compute_gradients(self, batches: Sequence[Batch]) -> tuple[Pending, Tensor]:
        """Compute and clip the gradients of a step. Returns what was measured, and how many tokens were predicted."""
        learned, predicted = self.recipe.count(batches)
        self.model.train()
        self.model.zero_grad()
        world = self.machine.world
        parts: list[LossSums] = []
        for batch in batches:
            with world.no_sync_until_last(self._wrapped, last=batch is batches[-1]):
                sums = self._loss_sums(batch, self.recipe.loss)
                mean = sums.response / learned * world.size  # because the processes' gradients are averaged
                self.scaler.scale(mean).backward()
            parts.append(LossSums(*(part.detach() for part in sums)))
        step = LossSums(*world.all_reduce(total(parts).stacked()))
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        return Pending(torch.stack((step.response / learned, step.whole / predicted, grad_norm, learned))), predicted

    def _loss_sums(self, batch: Batch, loss: LossFunction) -> LossSums:
        """The sums of the rows that this process reads."""
        with self.machine.autocast():
            return loss(self._compiled, self.machine.world.shard(batch))

    def _check(self, measured: Pending, step: int, epoch: int) -> None:
        """Stop the run if a step has nothing to learn, or its loss is not a number."""
        loss, _, _, learned = measured.read()
        if not learned:
            raise ValueError(f"step {step + 1}: no token of this batch is to be learned; its mean loss is undefined")
        if not math.isfinite(loss):
            start = step % self.recipe.steps_per_epoch(self.settings.accumulate) * self.settings.accumulate
            data = f"The data of this step: `next(batches.epoch({epoch}, {start}))`"
            raise FloatingPointError(f"the loss of step {step + 1} is {loss}: try a lower learning rate. {data}")

    def evaluate(self) -> Loss | None:
        """The losses on the recipe's evaluation set, each token counted once; None without such a set."""
        if self._evaluation is None:
            return None
        self.model.eval()
        batches = self._evaluation.epoch(0)
        sums = (self._loss_sums(batch, self.recipe.evaluation_loss).stacked() for batch in batches)
        return mean_loss(LossSums(*self.machine.world.all_reduce(part)) for part in sums)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What a resumed run needs: tensors by name, and a few numbers. `course_lib.run_folder` writes it to disk."""
        tensors = optimizer_tensors(self.optimizers)
        tensors |= {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self._best_weights.items()}
        numbers = {"step": self.step, "tokens_seen": self.tokens_seen, "seconds": self.seconds}
        numbers |= {"best_step": self.best_step, "best_loss": self._best_loss}
        return tensors, numbers | {"scaler": self.scaler.state_dict()}

    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Continue from the state of another trainer of the same run. Raises RuntimeError for another model."""
        weights, self._best_weights = (
            {name.removeprefix(kind): tensor for name, tensor in tensors.items() if name.startswith(kind)}
            for kind in ("model.", "best.")
        )
        self.model.load_state_dict(weights)
        self.best_step, self._best_loss = numbers["best_step"], numbers["best_loss"]
        load_optimizer_tensors(self.optimizers, tensors)
        self.step = numbers["step"]
        self._tokens_seen.fill_(numbers["tokens_seen"])
        self.seconds = numbers["seconds"]
        if numbers["scaler"]:  # empty if the steps so far were not taken in float16
            self.scaler.load_state_dict(numbers["scaler"])
