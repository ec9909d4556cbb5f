"""A run on disk: its log, and the state it is resumed from."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from course_lib.checkpoints import load_training_state, save_training_state
from course_lib.training import StepReport, Trainer


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
    a kill at any moment leaves a whole file. Of several processes, the main one alone writes.
    """

    path: Path
    save_every: float = 120.0  # seconds
    log_every: float = 1.0  # seconds; to log a loss is to wait for it, and a GPU had better not wait at each step

    def run(self, trainer: Trainer) -> Iterator[StepReport]:
        """Iterate over `trainer`, resumed from what the folder holds; log, and save now and then and at the end.

        After an error nothing is saved: the folder holds the last good state.

        Raises:
            CheckpointError: the folder's state is damaged, or could not be written.
        """
        state, log = self.path / "state.safetensors", self.path / "log.jsonl"
        if state.is_file() and not trainer.step:
            trainer.load_state(*load_training_state(state))
        world, waiting = trainer.world, list[StepReport]()
        if world.is_main:
            self.path.mkdir(parents=True, exist_ok=True)
            keep_lines(log, trainer.step)
        logged_at = saved_at = time.monotonic()

        def write_log() -> None:
            if world.is_main:
                with log.open("a", encoding="utf-8") as file:
                    file.writelines(report.as_json() + "\n" for report in waiting)
            waiting.clear()

        steps = iter(trainer)
        try:
            while True:
                with interrupts_deferred():  # save no half step, and none that is not in the log
                    report = next(steps, None)
                    if report is None:
                        break
                    waiting.append(report)
                    now = time.monotonic()
                    if save_due := world.agreed(now - saved_at > self.save_every):
                        saved_at = now
                    if save_due or now - logged_at > self.log_every:
                        write_log()
                        logged_at = now
                    if save_due:
                        save_training_state(trainer, state)
                yield report
        except (GeneratorExit, KeyboardInterrupt):
            if world.size == 1:  # several processes do not stop at the same step
                write_log()
                save_training_state(trainer, state)
            raise
        write_log()
        save_training_state(trainer, state)


def keep_lines(log: Path, count: int) -> None:
    """Take back the lines of steps that were taken after the state was last saved."""
    lines = log.read_text(encoding="utf-8").splitlines()[:count] if log.is_file() else []
    aside = log.with_suffix(".part")
    aside.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    os.replace(aside, log)
