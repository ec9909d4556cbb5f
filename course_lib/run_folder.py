"""A training run on disk: what it is, its log, and the state from which it goes on.

run.json             what the run was started with, and the machines it ran on
tokenizer.json       the vocabulary, if this run made it (pretraining)
log.jsonl            one line for each step
state.safetensors    weights and optimizer after the last saved step; the best weights so far, if there is patience
"""

import json
import signal
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from course_lib.checkpoints import TOKENIZER, CheckpointError, read, read_json, write_json
from course_lib.files import append_lines, claimed, replacing
from course_lib.poems import Poem
from course_lib.roles import pretraining_text
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import StepReport, Trainer

RECORD, LOG, STATE = "run.json", "log.jsonl", "state.safetensors"
FIXED_SETTINGS = ("optimizer", "weight_decay", "dropout", "max_grad_norm", "accumulate")  # fixed for a run


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run. After a kill at any moment, the run can go on from it.

    If several processes share the run, only the main one writes. Every method raises CheckpointError if a file that it
    reads is damaged, and OSError, which names the file, if one cannot be written.
    """

    path: Path
    save_every: float = 120.0  # seconds
    log_every: float = 1.0  # seconds; to read a loss, the program must wait for the GPU

    def run(self, trainer: Trainer) -> Generator[StepReport]:
        """The reports of `trainer`, from the step where the run stopped. Logs each step, and saves now and then.

        A single process also saves after Ctrl-C, SIGTERM or a `break`. After any other error the last good state stays.
        SIGTERM acts as Ctrl-C does. Raises CheckpointError if the folder holds another run, and OSError if another
        process uses it.
        """
        self.claim(trainer)
        world = trainer.machine.world
        may_stop = world.size == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        handlers: dict[int, Any] = {signal.SIGTERM: signal.default_int_handler} if may_stop else {}
        with claimed(self.path / LOG) if world.is_main else nullcontext(), handled(handlers):
            yield from self._take_steps(trainer)

    def _take_steps(self, trainer: Trainer) -> Generator[StepReport]:
        if not trainer.step and (self.path / STATE).is_file():
            load = partial(trainer.load_state, numbers=self._numbers())
            read(self.path / STATE, lambda path: load(load_file(path)), "the state of this run")
        if trainer.machine.world.is_main:
            kept = [report.as_json() for report in self.reports() if report.step <= trainer.step]  # others come again
            with replacing(self.path, LOG) as new:
                append_lines(new / LOG, kept)
        waiting: list[StepReport] = []
        logged_at = saved_at = time.monotonic()
        is_saved = trainer.is_done
        steps = iter(trainer)
        try:
            while True:
                with interrupts_deferred():  # a saved step is a whole step, and it is in the log
                    report = next(steps, None)
                    if report is None:
                        break
                    waiting.append(report)
                    now = time.monotonic()
                    save = trainer.is_done or now - saved_at > self.save_every
                    if save or now - logged_at > self.log_every:
                        self._write(trainer, waiting, save)
                        logged_at = now
                        saved_at = now if save else saved_at
                        is_saved = trainer.is_done  # from now on the model may hold its best weights, not the last
                yield report
        except (GeneratorExit, KeyboardInterrupt):
            if trainer.machine.world.size == 1 and not is_saved:  # several processes do not stop at the same step
                self._write(trainer, waiting)
            raise

    def claim(self, trainer: Trainer) -> None:
        """Make sure that the folder is free or holds this run, then write run.json. All processes must call this.

        A run that goes on must share `recipe.identity` and `FIXED_SETTINGS`. The number of steps may change if each
        step already taken had the learning rate that it would have now. Raises CheckpointError if the folder holds
        another run, or one that has taken more steps.
        """
        with trainer.machine.world.main_first():
            settings = trainer.settings
            identity = {**trainer.recipe.identity, **{name: getattr(settings, name) for name in FIXED_SETTINGS}}
            before, machines = self._record()
            for name in {**identity, **before} if before else ():
                if before.get(name) != identity.get(name):
                    pair = f"a run with {name} {before.get(name)}, not {identity.get(name)}"
                    self._refuse("a run on other poems" if name == "sha256_of_poems" else pair)
            taken = self.steps_taken()
            if taken > settings.steps:
                self._refuse(f"a run of {taken} steps, more than {settings.steps}")
            for report in self.reports():
                rate = settings.learning_rate_at(report.step - 1)
                if report.step <= taken and not abs(report.learning_rate - rate) <= 1e-6 * rate:
                    had = f"a run whose step {report.step} had learning rate {report.learning_rate:.3g}"
                    self._refuse(f"{had}; with these settings it is {rate:.3g}")
            machine, known = trainer.machine.full_name, list(machines)
            if machine not in machines and (taken < settings.steps or not machines):
                machines.append(machine)
            if trainer.machine.world.is_main and machines != known:  # else leave the folder to a run that may go on
                with replacing(self.path, RECORD) as new:
                    write_json(new / RECORD, {"started_with": before or identity, "machines": machines})

    def machines(self) -> list[str]:
        """All machines that the run has used."""
        return self._record()[1]

    def reports(self) -> list[StepReport]:
        """The reports in the log. If a kill has cut the last line short, it is left out."""

        def parse(path: Path) -> list[StepReport]:
            *lines, _ = path.read_bytes().split(b"\n")  # a kill may have cut a character in two
            reports = [StepReport.from_json(line.decode()) for line in lines]
            for report in reports:
                numbers = (report.step, report.epoch, report.learning_rate, report.seconds, *(report.evaluation or ()))
                if strange := [number for number in numbers if type(number) not in (int, float)]:
                    raise ValueError(f"{strange[0]!r} is not a number")
            if (steps := [report.step for report in reports]) != sorted(set(steps)):
                raise ValueError("its steps are not in order")
            return reports

        path = self.path / LOG
        return read(path, parse, "the log of a run") if path.is_file() else []

    def steps_taken(self) -> int:
        """The step after which the run goes on; 0 for a new run."""
        return self._numbers()["step"]

    def tokenizer(self, poems: Sequence[Poem]) -> CharacterTokenizer:
        """The folder's tokenizer. If there is none, one is trained on `poems` and kept there."""
        path = self.path / TOKENIZER
        if not path.is_file():
            with replacing(self.path, TOKENIZER) as new:
                CharacterTokenizer.train(map(pretraining_text, poems)).save(new / TOKENIZER)
        return read(path, CharacterTokenizer.load, "a tokenizer of this course")

    def _write(self, trainer: Trainer, waiting: list[StepReport], save: bool = True) -> None:
        """Move the waiting reports to the log; with `save`, write the trainer's state too."""
        is_main = trainer.machine.world.is_main
        if is_main:
            append_lines(self.path / LOG, (report.as_json() for report in waiting))
        waiting.clear()
        if not (is_main and save):
            return
        tensors, numbers = trainer.state()
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(self.path, STATE) as new:
            save_file(tensors, new / STATE, {"state": json.dumps(numbers)})

    def _record(self) -> tuple[dict[str, Any], list[str]]:
        """What the run was started with, and the machines it has used; both empty for a new run."""

        def parse(path: Path) -> tuple[dict[str, Any], list[str]]:
            match read_json(path):
                case {"started_with": dict(settings), "machines": [*names]} if all(isinstance(n, str) for n in names):
                    return settings, names
            raise ValueError("it needs started_with, and the names of machines")

        path = self.path / RECORD
        return read(path, parse, "the record of a run") if path.is_file() else ({}, [])

    def _numbers(self) -> dict[str, Any]:
        """The numbers of the saved state, without its tensors."""

        def parse(path: Path) -> dict[str, Any]:
            with safe_open(path, framework="pt") as file:
                match json.loads(file.metadata()["state"]):
                    case {"step": int(), "seconds": float(), "best_step": int(), "best_loss": float()} as numbers:
                        return numbers
            raise ValueError("it lacks a number")

        path = self.path / STATE
        return read(path, parse, "the state of a run") if path.is_file() else {"step": 0}

    def _refuse(self, held: str) -> None:
        raise CheckpointError(f"{self.path} holds {held}. Delete this folder to start again, or choose another one")


@contextmanager
def handled(handlers: Mapping[int, Any]) -> Iterator[None]:
    """A context in which these functions handle these signals. In a thread of its own it has no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """A context that delays Ctrl-C, a notebook's stop button and SIGTERM until its end. A second one acts at once."""
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    usual = {number: handler for number, handler in handlers.items() if callable(handler)}
    waiting: list[int] = []

    def remember(number: int, frame: Any) -> None:
        if waiting:
            usual[number](number, frame)
        waiting.append(number)

    with handled(dict.fromkeys(usual, remember)):
        yield
    for number in waiting[:1]:
        signal.raise_signal(number)
