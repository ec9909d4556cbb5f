"""A training run on disk: what it is, its log, and the state from which it can go on.

run.json             what the run was started with, and the machines it ran on
tokenizer.json       the vocabulary, if this run made it (pretraining)
log.jsonl            one line for each step
state.safetensors    weights, optimizer and random numbers after the last step that was saved
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from course_lib.checkpoints import TOKENIZER, CheckpointError, read, read_json, write_json
from course_lib.poems import Poem
from course_lib.roles import pretraining_text
from course_lib.tokenizer import CharacterTokenizer
from course_lib.training import StepReport, Trainer

FIXED_SETTINGS = ("optimizer", "weight_decay", "max_grad_norm", "accumulate")  # the same for all steps of a run


@dataclass(frozen=True)
class RunFolder:
    """The folder in which a run is kept. A kill at any moment leaves a folder from which the run can go on.

    Of several processes only the main one writes.
    """

    path: Path
    save_every: float = 120.0  # seconds
    log_every: float = 1.0  # seconds; logging a loss waits for the device, which would slow a GPU down at every step

    def run(self, trainer: Trainer) -> Generator[StepReport]:
        """Iterate over `trainer`, starting where the folder's run stopped. Logs each step and saves now and then.

        Ctrl-C saves too. After any other error nothing is saved: the folder keeps its last good state.

        Raises:
            CheckpointError: the folder holds another run, is damaged, or cannot be written.
        """
        self.claim(trainer)
        world = trainer.machine.world
        if self._state.is_file() and not trainer.step:
            trainer.load_state(load_file(self._state), self._numbers())
        if world.is_main:
            self._shorten_log(trainer.step)
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
                    save_is_due = world.broadcast(now - saved_at > self.save_every)
                    if save_is_due or now - logged_at > self.log_every:
                        self._log(waiting, trainer)
                        logged_at = now
                    if save_is_due:
                        self._save(trainer)
                        saved_at = now
                yield report
        except (GeneratorExit, KeyboardInterrupt):
            if world.size == 1:  # several processes do not stop at the same step
                self._log(waiting, trainer)
                self._save(trainer)
            raise
        self._log(waiting, trainer)
        self._save(trainer)

    def claim(self, trainer: Trainer) -> None:
        """Make sure that the folder is free or holds this very run; write down what the run is and where it runs.

        A run that goes on must share `recipe.identity` and `FIXED_SETTINGS`. The number of steps may change, as long
        as every step already taken had the learning rate that it would have now. All processes must call this.

        Raises:
            CheckpointError: the folder holds another run, or one that went further.
        """
        with trainer.machine.world.main_first():
            settings = trainer.settings
            identity = {**trainer.recipe.identity, **{name: getattr(settings, name) for name in FIXED_SETTINGS}}
            before, machines = self._record()
            for name, value in json.loads(json.dumps(identity)).items():
                if before and before.get(name) != value:
                    self._refuse(f"a run with {name} {before.get(name)}, not {value}")
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
                write_json(self.path / "run.json", {"started_with": before or identity, "machines": machines})

    def machines(self) -> list[str]:
        """All machines that the run has used."""
        return self._record()[1]

    def reports(self) -> list[StepReport]:
        """The reports of all steps in the log. A last line that a kill has cut short is left out.

        Raises:
            CheckpointError: the log holds something else.
        """

        def reports(path: Path) -> list[StepReport]:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return [StepReport.from_json(line) for line in lines if line.endswith("\n")]

        path = self.path / "log.jsonl"
        return read(path, reports, "the log of a run") if path.is_file() else []

    def speeds(self) -> list[float]:
        """Tokens per second of each step in the log."""
        return [report.tokens_per_second for report in self.reports()]

    def steps_taken(self) -> int:
        """The step after which the run goes on; 0 for a new run.

        Raises:
            CheckpointError: the saved state is damaged.
        """
        return int(self._numbers()["step"]) if self._state.is_file() else 0

    def tokenizer(self, poems: Sequence[Poem]) -> CharacterTokenizer:
        """The folder's tokenizer. If there is none, one is trained on `poems` and kept there.

        Raises:
            CheckpointError: the folder's tokenizer is damaged.
        """
        path = self.path / TOKENIZER
        if not path.is_file():
            self.path.mkdir(parents=True, exist_ok=True)
            with replacing(path) as aside:
                CharacterTokenizer.train(pretraining_text(poem) for poem in poems).save(aside)
        return read(path, CharacterTokenizer.load, "a tokenizer of this course")

    # the files

    @property
    def _state(self) -> Path:
        return self.path / "state.safetensors"

    def _numbers(self) -> dict[str, Any]:
        """The numbers of the saved state, without its tensors."""

        def numbers(path: Path) -> dict[str, Any]:
            with safe_open(path, framework="pt") as file:
                return json.loads(file.metadata()["state"])

        return read(self._state, numbers, "the state of a run")

    def _save(self, trainer: Trainer) -> None:
        """Write the trainer's state. All processes must call this."""
        tensors, numbers = trainer.state()
        if not trainer.machine.world.is_main:
            return
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        try:
            with replacing(self._state) as aside:
                save_file(tensors, aside, metadata={"state": json.dumps(numbers)})
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self._state}: not written; the old file is untouched ({error})") from error

    def _record(self) -> tuple[dict[str, Any], list[str]]:
        """What the run was started with, and the machines it has used; both empty for a new run."""

        def record(path: Path) -> tuple[dict[str, Any], list[str]]:
            content = read_json(path)
            return dict(content["started_with"]), list(content["machines"])

        path = self.path / "run.json"
        return read(path, record, "the record of a run") if path.is_file() else ({}, [])

    def _refuse(self, held: str) -> None:
        raise CheckpointError(f"{self.path} holds {held}: choose another run folder, or delete this one")

    def _log(self, waiting: list[StepReport], trainer: Trainer) -> None:
        """Append the waiting reports to the log, and empty the list."""
        if trainer.machine.world.is_main:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.writelines(report.as_json() + "\n" for report in waiting)
        waiting.clear()

    def _shorten_log(self, count: int) -> None:
        """Keep the first `count` lines: steps after the last saved one will be taken again."""
        log = self.path / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines()[:count] if log.is_file() else []
        with replacing(log) as aside:
            aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A context that gives another path to write to, and renames that file to `path` at the end."""
    aside = path.with_suffix(".part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """A context in which Ctrl-C, or a notebook's stop button, waits for the end. A second press acts at once."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is None or threading.current_thread() is not threading.main_thread():
        yield  # this thread may not set signal handlers
        return
    pressed = False

    def remember(*_: object) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if pressed:
        signal.raise_signal(signal.SIGINT)
