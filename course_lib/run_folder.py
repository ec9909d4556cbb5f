"""A training run on disk: what it is, its log, and the state from which it goes on.

run.json             what the run was started with, and the machines it ran on
tokenizer.json       the vocabulary, if this run made it (pretraining)
log.jsonl            one line for each step
state.safetensors    weights and optimizer after the last saved step; the best weights so far, if there is patience
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from course_lib.checkpoints import TOKENIZER, CheckpointError, read, read_json, write_json
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
    reads is damaged.
    """

    path: Path
    save_every: float = 120.0  # seconds
    log_every: float = 1.0  # seconds; to read a loss, the program must wait for the GPU

    def run(self, trainer: Trainer) -> Generator[StepReport]:
        """The reports of `trainer`, from the step where the run stopped. Logs each step, and saves now and then.

        A single process also saves after Ctrl-C or a `break`. After any other error the last good state stays. Raises
        CheckpointError if the folder holds another run, is damaged, or cannot be written.
        """
        self.claim(trainer)
        if not trainer.step and (self.path / STATE).is_file():
            trainer.load_state(load_file(self.path / STATE), self._numbers())
        if trainer.machine.world.is_main:
            lines = [report.as_json() + "\n" for report in self.reports()[: trainer.step]]  # later steps come again
            write_whole(self.path / LOG, lambda aside: aside.write_text("".join(lines), encoding="utf-8"))
        waiting: list[StepReport] = []
        logged_at = saved_at = time.monotonic()
        steps = iter(trainer)
        try:
            while True:
                with interrupts_deferred():  # a saved step is a whole step, and it is in the log
                    report = next(steps, None)
                    if report is None:
                        break
                    waiting.append(report)
                    now = time.monotonic()
                    save = now - saved_at > self.save_every
                    if save or now - logged_at > self.log_every:
                        self._write(trainer, waiting, save)
                        logged_at = now
                        saved_at = now if save else saved_at
                yield report
        except (GeneratorExit, KeyboardInterrupt):
            if trainer.machine.world.size == 1:  # several processes do not stop at the same step
                self._write(trainer, waiting)
            raise
        self._write(trainer, waiting)

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
                    self._refuse(f"a run with {name} {before.get(name)}, not {identity.get(name)}")
            taken = self.steps_taken()
            if taken > settings.steps:
                self._refuse(f"a run of {taken} steps, more than {settings.steps}")
            for report in self.reports()[:taken]:
                rate = settings.learning_rate_at(report.step - 1)
                if abs(report.learning_rate - rate) > 1e-6 * rate:
                    had = f"a run whose step {report.step} had learning rate {report.learning_rate:.3g}"
                    self._refuse(f"{had}; with these settings it is {rate:.3g}")
            machine = trainer.machine.full_name
            if machine not in machines and (taken < settings.steps or not machines):
                machines.append(machine)
            if trainer.machine.world.is_main:
                self.path.mkdir(parents=True, exist_ok=True)
                write_json(self.path / RECORD, {"started_with": before or identity, "machines": machines})

    def machines(self) -> list[str]:
        """All machines that the run has used."""
        return self._record()[1]

    def reports(self) -> list[StepReport]:
        """The reports in the log. If a kill has cut the last line short, it is left out."""

        def parse(path: Path) -> list[StepReport]:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return [StepReport.from_json(line) for line in lines if line.endswith("\n")]

        path = self.path / LOG
        return read(path, parse, "the log of a run") if path.is_file() else []

    def steps_taken(self) -> int:
        """The step after which the run goes on; 0 for a new run."""
        return int(self._numbers()["step"])

    def tokenizer(self, poems: Sequence[Poem]) -> CharacterTokenizer:
        """The folder's tokenizer. If there is none, one is trained on `poems` and kept there."""
        path = self.path / TOKENIZER
        if not path.is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            write_whole(path, CharacterTokenizer.train(map(pretraining_text, poems)).save)
        return read(path, CharacterTokenizer.load, "a tokenizer of this course")

    def _write(self, trainer: Trainer, waiting: list[StepReport], save: bool = True) -> None:
        """Move the waiting reports to the log; with `save`, write the trainer's state too."""
        is_main = trainer.machine.world.is_main
        if is_main:
            with (self.path / LOG).open("a", encoding="utf-8") as file:
                file.writelines(report.as_json() + "\n" for report in waiting)
        waiting.clear()
        if not (is_main and save):
            return
        tensors, numbers = trainer.state()
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        path, metadata = self.path / STATE, {"state": json.dumps(numbers)}
        try:
            write_whole(path, lambda aside: save_file(tensors, aside, metadata))
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: not written; the old file is untouched ({error})") from error

    def _record(self) -> tuple[dict[str, Any], list[str]]:
        """What the run was started with, and the machines it has used; both empty for a new run."""
        path, keys = self.path / RECORD, itemgetter("started_with", "machines")
        return read(path, lambda path: keys(read_json(path)), "the record of a run") if path.is_file() else ({}, [])

    def _numbers(self) -> dict[str, Any]:
        """The numbers of the saved state, without its tensors."""

        def parse(path: Path) -> dict[str, Any]:
            with safe_open(path, framework="pt") as file:
                return json.loads(file.metadata()["state"])

        path = self.path / STATE
        return read(path, parse, "the state of a run") if path.is_file() else {"step": 0}

    def _refuse(self, held: str) -> None:
        raise CheckpointError(f"{self.path} holds {held}: choose another run folder, or delete this one")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path, then rename that file to `path`. A kill leaves the old file or the new."""
    aside = path.with_suffix(".part")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """A context that delays Ctrl-C, or a notebook's stop button, until its end. A second press acts at once."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is None or threading.current_thread() is not threading.main_thread():
        yield  # this thread may not set signal handlers
        return
    pressed = threading.Event()

    def remember(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed.is_set():
        signal.raise_signal(signal.SIGINT)
