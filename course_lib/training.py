"""One loop for pretraining and fine-tuning: an iterator that takes a step and says how it went."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from course_lib.batches import Batch, Batches
from course_lib.engine.chunked_loss import loss_sums
from course_lib.engine.machine import KeepFloat32, choose_precision, release_memory, try_compile
from course_lib.engine.processes import ALONE, World, gathered, parted
from course_lib.losses import Loss, count_targets, mean_losses, sums_on


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Everything that decides a run besides its data.

    The learning rate rises over `warmup_steps`, stays, and falls in a straight line to zero over the last
    `decay_fraction` of `steps` (Hägele et al. 2024). "muon" (Jordan et al. 2024) steers the hidden matrices
    and leaves the embedding and the norms to AdamW, at the same rate; it needs PyTorch 2.9.

    Raises:
        ValueError: a setting is out of its range.
    """

    steps: int
    learning_rate: float = 3e-3
    warmup_steps: int = 150
    decay_fraction: float = 0.4
    optimizer: Literal["muon", "adamw"] = "adamw"
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0
    evaluate_every: int = 0  # steps; 0 for never
    accumulate: int = 1
    patience: int = 0  # evaluations; 0 for no end to it

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}, must lie between 0 and 1")
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction is {self.decay_fraction}, must lie in 0 … 1")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer is {self.optimizer!r}, must be 'muon' or 'adamw'")
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}, must be at least 1")
        if self.patience and not self.evaluate_every:
            raise ValueError(f"patience is {self.patience}, but evaluate_every is 0: nothing would be noticed")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the step after `step` steps were taken."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decay = min(1.0, (self.steps - step) / max(1.0, self.decay_fraction * self.steps))
        return self.learning_rate * min(warmup, decay)


