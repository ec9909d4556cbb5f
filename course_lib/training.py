"""One loop for pretraining and fine-tuning: an iterator that takes a step and says how it went."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.batches import IGNORE, Batch, Batches
from course_lib.device import choose_precision, try_compile


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

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}, must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise ValueError(f"learning_rate is {self.learning_rate}, must lie between 0 and 1")
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction is {self.decay_fraction}, must lie in 0 … 1")
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer is {self.optimizer!r}, must be 'muon' or 'adamw'")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of the step after `step` steps were taken."""
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decay = min(1.0, (self.steps - step) / max(1.0, self.decay_fraction * self.steps))
        return self.learning_rate * min(warmup, decay)


class Loss(NamedTuple):
    """Mean losses, nats per token: over the tokens that are learned, and over the whole sequence."""

    response: float
    whole: float


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one step did. `loss` is that of its batch before the step; `evaluation` is there when it was due."""

    step: int
    epoch: int
    loss: Loss
    learning_rate: float
    grad_norm: float
    tokens_seen: int
    tokens_per_second: float
    seconds: float
    evaluation: Loss | None = None

    def as_json(self) -> str:
        """One line for a JSON-lines log."""
        named = {k: v._asdict() if isinstance(v, Loss) else v for k, v in asdict(self).items()}
        return json.dumps(named)


# --- the loss -------------------------------------------------------------------------------------


def next_tokens(ids: Tensor) -> Tensor:
    """Move (B, T) one place to the left: at t stands what must be predicted there; IGNORE at the end."""
    return F.pad(ids, (0, 1), value=IGNORE)[:, 1:]


def token_losses(model: nn.Module, batch: Batch, pad_id: int) -> tuple[Tensor, Tensor]:
    """Cross entropy in nats and its targets, both (B, T): at t that of the token at t + 1.

    Where there is nothing to predict (padding, the first token of an example) the target is IGNORE and the
    loss 0.
    """
    nothing = batch.input_ids == pad_id
    if batch.position_ids is not None:
        nothing |= batch.position_ids == 0
    targets = next_tokens(batch.input_ids.masked_fill(nothing, IGNORE))
    logits = model(batch.input_ids, batch.position_ids).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="none")
    return losses.view_as(targets), targets


def loss_sums(model: nn.Module, batch: Batch, pad_id: int) -> Tensor:
    """(4,) sums over a batch: loss of the learned tokens, how many they are, loss of all tokens, how many."""
    losses, targets = token_losses(model, batch, pad_id)
    learned = (next_tokens(batch.labels) != IGNORE) & (targets != IGNORE)
    return torch.stack(((losses * learned).sum(), learned.sum(), losses.sum(), (targets != IGNORE).sum()))


def sums_on(
    device: torch.device,
    precision: torch.dtype,
    model: nn.Module,
    batch: Batch,
    pad_id: int,
    loss_sums: Callable[[nn.Module, Batch, int], Tensor] = loss_sums,
) -> Tensor:
    """`loss_sums` (or its compiled twin) on a device, with matrix products in this precision."""
    batch = Batch._make(None if part is None else part.to(device, non_blocking=True) for part in batch)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        return loss_sums(model, batch, pad_id)


def mean_losses(sums: Callable[[Batch], Tensor], batches: Iterable[Batch]) -> Loss:
    """The mean losses over all batches, each token counted once; `sums` gives the four sums of a batch."""
    with torch.no_grad():
        total = torch.stack([sums(batch) for batch in batches]).sum(0)
    learned, learned_count, whole, whole_count = total.tolist()
    return Loss(learned / learned_count, whole / whole_count)


# --- the loop -------------------------------------------------------------------------------------


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
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device)
        self.batches, self.evaluation, self.settings, self.pad_id = batches, evaluation, settings, pad_id
        self.precision = precision or choose_precision(self.device)
        self.optimizers = make_optimizers(model, settings)
        self.step = self.tokens_seen = 0
        self.seconds = 0.0
        self._loss_sums = try_compile(loss_sums) if compiled else loss_sums

    def __iter__(self) -> Iterator[StepReport]:
        """Steps up to `settings.steps`.

        Raises:
            FloatingPointError: a loss is not a number; the weights are those before that step.
        """
        while self.step < self.settings.steps:
            epoch, start = divmod(self.step, len(self.batches))
            for batch in self.batches.epoch(epoch, start):
                yield self._take_step(epoch, batch)
                if self.step == self.settings.steps:
                    return

    def _take_step(self, epoch: int, batch: Batch) -> StepReport:
        began = time.perf_counter()
        learning_rate = self.settings.learning_rate_at(self.step)
        self.model.train()
        learned, learned_count, whole, whole_count = self._sums(batch)
        if not learned_count:
            raise ValueError(f"step {self.step}: no token of this batch is to be learned; its mean loss is undefined")
        loss = learned / learned_count
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss of step {self.step} is {loss.item()}: try a lower learning rate")
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.tokens_seen += int(whole_count)
        took = time.perf_counter() - began
        self.seconds += took
        due = self.settings.evaluate_every and (
            self.step % self.settings.evaluate_every == 0 or self.step == self.settings.steps
        )
        return StepReport(
            step=self.step,
            epoch=epoch,
            loss=Loss(loss.item(), (whole / whole_count).item()),
            learning_rate=learning_rate,
            grad_norm=grad_norm.item(),
            tokens_seen=self.tokens_seen,
            tokens_per_second=int(whole_count) / took,
            seconds=self.seconds,
            evaluation=self.evaluate() if due else None,
        )

    def evaluate(self) -> Loss | None:
        """The losses on the whole evaluation set, each token counted once; None without such a set."""
        if self.evaluation is None:
            return None
        self.model.eval()
        return mean_losses(self._sums, self.evaluation.epoch(0))

    def _sums(self, batch: Batch) -> Tensor:
        return sums_on(self.device, self.precision, self.model, batch, self.pad_id, self._loss_sums)

    # what a resumed run needs: `course_lib.checkpoints` writes it to disk

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name, and the few numbers beside them."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for n, optimizer in enumerate(self.optimizers):
            for i, values in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{n}.{i}.{key}": torch.as_tensor(v) for key, v in values.items()}
        return tensors, {"step": self.step, "tokens_seen": self.tokens_seen, "seconds": self.seconds}

    def load_state(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Take over what `state` gave.

        Raises:
            RuntimeError: the weights are those of another model.
        """
        weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
        self.model.load_state_dict(weights)
        for n, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith(f"optimizer.{n}."):
                    _, _, i, key = name.split(".")
                    state.setdefault(int(i), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step, self.tokens_seen, self.seconds = (numbers[k] for k in ("step", "tokens_seen", "seconds"))


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


# --- a run on disk --------------------------------------------------------------------------------


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C, or a notebook's stop button, wait until the block is done; the second does not wait."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is None or threading.current_thread() is not threading.main_thread():
        yield  # signals belong to somebody else
        return
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed:
        signal.raise_signal(signal.SIGINT)


@dataclass
class RunFolder:
    """Where a run keeps its log and the state it resumes from.

    `log.jsonl` has one line a step. `state.safetensors` is written beside the old one and renamed, so that
    a kill at any moment leaves a whole file.
    """

    path: Path
    save_every: float = 120.0  # seconds
    _saved_at: float = field(default_factory=time.monotonic, init=False)

    def run(self, trainer: Trainer) -> Iterator[StepReport]:
        """Iterate over `trainer`, resumed from what the folder holds; log, and save now and then and at the end."""
        from course_lib.checkpoints import load_training_state, save_training_state

        self.path.mkdir(parents=True, exist_ok=True)
        state, log = self.path / "state.safetensors", self.path / "log.jsonl"
        if state.is_file() and not trainer.step:
            trainer.load_state(*load_training_state(state))
        lines = log.read_text().splitlines()[: trainer.step] if log.is_file() else []
        aside = log.with_suffix(".part")
        aside.write_text("".join(line + "\n" for line in lines))
        os.replace(aside, log)
        self._saved_at = time.monotonic()
        steps = iter(trainer)
        try:
            with log.open("a") as file:
                while True:
                    with interrupts_deferred():  # save no half step, and none that is not in the log
                        report = next(steps, None)
                        if report is None:
                            return
                        print(report.as_json(), file=file, flush=True)
                        if time.monotonic() - self._saved_at > self.save_every:
                            save_training_state(trainer, state)
                            self._saved_at = time.monotonic()
                    yield report
        finally:
            save_training_state(trainer, state)
