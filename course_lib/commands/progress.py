"""The progress of a training run on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from course_lib.commands.options import note
from course_lib.losses import Loss
from course_lib.run_folder import RunFolder
from course_lib.training import StepReport, Trainer

PLAIN_EVERY = 50  # steps between two lines where there is no terminal to draw a bar on


def narrated(reports: Iterable[StepReport], trainer: Trainer, folder: RunFolder) -> Iterator[StepReport]:
    """Pass the reports on, and show the main process's user how the run is going.

    Draws a progress bar, or prints a line now and then where stderr is no terminal.
    """
    if not trainer.machine.world.is_main:
        yield from reports
        return
    steps, taken = trainer.settings.steps, folder.steps_taken()
    note(str(trainer.machine))
    if taken:
        note(f"{folder.path} has taken {taken:,} of {steps:,} steps")
    is_terminal = sys.stderr.isatty()
    bar: tqdm[Any] = tqdm(total=steps, initial=taken, unit="step", dynamic_ncols=True, disable=not is_terminal)
    with bar:
        for report in reports:
            if is_terminal:
                bar.set_postfix_str(f"loss {report.loss.response:.3f}, {report.tokens_per_second:,.0f} tokens/s", False)
                bar.update()
            elif report.step % PLAIN_EVERY == 0 or report.step == steps:  # reading a loss waits for the device
                tqdm.write(step_line(report, steps), file=sys.stderr)
            if report.evaluation:
                tqdm.write(evaluation_line(report.step, report.evaluation), file=sys.stderr)
            yield report


def step_line(report: StepReport, steps: int) -> str:
    """`step 50 of 9,000, loss 6.123, 6,812 tokens/s, 92 minutes left`"""
    left = (steps - report.step) * report.seconds / report.step / 60
    return (
        f"step {report.step:,} of {steps:,}, loss {report.loss.response:.3f}, "
        f"{report.tokens_per_second:,.0f} tokens/s, {left:.0f} minutes left"
    )


def evaluation_line(step: int, loss: Loss) -> str:
    """`step 500: validation loss 4.912`; with both losses if they differ."""
    if loss.response == loss.whole:
        return f"step {step:,}: validation loss {loss.whole:.3f}"
    return f"step {step:,}: validation loss {loss.response:.3f} on the response, {loss.whole:.3f} over the whole"