@dataclass(frozen=True)
class StepReport:
    """What one step did. `loss` is that of its batch before the step; `evaluation` is there when it was due.

    `figures` are the two losses and the gradient's norm. They may still be on their way from the device: reading
    `loss` or `grad_norm` waits for them.
    """

    step: int
    epoch: int
    figures: Tensor | Sequence[float]
    learning_rate: float
    tokens_seen: int
    tokens_per_second: float
    seconds: float
    evaluation: Loss | None = None

    @cached_property
    def _read(self) -> Sequence[float]:
        return self.figures.tolist() if isinstance(self.figures, Tensor) else self.figures

    @property
    def loss(self) -> Loss:
        """The loss on the response and over the whole sequence, in nats per token."""
        return Loss(*self._read[:2])

    @property
    def grad_norm(self) -> float:
        """The length of the gradient, before it was clipped."""
        return self._read[2]

    def as_json(self) -> str:
        """One line for a JSON-lines log."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("figures", "evaluation")}
        evaluation = self.evaluation and self.evaluation._asdict()
        return json.dumps(row | {"loss": self.loss._asdict(), "grad_norm": self.grad_norm, "evaluation": evaluation})

    @classmethod
    def from_json(cls, line: str) -> StepReport:
        """What `as_json` wrote.

        Raises:
            ValueError, TypeError, KeyError: the line is something else.
        """
        row = json.loads(line)
        loss, evaluation = Loss(**row.pop("loss")), row.pop("evaluation")
        return cls(figures=(*loss, row.pop("grad_norm")), evaluation=evaluation and Loss(**evaluation), **row)


# --- the loop -------------------------------------------------------------------------------------


class Best(NamedTuple):
    """The lowest evaluation loss so far, and the weights that had it."""

    step: int
    loss: Loss
    weights: dict[str, Tensor]


class Trainer:
    """`for report in Trainer(model, batches, settings): …` takes one step each time round.

    Leave the loop whenever you like; a new loop over the same trainer goes on where that one stopped, and
    so does a trainer that has loaded the state another one saved.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        settings: TrainingSettings,
        *,
        pad_id: int,
        evaluation: Batches | None = None,
        device: torch.device | None = None,
        precision: torch.dtype | None = None,
        compiled: bool = False,
        world: World = ALONE,
    ) -> None:
        """`world` is what `course_lib.engine.processes.join` gave, if several processes share the run.

        Raises:
            ValueError: settings and world do not go together.
        """
        release_memory()  # an earlier run's
        self.device = device or torch.device("cpu")
        self.precision = precision or choose_precision(self.device)
        if world.sharded and settings.optimizer == "muon":
            raise ValueError("muon works on whole matrices: a sharded run needs the optimizer adamw")
        if world.sharded and self.precision == torch.float16:
            raise ValueError("a sharded run has no loss scaling: choose bf16 or float32")
        self.model, self.world = model.to(self.device), world
        self.batches, self.evaluation, self.settings, self.pad_id = batches, evaluation, settings, pad_id
        self._spread = world.spread(self.model)
        self._called: Callable[..., Tensor] = try_compile(self._spread) if compiled else self._spread
        self.optimizers = make_optimizers(self.model, settings)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.step = self.tokens_seen = 0
        self.seconds = 0.0
        self.best: Best | None = None
        self.stopped_early = False
        self._unchecked: StepReport | None = None

    @property
    def steps_per_epoch(self) -> int:
        """How many steps it takes to read everything once."""
        return -(-len(self.batches) // self.settings.accumulate)

    def __iter__(self) -> Iterator[StepReport]:
        """Steps up to `settings.steps`, or until `settings.patience` is at its end.

        Raises:
            FloatingPointError: a loss is not a number. On a CPU the weights are those before that step; another
                device is not waited for, and the step may have been taken.
            ValueError: a step has no token to learn.
        """
        accumulate = self.settings.accumulate
        while self.step < self.settings.steps and not self.stopped_early:
            epoch, step = divmod(self.step, self.steps_per_epoch)
            batches = self.batches.epoch(epoch, step * accumulate)
            while together := list(islice(batches, accumulate)):
                yield self._take_step(epoch, together)
                if self.step == self.settings.steps or self.stopped_early:
                    return

    def _take_step(self, epoch: int, batches: Sequence[Batch]) -> StepReport:
        began = time.perf_counter()
        learning_rate = self.settings.learning_rate_at(self.step)
        losses, tokens = self._add_gradients(batches)
        if self.device.type == "cpu":
            self._check(losses[0].item(), self.step, epoch)
        grad_norm = self._descend(learning_rate)
        if self._unchecked:  # by now the device has long been done with that one
            self._check(self._unchecked.loss.response, self._unchecked.step - 1, self._unchecked.epoch)
        self.step += 1
        self.tokens_seen += tokens
        took = time.perf_counter() - began
        self.seconds += took
        figures = torch.stack((*losses, gathered(grad_norm)))
        report = StepReport(
            step=self.step,
            epoch=epoch,
            figures=figures.tolist() if self.device.type == "cpu" else figures,
            learning_rate=learning_rate,
            tokens_seen=self.tokens_seen,
            tokens_per_second=tokens / took,
            seconds=self.seconds,
            evaluation=self._evaluation_if_due(),
        )
        self._unchecked = None if self.device.type == "cpu" else report
        return report

    def _add_gradients(self, batches: Sequence[Batch]) -> tuple[tuple[Tensor, Tensor], int]:
        """Both mean losses over all these batches, and their gradients; how many tokens were predicted."""
        self.model.train()
        learned, whole = count_targets(batches, self.pad_id)
        if not learned:
            raise ValueError(f"step {self.step}: no token of this batch is to be learned; its mean loss is undefined")
        sums = torch.zeros(4, device=self.device)
        for batch in batches:
            with self.world.backward_of(self._spread, last=batch is batches[-1]):
                of_batch = self._sums(self.world.share(batch))
                mean = of_batch[0] / learned * self.world.size  # of which the processes take the mean
                self.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
            sums += of_batch.detach()
        sums = self.world.total(sums)
        return (sums[0] / learned, sums[2] / whole), whole

    def _descend(self, learning_rate: float) -> Tensor:
        """Move the weights against the gradients; how long the gradient was before it was clipped."""
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            with nullcontext() if self.precision == torch.bfloat16 else KeepFloat32():
                self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        return grad_norm

    def _check(self, loss: float, step: int, epoch: int) -> None:
        """Refuse to go on from a loss that is no number."""
        if math.isfinite(loss):
            return
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        at = step % self.steps_per_epoch * self.settings.accumulate
        raise FloatingPointError(
            f"the loss of step {step} is {loss}: try a lower learning rate. "
            f"Its data are `next(batches.epoch({epoch}, {at}))`"
        )

    def evaluate(self) -> Loss | None:
        """The losses on the whole evaluation set, each token counted once; None without such a set."""
        if self.evaluation is None:
            return None
        self.model.eval()
        return mean_losses(
            lambda batch: self.world.total(self._sums(self.world.share(batch))), self.evaluation.epoch(0)
        )

    def _evaluation_if_due(self) -> Loss | None:
        """The evaluation, if this step has one; with `patience`, what follows from it."""
        every, patience, last = self.settings.evaluate_every, self.settings.patience, self.step == self.settings.steps
        if not every or (self.step % every and not last):
            return None
        loss = self.evaluate()
        if loss and patience:
            if self.best is None or loss.response < self.best.loss.response:
                self.best = Best(self.step, loss, {name: t.clone() for name, t in self.weights().items()})
            self.stopped_early = self.step - self.best.step >= patience * every
            if self.stopped_early or last:
                self._load_weights(self.best.weights)
        return loss

    def _sums(self, batch: Batch) -> Tensor:
        return sums_on(self.device, self.precision, self._called, batch, self.pad_id, loss_sums)

    # what a resumed run needs: `course_lib.run_folder` writes it to disk

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and the few numbers beside them. All processes must ask together."""
        tensors = {f"model.{name}": tensor for name, tensor in self.weights().items()}
        for n, optimizer in enumerate(self.optimizers):
            for i, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{n}.{i}.{key}": gathered(torch.as_tensor(v)) for key, v in values.items()}
        numbers: dict[str, Any] = {"step": self.step, "tokens_seen": self.tokens_seen, "seconds": self.seconds}
        numbers |= {"stopped_early": self.stopped_early, "scaler": self.scaler.state_dict()}
        if self.best:
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.weights.items()}
            numbers |= {"best_step": self.best.step, "best_loss": self.best.loss._asdict()}
        return tensors | {"rng": torch.get_rng_state()}, numbers

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Take over what `state` gave.

        Raises:
            RuntimeError: the weights are those of another model.
        """
        self._load_weights(below("model.", tensors))
        for n, optimizer in enumerate(self.optimizers):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in below(f"optimizer.{n}.", tensors).items():
                i, key = name.split(".")
                state.setdefault(int(i), {})[key] = parted(tensor, like=parameters[int(i)])
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step, self.tokens_seen, self.seconds = (numbers[k] for k in ("step", "tokens_seen", "seconds"))
        self.stopped_early = numbers["stopped_early"]
        self.scaler.load_state_dict(numbers["scaler"])
        if "best_step" in numbers:
            self.best = Best(numbers["best_step"], Loss(**numbers["best_loss"]), below("best.", tensors))
        torch.set_rng_state(tensors["rng"])

    def weights(self) -> dict[str, Tensor]:
        """The model's weights, whole. All processes must ask together."""
        return {name: gathered(tensor) for name, tensor in self.model.state_dict().items()}

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        now = self.model.state_dict()
        self.model.load_state_dict({n: parted(t, like=now[n]) if n in now else t for n, t in weights.items()})


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def make_optimizers(model: nn.Module, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the hidden matrices and AdamW for the rest. Norms do not decay.

    Raises:
        RuntimeError: Muon was asked for and this PyTorch has none.
    """
    embedding: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        kind = vectors if parameter.ndim < 2 else embedding if "embed_tokens" in name else matrices
        kind.append(parameter)
    rate, decay = settings.learning_rate, settings.weight_decay

    def adamw(decaying: list[nn.Parameter]) -> torch.optim.Optimizer:
        groups = [{"params": decaying, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), fused=True)

    if settings.optimizer == "adamw":
        return [adamw(embedding + matrices)]
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(f"torch.optim.Muon needs PyTorch 2.9, this is {torch.__version__}: choose 'adamw'")
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw(embedding)]
